"""Models that come from a Hub to a real volume by a Job, and those that are there already."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from meshtui.cache.store import ModelStore
from meshtui.cache.verify import verify
from meshtui.cache.work import Work
from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.delivery import deliver, is_delivered
from meshtui.deploy.kubernetes.delivery_fetch import job_name
from meshtui.domain.delivery import DeliveryProgress
from meshtui.domain.errors import BadToken, GatedModel, InvalidInput, ModelNotOnHub, NotFound
from meshtui.domain.model_ref import ModelRef
from tests.cluster.volumes import CLAIM, python_server
from tests.cluster.waiting import until
from tests.hub_server import TOKENS, Fault, HubServer
from tests.support.pod_servers import HUB_TOKEN
from tests.support.shelf import model_files, put_entry
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

MODEL = "org/tiny"
_PATIENCE_S = 120.0


@pytest_asyncio.fixture
async def hub(
    cluster: Cluster, python_node: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HubServer]:
    """A Hub that pods reach, by the address that their bridge has on this machine, and that knows
    the token of the tests' servers."""
    monkeypatch.setitem(TOKENS, HUB_TOKEN, "carol")
    node = await cluster.get(f"/api/v1/nodes/{python_node}")
    (address,) = [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"]
    first, second, third, last = address.split(".")
    async with HubServer(host=f"{first}.{second}.{int(third) + 1}.{last}") as found:
        yield found


async def test_servers_share_what_a_job_fetched_once(
    cluster: Cluster, namespace: str, python_node: str, shelf: Path, hub: HubServer
) -> None:
    files = model_files(1_500_000)
    hub.add(MODEL, files)
    hub.faults.append(Fault("model.safetensors", bytes_per_s=1_000_000))
    server = python_server(namespace, python_node, MODEL, "direct", **{"hub.endpoint": hub.url})
    assert not await is_delivered(cluster, server)
    told: list[DeliveryProgress] = []
    both = await asyncio.gather(
        deliver(cluster, server, on_progress=told.append), deliver(cluster, server)
    )
    assert hub.sent_bytes("model.safetensors") == len(files["model.safetensors"])
    assert all(not one.present and one.moved_bytes > 3_000_000 for one in both), both
    assert verify(ModelRef.parse(MODEL), ModelStore(shelf), Work()).ok
    # How far it was is read from the log of the Job.
    fractions = [one.fraction for one in told if one.fraction is not None]
    assert fractions and fractions == sorted(fractions), fractions
    assert {one.files for one in told if one.files} == {len(files)}

    asked = len(hub.requests)
    assert await is_delivered(cluster, server) and (await deliver(cluster, server)).present
    assert len(hub.requests) == asked
    # What the cache of a workstation would send is there: the same content by another way.
    other = python_server(namespace, python_node, MODEL)
    assert await is_delivered(cluster, other, entry=put_entry(MODEL, files))


async def test_what_the_hub_refuses_is_told_and_asked_for_once(
    cluster: Cluster, namespace: str, python_node: str, shelf: Path, hub: HubServer
) -> None:
    server = python_server(namespace, python_node, MODEL, "direct", **{"hub.endpoint": hub.url})
    with pytest.raises(ModelNotOnHub, match="The Hub has no org/tiny"):
        await deliver(cluster, server)
    hub.add(MODEL, model_files(), gated=True)
    with pytest.raises(GatedModel, match="has not accepted its terms"):
        await deliver(cluster, server)
    # The token goes by the Secret of the Job: here is the one that the Hub hears of.
    del TOKENS[HUB_TOKEN]
    with pytest.raises(BadToken, match="Invalid credentials") as error:
        await deliver(cluster, server)
    assert HUB_TOKEN not in str(error.value)
    job = await cluster.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/{job_name(server)}")
    assert job["status"]["failed"] == 1, "a lasting refusal is not tried again"
    assert HUB_TOKEN not in str(job)
    assert not await is_delivered(cluster, server)


async def test_a_job_goes_on_without_us_and_is_found_again(
    cluster: Cluster, namespace: str, python_node: str, shelf: Path, hub: HubServer
) -> None:
    files = model_files(2_000_000)
    hub.add(MODEL, files)
    hub.faults.append(Fault("model.safetensors", bytes_per_s=700_000))
    server = python_server(namespace, python_node, MODEL, "direct", **{"hub.endpoint": hub.url})
    told: list[DeliveryProgress] = []
    delivering = asyncio.create_task(deliver(cluster, server, on_progress=told.append))
    await eventually(lambda: any(one.done_bytes for one in told), "it comes", _PATIENCE_S)
    delivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{job_name(server)}"
    first = await cluster.get(path)
    await deliver(cluster, server)
    assert (await cluster.get(path))["metadata"]["uid"] == first["metadata"]["uid"]
    assert hub.sent_bytes("model.safetensors") == len(files["model.safetensors"])
    assert verify(ModelRef.parse(MODEL), ModelStore(shelf), Work()).ok
    # The token's Secret goes with the Job.
    await cluster.delete(path, propagationPolicy="Background")
    secret = f"/api/v1/namespaces/{namespace}/secrets/{job_name(server)}"
    await until(cluster, secret, lambda found: found is None, _PATIENCE_S)


async def test_a_model_that_is_there_is_found_or_missed(
    cluster: Cluster, namespace: str, python_node: str, shelf: Path
) -> None:
    (shelf / "shared" / "tiny").mkdir(parents=True)
    properties = {"model.path": "shared/{name}"}
    server = python_server(namespace, python_node, MODEL, "existing", **properties)
    with pytest.raises(NotFound, match=f"no claim {CLAIM}"):
        await deliver(cluster, server)

    await deliver_claim(cluster, namespace, python_node)
    with pytest.raises(NotFound, match=r"there is no config.json"):
        await deliver(cluster, server)
    elsewhere = python_server(namespace, python_node, "org/other", "existing", **properties)
    with pytest.raises(NotFound, match="has no folder shared/other") as error:
        await deliver(cluster, elsewhere)
    assert "shared" in (error.value.hint or "")

    for name, data in model_files().items():
        (shelf / "shared" / "tiny" / name).write_bytes(data)
    done = await deliver(cluster, server)
    assert done.present and await is_delivered(cluster, server)
    there = {path.name for path in (shelf / "shared").rglob("*")}
    assert there == {"tiny", *model_files()}, "it is as it was"


async def test_an_image_with_a_model_needs_a_cluster_that_mounts_images(
    cluster: Cluster, namespace: str, python_node: str
) -> None:
    image = {"model.image": "localhost/models/tiny:1", "model.path": "weights"}
    server = python_server(namespace, python_node, MODEL, "existing", **image)
    assert server.fetched_to == "/model-image/weights"
    version = await cluster.get("/version")
    if int(re.sub(r"\D", "", version["minor"])) >= 35:  # there it is on by itself
        assert (await deliver(cluster, server)).present
    else:
        with pytest.raises(InvalidInput, match="mounts no images") as error:
            await deliver(cluster, server)
        assert "ImageVolume" in (error.value.hint or "")


async def deliver_claim(cluster: Cluster, namespace: str, node: str) -> None:
    """Makes the claim, as another model's delivery would."""
    await deliver(
        cluster, python_server(namespace, node, "org/first"), entry=put_entry("org/first")
    )

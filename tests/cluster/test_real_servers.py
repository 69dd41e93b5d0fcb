"""A server's whole life on a real node: made from the very objects that are printed, and seen
through the one view that there is of them. A small program stands in for the engine."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.client import delete, deploy, scale
from meshtui.deploy.kubernetes.fleet import Fleet
from meshtui.deploy.kubernetes.spec import PORT, PodServer
from meshtui.deploy.kubernetes.tunnel import Tunnel
from meshtui.domain.server import Phase
from tests.cluster.machine import SERVER
from tests.cluster.test_client import left
from tests.cluster.test_fleet import View, fleet_of
from tests.support.pod_servers import KEY, pod_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

_PATIENCE_S = 60.0


@pytest_asyncio.fixture
async def fleet(cluster: Cluster, namespace: str, node: str) -> AsyncIterator[Fleet]:
    async with fleet_of(cluster, namespace, View()) as found:
        yield found


def wanted(namespace: str, node: str, **execution: object) -> PodServer:
    selector = {"kubernetes.io/hostname": node}
    settings = {"image": SERVER, "node_selector": selector, **execution}
    return pod_server(namespace, **settings)


async def reached(fleet: Fleet, name: str, phase: Phase) -> None:
    def there() -> bool:
        seen = fleet.observations.get(name)
        return seen is not None and seen.phase is phase

    await eventually(there, f"{phase}; now {fleet.observations.get(name)}", _PATIENCE_S)


async def test_a_server_serves_rests_wakes_and_leaves_nothing(
    cluster: Cluster, namespace: str, node: str, fleet: Fleet
) -> None:
    server = wanted(namespace, node)
    await deploy(cluster, server)
    await reached(fleet, server.name, Phase.READY)
    pod = fleet.observations[server.name].pod
    assert pod is not None
    tunnel = await Tunnel.open(cluster, namespace, pod, PORT)
    try:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{tunnel.base_url}/echo", data="Paris", headers=headers) as answer,
        ):
            assert (await answer.text()).splitlines() == [f"Bearer {KEY}", "Paris"]
    finally:
        await tunnel.close()
    await scale(cluster, namespace, server.name, 0)
    await reached(fleet, server.name, Phase.STOPPED)
    await scale(cluster, namespace, server.name, 1)
    await reached(fleet, server.name, Phase.READY)
    assert fleet.observations[server.name].pod != pod
    await delete(cluster, namespace, server.name)
    await eventually(lambda: server.name not in fleet.observations, "it is gone", _PATIENCE_S)
    assert await left(cluster, namespace) == []


async def test_an_engine_that_ends_is_explained_by_its_last_words(
    cluster: Cluster, namespace: str, node: str, fleet: Fleet
) -> None:
    words = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    environment = {"TEST_WORDS": words, "TEST_STATUS": "1"}
    server = wanted(namespace, node, environment=environment)
    await deploy(cluster, server)

    def explained() -> bool:
        seen = fleet.observations.get(server.name)
        return seen is not None and seen.restarts > 0 and seen.explanation is not None

    await eventually(explained, "it ended", _PATIENCE_S)
    seen = fleet.observations[server.name]
    assert seen.explanation is not None and words in seen.explanation.excerpt
    assert seen.explanation.failure_id == "gpu-oom"
    await delete(cluster, namespace, server.name)


async def test_an_image_that_no_node_can_have_is_explained(
    cluster: Cluster, namespace: str, node: str, fleet: Fleet
) -> None:
    # Nothing listens on the port of this registry.
    server = wanted(namespace, node, image="127.0.0.1:9/no/image:1")
    await deploy(cluster, server)

    def explained() -> bool:
        seen = fleet.observations.get(server.name)
        return seen is not None and seen.explanation is not None

    await eventually(explained, "it cannot be pulled", _PATIENCE_S)
    seen = fleet.observations[server.name]
    assert seen.phase is Phase.PULLING_IMAGE and seen.explanation is not None
    assert seen.explanation.failure_id == "k8s-image-pull"
    assert "do not reach the registry" in seen.explanation.cause, seen.explanation
    await delete(cluster, namespace, server.name)

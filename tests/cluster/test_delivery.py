"""Models come to a real volume, by way of a real API server, kubelet and container."""

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshtui.cache.store import Entry, ModelStore
from meshtui.cache.verify import verify
from meshtui.cache.work import Work
from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.delivery import deliver, is_delivered
from meshtui.domain.delivery import DeliveryProgress
from meshtui.domain.errors import BrokenDownload, InvalidInput, NoRoom
from tests.cluster.conftest import Access
from tests.cluster.control_plane import ControlPlane
from tests.cluster.machine import Machine
from tests.cluster.volumes import python_server
from tests.support.shelf import model_files, put_entry
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

MODEL = "org/tiny"
BROKEN = "The connection broke off"
_PATIENCE_S = 120.0


class Told(list[DeliveryProgress]):
    """All that was said of a delivery."""

    @property
    def steps(self) -> list[str]:
        return [one.step for one in self]


def large_entry() -> Entry:
    """Long enough on its way to be disturbed."""
    return put_entry(MODEL, {**model_files(), "more.bin": os.urandom(1 << 20) * 100})


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def on_its_way(shelf: Path) -> None:
    """Returns when some of the model has come."""
    await eventually(lambda: bytes_below(shelf) > 8_000_000, "some of it came", _PATIENCE_S)


async def loaders(cluster: Cluster, namespace: str, kind: str = "pods") -> list[str]:
    """The names of pods, or of Jobs, that take models in."""
    group = "/api/v1" if kind == "pods" else "/apis/batch/v1"
    found = await cluster.get(
        f"{group}/namespaces/{namespace}/{kind}",
        labelSelector="app.kubernetes.io/component=model-load",
    )
    return [one["metadata"]["name"] for one in found["items"]]


async def no_loaders(cluster: Cluster, namespace: str) -> None:
    """Returns when all that was made for the sending is gone."""
    async with asyncio.timeout(_PATIENCE_S):
        while await loaders(cluster, namespace, "jobs") or await loaders(cluster, namespace):
            await asyncio.sleep(0.1)


def is_whole(shelf: Path, entry: Entry) -> bool:
    """What is on the volume is an entry of a cache, and every hash is right."""
    found = verify(entry.ref, ModelStore(shelf), Work())
    return found.ok and (shelf / entry.folder.name / "model").is_dir()


async def test_several_servers_share_what_was_sent_once(
    cluster: Cluster, namespace: str, python_node: str, shelf: Path
) -> None:
    entry = put_entry(MODEL)
    server = python_server(namespace, python_node, MODEL)
    assert not await is_delivered(cluster, server)
    with pytest.raises(InvalidInput, match="not in the model cache") as error:
        await deliver(cluster, server)
    assert "meshtui cache download org/tiny" in (error.value.hint or "")

    told = Told(), Told()
    both = await asyncio.gather(
        *(deliver(cluster, server, entry=entry, on_progress=one.append) for one in told)
    )
    assert sorted(one.present for one in both) == [False, True], both
    assert sum(one.moved_bytes for one in both) == bytes_below(entry.folder)
    assert is_whole(shelf, entry)
    sender = told[0] if both[1].present else told[1]
    assert sender.steps[0].startswith("Starting a pod") and sender[-1].fraction == 1.0

    # From now on the claim says it: no pod is started.
    assert await is_delivered(cluster, server) and await is_delivered(cluster, server, entry=entry)
    again = await deliver(cluster, server, entry=entry)
    assert again.present and again.moved_bytes == 0
    await no_loaders(cluster, namespace)

    # Another state of the model takes its place.
    newer = put_entry(MODEL, model_files(5000))
    assert not await is_delivered(cluster, server, entry=newer)
    assert not (await deliver(cluster, server, entry=newer)).present
    assert is_whole(shelf, newer)


async def test_a_cancelled_delivery_goes_on_where_it_was(
    cluster: Cluster, namespace: str, python_node: str, shelf: Path
) -> None:
    entry = large_entry()
    server = python_server(namespace, python_node, MODEL)
    delivering = asyncio.create_task(deliver(cluster, server, entry=entry))
    await on_its_way(shelf)
    delivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    await no_loaders(cluster, namespace)
    assert not await is_delivered(cluster, server)
    assert not (shelf / entry.folder.name).exists()  # a half model is no model
    came = bytes_below(shelf)

    told = Told()
    done = await deliver(cluster, server, entry=entry, on_progress=told.append)
    assert done.moved_bytes == bytes_below(entry.folder) - came
    sending = [one for one in told if one.step.startswith("Sending")]
    assert sending[0].done_bytes == came, "what was there counts as done"
    assert is_whole(shelf, entry)


_SENDER = """
import asyncio
from meshtui.cache.store import ModelStore
from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.delivery import deliver
from meshtui.settings import paths
from tests.cluster.volumes import python_server
async def main(context, namespace, node, model):
    (entry,) = ModelStore(paths.models_dir()).list()
    cluster = await Cluster.connect(context)
    await deliver(cluster, python_server(namespace, node, model), entry=entry)
import sys
asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_sender_is_followed_by_another(
    cluster: Cluster, use_cluster: Access, namespace: str, python_node: str, shelf: Path
) -> None:
    entry = large_entry()
    words = (use_cluster.context, namespace, python_node, MODEL)
    sender = await asyncio.create_subprocess_exec(sys.executable, "-c", _SENDER, *words)
    try:
        await on_its_way(shelf)
    finally:
        sender.kill()
        await sender.wait()
    # The pod of the one that died is still there, and lets go by itself.
    done = await deliver(cluster, python_server(namespace, python_node, MODEL), entry=entry)
    assert not done.present and done.moved_bytes < bytes_below(entry.folder)
    assert is_whole(shelf, entry)


async def test_a_pod_that_is_deleted_is_made_anew(
    cluster: Cluster, namespace: str, python_node: str, shelf: Path
) -> None:
    entry, told = put_entry(MODEL, model_files(1_000_000)), Told()
    server = python_server(namespace, python_node, MODEL)
    weights = entry.model_dir / "model.safetensors"
    half = weights.read_bytes()[: weights.stat().st_size // 2]
    with stuck(shelf, entry, half):
        delivering = asyncio.create_task(
            deliver(cluster, server, entry=entry, on_progress=told.append)
        )
        await eventually(lambda: bytes_sending(told) == len(half), "it begins", _PATIENCE_S)
        for pod in await loaders(cluster, namespace):
            await cluster.delete(f"/api/v1/namespaces/{namespace}/pods/{pod}", gracePeriodSeconds=0)
        await eventually(lambda: BROKEN in told.steps, "it says so", _PATIENCE_S)
    done = await delivering
    assert done.moved_bytes == bytes_below(entry.folder) - len(half)
    assert is_whole(shelf, entry)
    await no_loaders(cluster, namespace)


@contextmanager
def stuck(shelf: Path, entry: Entry, content: bytes) -> Iterator[None]:
    """In the context the volume holds that much of the weights, and takes nothing more of them."""
    staged = shelf / ".staging" / f"{entry.folder.name}.partial" / "model" / "model.safetensors"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(content)
    with staged.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as the end of another connection would
        yield


def bytes_sending(told: Told) -> int:
    """What was said last to be there, once sending had begun."""
    return max((one.done_bytes for one in told if one.step.startswith("Sending")), default=0)


async def test_an_api_server_that_is_killed_is_waited_for(
    cluster: Cluster, control_plane: ControlPlane, namespace: str, python_node: str, shelf: Path
) -> None:
    entry, told = large_entry(), Told()
    server = python_server(namespace, python_node, MODEL)
    delivering = asyncio.create_task(deliver(cluster, server, entry=entry, on_progress=told.append))
    await on_its_way(shelf)
    control_plane.kill_api_server()
    try:
        await eventually(lambda: BROKEN in told.steps, "it says so", _PATIENCE_S)
    finally:
        control_plane.start_api_server()
    done = await delivering
    assert not done.present and done.moved_bytes < 2 * bytes_below(entry.folder)
    assert is_whole(shelf, entry)


async def test_damaged_files_are_sent_anew_or_explained(
    cluster: Cluster, namespace: str, python_node: str, shelf: Path
) -> None:
    entry = put_entry(MODEL)
    server = python_server(namespace, python_node, MODEL)
    there = shelf / ".staging" / f"{entry.folder.name}.partial" / "model" / "model.safetensors"
    there.parent.mkdir(parents=True)
    weights = entry.model_dir / "model.safetensors"
    there.write_bytes(b"x" * weights.stat().st_size)
    await deliver(cluster, server, entry=entry)
    assert is_whole(shelf, entry)

    newer = put_entry(MODEL, model_files(5000))
    weights.write_bytes(b"x" * weights.stat().st_size)
    with pytest.raises(BrokenDownload, match=r"model.safetensors of org/tiny is damaged in the"):
        await deliver(cluster, server, entry=newer)
    await no_loaders(cluster, namespace)
    assert is_whole(shelf, entry), "the model that was there still is"


async def test_a_full_volume_is_explained(
    cluster: Cluster, namespace: str, python_node: str, machine: Machine, shelf: Path
) -> None:
    # Where the node is, that nobody else sees.
    inside = ("nsenter", "--mount", "--target", str(node_pid(machine)))
    small = ("mount", "-t", "tmpfs", "-o", "size=20m", "small", str(shelf))
    await asyncio.to_thread(subprocess.run, [*inside, *small], check=True)
    server = python_server(namespace, python_node, MODEL)
    entry = put_entry(MODEL, {**model_files(), "more.bin": bytes(30_000_000)})
    with pytest.raises(NoRoom, match=r"org/tiny: \d+ MB are still to come, and \d+ MB are free"):
        await deliver(cluster, server, entry=entry)
    await no_loaders(cluster, namespace)
    assert not await is_delivered(cluster, server)


async def test_what_keeps_the_pod_from_starting_is_told(
    cluster: Cluster, namespace: str, python_node: str, shelf: Path
) -> None:
    told = Told()
    server = python_server(namespace, "no-such-node", MODEL)
    delivering = asyncio.create_task(
        deliver(cluster, server, entry=put_entry(MODEL), on_progress=told.append)
    )
    await eventually(
        lambda: any(one.explanation is not None for one in told), "it says why", _PATIENCE_S
    )
    reasons = [one.explanation.cause for one in told if one.explanation is not None]
    assert "No node" in reasons[0], reasons
    delivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    await no_loaders(cluster, namespace)


def node_pid(machine: Machine) -> int:
    """A process that sees the file systems as the node does."""
    children = Path(f"/proc/{machine.keeper_pid}/task/{machine.keeper_pid}/children")
    return int(children.read_text().split()[0])

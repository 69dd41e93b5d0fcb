"""Many servers, few requests: one view of a namespace that survives what happens to it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshtui.cache.store import ModelStore
from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.client import Spec, delete, deploy, read_spec, scale
from meshtui.deploy.kubernetes.delivery_start import ModelDelivery
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.fleet import Fleet
from meshtui.deploy.kubernetes.objects import deployment, path_of
from meshtui.deploy.kubernetes.phases import Observation
from meshtui.deploy.kubernetes.pod_manager import PodManager
from meshtui.deploy.models import ModelShelf
from meshtui.domain.connection import Connection
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.server import Phase, ServerStatus
from tests.cluster.conftest import Access
from tests.cluster.control_plane import ControlPlane
from tests.cluster.looking import Placed
from tests.cluster.nodes import PlayedKubelet
from tests.support.pod_servers import pod_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

MANY = 300


class View:
    """What a fleet told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Observation | None]] = []
        self.troubles: list[ClusterError | None] = []

    def changed(self, name: str, seen: Observation | None) -> None:
        self.told.append((name, seen))

    def phases(self, name: str) -> list[Phase | None]:
        """The phases of a server in their order, each once."""
        found: list[Phase | None] = []
        for told, seen in self.told:
            phase = seen.phase if seen else None
            if told == name and found[-1:] != [phase]:
                found.append(phase)
        return found


def meant(fleet: Fleet, name: str) -> Spec:
    """What a server was meant to be."""
    found = fleet.deployment(name)
    assert found is not None
    spec = read_spec(found)
    assert spec is not None
    return spec


@asynccontextmanager
async def fleet_of(cluster: Cluster, namespace: str, view: View) -> AsyncIterator[Fleet]:
    fleet = Fleet(cluster, namespace, changed=view.changed, troubled=view.troubles.append)
    await fleet.open()
    try:
        yield fleet
    finally:
        await fleet.close()


async def test_a_server_is_followed_from_its_making_to_its_end(
    cluster: Cluster, namespace: str, kubelet: PlayedKubelet
) -> None:
    await kubelet.node()
    server, view = pod_server(namespace), View()
    name, placed = server.name, Placed(cluster, server)
    async with fleet_of(cluster, namespace, view) as fleet:
        assert fleet.observations == {}
        await placed.apply()
        pod = await placed.pod()
        await kubelet.pulling(pod)
        await eventually(lambda: Phase.PULLING_IMAGE in view.phases(name), "the pull is seen")
        await kubelet.running(pod)
        await kubelet.running(pod, ready=True)
        await eventually(lambda: Phase.READY in view.phases(name), "it is ready")
        assert meant(fleet, name).connection == "cloud"
        await scale(cluster, namespace, name, 0)
        await eventually(lambda: Phase.STOPPING in view.phases(name), "it ends")
        await kubelet.gone(pod)
        await eventually(lambda: Phase.STOPPED in view.phases(name), "it rests")
        await delete(cluster, namespace, name)
        await eventually(lambda: view.phases(name)[-1] is None, "nothing is left")
        assert fleet.observations == {}


async def test_a_new_controller_finds_the_servers_of_the_one_before(
    cluster: Cluster, namespace: str
) -> None:
    for model in ("org/a", "org/b"):
        await deploy(cluster, pod_server(namespace, model=model))
    async with fleet_of(cluster, namespace, View()) as fleet:
        assert {meant(fleet, name).enabled.model for name in fleet.observations} == {
            "org/a",
            "org/b",
        }
        assert len(fleet.observations) == 2


async def test_a_killed_api_server_leaves_the_view_as_it_was(
    cluster: Cluster, namespace: str, control_plane: ControlPlane
) -> None:
    await deploy(cluster, pod_server(namespace))
    view = View()
    async with fleet_of(cluster, namespace, view) as fleet:
        before = fleet.observations
        control_plane.kill_api_server()
        try:
            await eventually(lambda: view.troubles[-1:] and view.troubles[-1], "it is noticed")
            assert fleet.observations == before
        finally:
            control_plane.start_api_server()
        other = pod_server(namespace, model="org/other")
        await deploy(cluster, other)
        await eventually(lambda: other.name in fleet.observations, "it goes on", 60)
        await eventually(lambda: view.troubles[-1] is None, "all is well again", 60)
        assert len(fleet.observations) == 2


async def test_three_hundred_servers_cost_three_requests(
    use_cluster: Access,
    cluster: Cluster,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Deployments without pods are enough: what is counted is requests, and what is measured is
    the time from a change to its being told."""
    names = [f"org/model-{number}" for number in range(MANY)]
    servers = [pod_server(namespace, model=name) for name in names]
    room = asyncio.Semaphore(16)

    async def make(at: int) -> None:
        async with room:
            manifest = deployment(servers[at])
            manifest["spec"]["replicas"] = 0
            await cluster.apply(path_of(manifest), manifest)

    await asyncio.gather(*(make(at) for at in range(MANY)))
    asked: list[str] = []
    ask = Cluster._ask

    async def counted(self: Cluster, method: str, path: str, *rest: object) -> object:
        if self is not cluster:
            asked.append(path)
        return await ask(self, method, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Cluster, "_ask", counted)
    told: list[ServerStatus] = []
    connection = Connection(name="cloud", execution="gpu")
    place = KubernetesExecution(name="gpu", context=use_cluster.context, namespace=namespace)
    manager = PodManager(
        pods_dir=tmp_path / "pods",
        connections=lambda: {"cloud": connection},
        executions=lambda: {"gpu": place},
        deliver=ModelDelivery(ModelShelf(ModelStore(tmp_path / "models"))),
        on_change=told.append,
        on_removed=lambda server_id: None,
    )
    await manager.open()
    try:
        await eventually(lambda: len(manager.list()) == MANY, "all are seen", 60)
        await eventually(lambda: len(asked) == 6, "three lists, three watches")
        assert {status.phase for status in manager.list()} == {Phase.STOPPED}
        told.clear()
        delays = []
        for server in servers[:20]:
            await scale(cluster, namespace, server.name, 1)
            changed_at, name = time.perf_counter(), server.id
            await eventually(lambda n=name: any(one.id == n for one in told), "it is told")
            delays.append(time.perf_counter() - changed_at)
        assert len(asked) == 6
        assert min(delays) < 0.1, delays
    finally:
        await manager.close()

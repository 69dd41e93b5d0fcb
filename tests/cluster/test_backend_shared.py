"""Servers on a cluster that several workstations share, that rest when nobody uses them, and that
others change: seen the same by all, and never fought over."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from meshtui.cache.store import ModelStore
from meshtui.client import ControllerClient
from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.client import deployment_path
from meshtui.deploy.kubernetes.delivery_start import ModelDelivery
from meshtui.deploy.kubernetes.pod_manager import PodManager
from meshtui.deploy.kubernetes.pod_start import object_name
from meshtui.deploy.models import ModelShelf
from meshtui.deploy.servers import ReadyServer, server_id
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import StartFailed
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.server import Phase, ServerStatus
from tests.cluster.conftest import Access
from tests.cluster.control_plane import ControlPlane
from tests.cluster.machine import SERVER
from tests.cluster.test_backend import connect, nothing_left, prompted
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

MODEL = "org/it"
ID = server_id("cloud", MODEL)
_PATIENCE_S = 90.0


class Workstation(msgspec.Struct):
    """A controller's part for clusters, with folders of its own."""

    manager: PodManager
    connection: Connection
    told: list[ServerStatus]

    @property
    def status(self) -> ServerStatus | None:
        return self.manager.find("cloud", MODEL)

    @property
    def enabled(self) -> EnabledModel:
        return self.connection.enabled_models[0]

    async def ready(self) -> ReadyServer:
        return await self.manager.ready(self.connection, self.enabled, self.told.append)

    async def until(self, holds: Callable[[ServerStatus], object], what: str) -> ServerStatus:
        def seen() -> object:
            return self.status is not None and holds(self.status)

        try:
            await eventually(seen, what, _PATIENCE_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.status}") from None
        assert self.status is not None
        return self.status

    async def until_phase(self, phase: Phase) -> ServerStatus:
        return await self.until(lambda status: status.phase is phase, f"it is {phase}")


@asynccontextmanager
async def workstation(
    access: Access,
    namespace: str,
    node: str,
    folder: Path,
    *,
    knows: bool = True,
    enabled: EnabledModel | None = None,
    **execution: object,
) -> AsyncIterator[Workstation]:
    """`knows`: its settings have the connection; else only one to the same namespace."""
    own = enabled or EnabledModel(model=MODEL)
    name = "cloud" if knows else "other"
    connection = Connection(name=name, execution="gpu", enabled_models=(own,))
    settings: dict[str, object] = {
        "image": SERVER,
        "node_selector": {"kubernetes.io/hostname": node},
        **execution,
    }
    place = KubernetesExecution(
        name="gpu",
        context=access.context,
        namespace=namespace,
        **settings,  # type: ignore[arg-type]
    )
    told: list[ServerStatus] = []
    manager = PodManager(
        pods_dir=folder / "pods",
        connections=lambda: {name: connection},
        executions=lambda: {"gpu": place},
        deliver=ModelDelivery(ModelShelf(ModelStore(folder / "models"))),
        on_change=told.append,
        on_removed=lambda server_id: None,
    )
    await manager.open()
    try:
        yield Workstation(manager, connection, told)
    finally:
        await manager.close()


async def asked(ready: ReadyServer) -> int:
    """What the engine answers to that key."""
    headers = {"Authorization": f"Bearer {ready.api_key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{ready.base_url}/v1/models", headers=headers) as answer,
    ):
        return answer.status


async def test_a_server_that_nobody_uses_goes_to_zero_and_wakes_with_the_next_prompt(
    use_cluster: Access, cluster: Cluster, namespace: str, node: str, tmp_path: Path
) -> None:
    enabled = EnabledModel(model=MODEL, idle_timeout_s=4.0)
    async with workstation(use_cluster, namespace, node, tmp_path, enabled=enabled) as own:
        ready = await own.ready()
        with own.manager.lease(ready.server_id):
            assert await asked(ready) == 200
            # Longer than the idle timeout: what is in use does not rest.
            await asyncio.sleep(1.5 * enabled.idle_timeout_s)
            assert own.status is not None and own.status.phase is Phase.READY
        rested = await own.until_phase(Phase.STOPPED)
        assert "Nobody used it" in rested.phases[-1].message and rested.explanation is None
        kept = await cluster.get(deployment_path(namespace, object_name(ID)))
        assert kept["spec"]["replicas"] == 0
        woken = await own.ready()
        with own.manager.lease(woken.server_id):
            assert await asked(woken) == 200 and woken.api_key == ready.api_key
        await own.manager.stop(ID)
        await own.manager.remove(ID)
        assert own.manager.list() == []
    await nothing_left(cluster, namespace)


async def test_two_workstations_share_a_server(
    use_cluster: Access, cluster: Cluster, namespace: str, node: str, tmp_path: Path
) -> None:
    async with (
        workstation(use_cluster, namespace, node, tmp_path / "one") as one,
        workstation(use_cluster, namespace, node, tmp_path / "two") as two,
        workstation(use_cluster, namespace, node, tmp_path / "three", knows=False) as three,
    ):
        first, second = await asyncio.gather(one.ready(), two.ready())
        assert first.api_key == second.api_key
        assert await asked(first) == await asked(second) == 200
        pods = await cluster.get(f"/api/v1/namespaces/{namespace}/pods")
        assert len(pods["items"]) == 1
        # Whoever only looks there sees it, too, and may end it.
        await three.until_phase(Phase.READY)
        await three.manager.stop(ID)
        for other in (one, two):
            await other.until_phase(Phase.STOPPED)
        assert await asked(await two.ready()) == 200
        await one.until_phase(Phase.READY)
        await two.manager.stop(ID)
        await two.manager.remove(ID)
        await one.until_phase(Phase.STOPPED)
        await one.manager.remove(ID)
        assert one.manager.list() == two.manager.list() == []
        await eventually(lambda: three.manager.list() == [], "nobody has it any more")
    await nothing_left(cluster, namespace)


async def test_what_others_change_is_shown_and_not_undone(
    use_cluster: Access, cluster: Cluster, namespace: str, node: str, tmp_path: Path
) -> None:
    async with workstation(use_cluster, namespace, node, tmp_path) as own:
        await own.ready()
        path = deployment_path(namespace, object_name(ID))
        body = {"spec": {"progressDeadlineSeconds": 1234}}
        other = {"fieldManager": "kubectl-edit"}
        await cluster._json("PATCH", path, other, body, "application/merge-patch+json")
        drifted = await own.until(lambda s: s.place is not None and s.place.drift, "it is shown")
        assert drifted.place is not None
        assert drifted.place.drift == ("kubectl-edit: spec.progressDeadlineSeconds",)
        await own.manager.stop(ID)
        await own.ready()
        assert (await cluster.get(path))["spec"]["progressDeadlineSeconds"] == 1234
        assert own.status is not None
        assert any("remove the server" in notice for notice in own.status.notices)
        # Scaled by hand to nothing, it rests; deleted by hand, it is over.
        zero = {"spec": {"replicas": 0}}
        await cluster._json("PATCH", path, other, zero, "application/merge-patch+json")
        await own.until_phase(Phase.STOPPED)
        await own.ready()
        await cluster.delete(path, propagationPolicy="Background")
        gone = await own.until_phase(Phase.STOPPED)
        assert gone.phases[-1].message == "Somebody deleted it"
        await own.manager.remove(ID)
    await nothing_left(cluster, namespace)


async def test_a_killed_api_server_costs_no_server_anything(
    use_cluster: Access,
    cluster: Cluster,
    namespace: str,
    node: str,
    control_plane: ControlPlane,
    tmp_path: Path,
) -> None:
    async with workstation(use_cluster, namespace, node, tmp_path) as own:
        first = await own.ready()
        assert await asked(first) == 200
        control_plane.kill_api_server()
        try:
            away = await own.until(lambda s: s.place is not None and s.place.trouble, "noticed")
            assert away.phase is Phase.READY, "it serves on, as far as anybody knows"
        finally:
            control_plane.start_api_server()
        await own.until(lambda s: s.place is not None and not s.place.trouble, "it is well again")
        again = await own.ready()
        assert await asked(again) == 200 and again.api_key == first.api_key
        pods = await cluster.get(f"/api/v1/namespaces/{namespace}/pods")
        assert len(pods["items"]) == 1
        await own.manager.stop(ID)
        await own.manager.remove(ID)
    await nothing_left(cluster, namespace)


async def test_an_engine_that_never_starts_is_given_up_with_the_reason_for_all_to_see(
    use_cluster: Access, cluster: Cluster, namespace: str, node: str, tmp_path: Path
) -> None:
    words = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    broken = {"environment": {"TEST_WORDS": words, "TEST_STATUS": "1"}, "restarts": 1}
    async with (
        workstation(use_cluster, namespace, node, tmp_path / "one", **broken) as own,
        workstation(use_cluster, namespace, node, tmp_path / "two") as other,
    ):
        with pytest.raises(StartFailed) as failed:
            await own.ready()
        assert failed.value.explanation is not None
        assert failed.value.explanation.failure_id == "gpu-oom"
        for each in (own, other):
            over = await each.until_phase(Phase.FAILED)
            assert over.explanation is not None and over.explanation.failure_id == "gpu-oom"
            assert words in over.explanation.excerpt
        log = own.manager.log_path(ID)
        assert words in log.read_text()
        kept = await cluster.get(deployment_path(namespace, object_name(ID)))
        assert kept["spec"]["replicas"] == 0, "it does not hold the GPU"
        await own.manager.remove(ID)
    await nothing_left(cluster, namespace)


async def test_a_controller_that_was_killed_leaves_the_next_one_everything(
    use_cluster: Access, cluster: Cluster, namespace: str, node: str
) -> None:
    connect(use_cluster, namespace, node, TEST_LOAD_MS="3000")
    async with ControllerClient() as client:
        started = await client.start_server(MODEL)

        async def is_placed() -> bool:
            place = (await client.server(started.id)).place
            return place is not None and place.pod is not None

        async with asyncio.timeout(_PATIENCE_S):
            while not await is_placed():
                await asyncio.sleep(0.05)
        os.kill((await client.info()).pid, signal.SIGKILL)
    async with ControllerClient() as client:
        try:
            assert "Paris" in await prompted(client)
            (server,) = await client.servers()
            assert server.id == started.id and server.phase is Phase.READY
            pods = await cluster.get(f"/api/v1/namespaces/{namespace}/pods")
            assert len(pods["items"]) == 1, "it is the same one"
            os.kill((await client.info()).pid, signal.SIGKILL)
        except BaseException:
            await client.stop_controller()
            raise
    async with ControllerClient() as client:
        try:
            assert "Paris" in await prompted(client)
            await client.stop_server(started.id)
            await client.remove_server(started.id)
            await nothing_left(cluster, namespace)
        finally:
            await client.stop_controller()

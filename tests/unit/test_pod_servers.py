"""What is known of servers on clusters without asking one: whose word counts, and where a server
belongs."""

import math
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from meshtui.cache.store import ModelStore
from meshtui.deploy.everywhere import AllServers
from meshtui.deploy.kubernetes.api import Json
from meshtui.deploy.kubernetes.delivery_start import ModelDelivery
from meshtui.deploy.kubernetes.marks import LAST_USED, RESTING, Rest, last_used, rest_of
from meshtui.deploy.kubernetes.pod_manager import PodManager
from meshtui.deploy.kubernetes.sight import Sight
from meshtui.deploy.models import ModelShelf
from meshtui.domain.connection import Connection
from meshtui.domain.errors import Conflict, NotFound, StartFailed
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.server import Explanation, Phase
from tests.support.fake_servers import CONNECTION, MODEL, enabled, make_manager
from tests.support.waiting import eventually

ON_CLUSTER = msgspec.structs.replace(CONNECTION, execution="gpu")


def deployment(uid: str = "a", generation: int = 1, **annotations: str) -> Json:
    meta = {"uid": uid, "generation": generation, "annotations": annotations}
    return {"metadata": meta, "spec": {"replicas": 1}}


def test_what_was_before_our_own_last_change_is_not_believed() -> None:
    sight = Sight()
    assert not sight.is_stale(None) and not sight.is_stale(deployment("others"))
    sight.made(deployment("ours", generation=2))
    assert sight.is_stale(None), "the watch does not show it yet"
    assert sight.is_stale(deployment("others")) and sight.is_stale(deployment("ours", 1))
    assert not sight.is_stale(deployment("ours", 2))
    assert not sight.is_stale(None), "it was there, so now it is gone"
    assert not sight.is_stale(deployment("another")), "somebody made it anew"


def test_why_a_server_rests_is_told_and_fit_to_be_shown() -> None:
    why = Explanation(cause="It \x1b[31mbroke\nhere", fix="Mend it", excerpt="\x1b]0;x\x07a\nb")
    told = Rest(message="Nobody\x07 used it", explanation=why).annotations()[RESTING]
    assert told is not None
    found = rest_of(deployment(**{RESTING: told}))
    shown = [found.message, found.explanation.cause, found.explanation.excerpt]  # type: ignore[union-attr]
    assert not any("\x1b" in text or "\x07" in text for text in shown), shown
    for broken in ("", "{", "[]", '{"explanation": 1}', '{"message": "' + "x" * 100_000):
        assert rest_of(deployment(**{RESTING: broken})) == Rest()


def test_a_clock_that_is_ahead_does_not_keep_a_server_awake() -> None:
    assert last_used(deployment(**{LAST_USED: "1000"})) == 1000.0
    ahead = last_used(deployment(**{LAST_USED: f"{time.time() + 9999:.0f}"}))
    assert ahead is not None and ahead <= time.time()
    for broken in ("", "soon", str(math.nan), str(math.inf)):
        assert last_used(deployment(**{LAST_USED: broken})) is None


@pytest.fixture
async def servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[AllServers, dict[str, KubernetesExecution]]]:
    """Both kinds, with a cluster that no kubeconfig has; the execution configs may be changed."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    executions: dict[str, KubernetesExecution] = {}
    pods = PodManager(
        pods_dir=tmp_path / "pods",
        connections=lambda: {ON_CLUSTER.name: ON_CLUSTER},
        executions=lambda: executions,
        deliver=ModelDelivery(ModelShelf(ModelStore(tmp_path / "models"))),
        on_change=lambda status: None,
        on_removed=lambda server_id: None,
    )
    found = AllServers(make_manager(tmp_path / "servers"), pods)
    await found.open()
    yield found, executions
    for status in found.list():
        await found.stop(status.id)
    await found.close()


async def test_a_server_is_where_its_connection_says(
    servers: tuple[AllServers, dict[str, KubernetesExecution]],
) -> None:
    everywhere, executions = servers
    with pytest.raises(NotFound, match="no execution config 'gpu'"):
        await everywhere.start(ON_CLUSTER, enabled())
    executions["gpu"] = KubernetesExecution(name="gpu")
    with pytest.raises(StartFailed, match="no kubeconfig"):
        await everywhere.ready(ON_CLUSTER, enabled(), lambda status: None)
    (failed,) = everywhere.list()
    assert failed.phase is Phase.FAILED and failed.place is not None
    # The connection is moved to this machine: its server has the same name.
    ready = await everywhere.ready(CONNECTION, enabled(), lambda status: None)
    (status,) = everywhere.list()
    assert status.id == ready.server_id == failed.id
    assert status.phase is Phase.READY and status.place is None
    with pytest.raises(Conflict, match="still runs on this machine"):
        await everywhere.start(ON_CLUSTER, enabled())
    assert everywhere.find(CONNECTION.name, MODEL) == everywhere.get(status.id)
    async with everywhere.reading(status.id):
        assert "startup complete" in everywhere.log_path(status.id).read_text()
    await everywhere.stop(status.id)
    assert everywhere.find("nobody", MODEL) is None
    with pytest.raises(NotFound):
        everywhere.get("nobody")


async def test_a_start_that_failed_is_known_to_the_next_controller(
    servers: tuple[AllServers, dict[str, KubernetesExecution]], tmp_path: Path
) -> None:
    everywhere, executions = servers
    executions["gpu"] = KubernetesExecution(name="gpu", namespace="models")
    started = await everywhere.start(ON_CLUSTER, enabled())
    await eventually(lambda: everywhere.get(started.id).phase is Phase.FAILED, "it failed")
    await everywhere.close()
    connection: Connection = ON_CLUSTER
    again = PodManager(
        pods_dir=tmp_path / "pods",
        connections=lambda: {connection.name: connection},
        executions=lambda: executions,
        deliver=ModelDelivery(ModelShelf(ModelStore(tmp_path / "models"))),
        on_change=lambda status: None,
        on_removed=lambda server_id: None,
    )
    await again.open()
    try:
        (known,) = again.list()
        assert known.phase is Phase.FAILED and known.explanation is not None
        assert "no kubeconfig" in known.explanation.cause
    finally:
        await again.close()
        await everywhere.open()

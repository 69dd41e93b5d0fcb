"""A connection to a cluster is used as any other: by the same client, through a real controller,
with a pod on a real node. A small program stands in for the engine."""

import asyncio
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
import tomli_w

from meshtui.client import ControllerClient
from meshtui.controller.managers import local_managers
from meshtui.deploy.kubernetes.api import Cluster
from meshtui.domain.controller import Overview, ServerChanged
from meshtui.domain.generation import ChatMessage, ChatRequest, RunEnded, RunText
from meshtui.domain.server import Phase, ServerStatus
from meshtui.settings import paths
from tests.cluster.conftest import Access
from tests.cluster.machine import SERVER
from tests.cluster.test_client import left
from tests.controller_support import running_controller

pytestmark = pytest.mark.cluster

MODEL = "org/it"
_PATIENCE_S = 90.0


def connect(access: Access, namespace: str, node: str, **environment: str) -> None:
    """Writes a connection `cloud` whose models run in that namespace."""
    execution = {
        "kind": "kubernetes",
        "context": access.context,
        "namespace": namespace,
        "image": SERVER,
        "node_selector": {"kubernetes.io/hostname": node},
        "environment": {"TEST_LOAD_MS": "700", **environment},
    }
    connection = {"execution": "gpu", "enabled_models": [{"model": MODEL}]}
    _write(paths.config_dir() / "execution" / "gpu.toml", execution)
    _write(paths.config_dir() / "connections" / "cloud.toml", connection)


def _write(path: Path, table: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomli_w.dumps(table))


async def until_phase(client: ControllerClient, phase: Phase) -> list[ServerStatus]:
    """All that is told of the only server until it is in that phase."""
    told: list[ServerStatus] = []
    async with aclosing(client.events()) as events:
        async for event in events:
            match event:
                case Overview(servers=servers):
                    told += servers
                case ServerChanged(status):
                    told.append(status)
            if told and told[-1].phase is phase:
                return told
    raise AssertionError("the controller ended")


def question() -> ChatRequest:
    return ChatRequest(model=MODEL, messages=(ChatMessage("user", "The capital of France?"),))


async def prompted(client: ControllerClient) -> str:
    events = [event async for event in client.prompt(question())]
    ended = events[-1]
    assert isinstance(ended, RunEnded) and ended.run.status == "done", ended
    return "".join(event.text for event in events if isinstance(event, RunText))


async def nothing_left(cluster: Cluster, namespace: str) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while await left(cluster, namespace):
            await asyncio.sleep(0.1)


async def test_a_model_is_deployed_watched_asked_put_to_rest_woken_and_deleted(
    use_cluster: Access, cluster: Cluster, namespace: str, node: str
) -> None:
    connect(use_cluster, namespace, node)
    async with running_controller({}, managers=local_managers) as controller:
        client = controller.client
        started = await client.start_server(MODEL)
        told = await until_phase(client, Phase.READY)
        status = told[-1]
        phases = [record.phase for record in status.phases]
        assert phases[0] is Phase.QUEUED and phases[-1] is Phase.READY
        assert {Phase.SCHEDULING, Phase.STARTING, Phase.LOADING_WEIGHTS} <= {*phases}, phases
        assert phases == sorted(phases, key=[*Phase].index), "it never went back"
        assert status.context_length == 8192 and status.place is not None
        assert status.place.node == node and status.place.namespace == namespace
        assert status.place.drift == () and status.place.trouble is None
        # What it was told while it loaded is in its log.
        log = "\n".join([line async for line in client.server_log(started.id)])
        assert "Loading safetensors checkpoint shards: 100%" in log

        assert "Paris" in await prompted(client)

        stopped = await client.stop_server(started.id)
        assert stopped.phase is Phase.STOPPED
        assert len(await left(cluster, namespace)) > 0, "its objects stay"
        assert "Paris" in await prompted(client)
        assert (await client.server(started.id)).phase is Phase.READY

        await client.stop_server(started.id)
        await client.remove_server(started.id)
        assert await client.servers() == []
        await nothing_left(cluster, namespace)


async def test_a_pod_that_goes_in_the_middle_of_an_answer_is_told_and_replaced(
    use_cluster: Access, cluster: Cluster, namespace: str, node: str
) -> None:
    connect(use_cluster, namespace, node, TEST_PAUSE_MS="1000")
    async with running_controller({}, managers=local_managers) as controller:
        client = controller.client
        events = client.prompt(question())
        place = None
        ended: RunEnded | None = None
        async with aclosing(events):
            async for event in events:
                if isinstance(event, RunText) and place is None:
                    (server,) = await client.servers()
                    place = server.place
                    assert place is not None and place.pod is not None
                    path = f"/api/v1/namespaces/{namespace}/pods/{place.pod}"
                    await cluster.delete(path, gracePeriodSeconds=0)
                if isinstance(event, RunEnded):
                    ended = event
        assert ended is not None and place is not None
        assert ended.run.status == "failed" and ended.run.error is not None
        assert ended.run.answer.startswith("The"), "what came is kept"
        # The cluster makes another pod, and nobody has to start anything.
        assert "Paris" in await prompted(client)
        (server,) = await client.servers()
        assert server.place is not None and server.place.pod != place.pod
        await client.stop_server(server.id)
        await client.remove_server(server.id)
        await nothing_left(cluster, namespace)


def meshtui(*words: str) -> str:
    """The output of the command that people type."""
    done = subprocess.run(
        [sys.executable, "-m", "meshtui", *words], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


async def test_the_command_line_serves_a_cluster_as_it_serves_this_machine(
    use_cluster: Access, cluster: Cluster, namespace: str, node: str
) -> None:
    connect(use_cluster, namespace, node)

    def by_hand() -> None:
        try:
            started = meshtui("server", "start", MODEL, "--wait", "--force")
            assert "Ready" in started
            assert "cloud" in meshtui("server", "list")
            shown = meshtui("server", "show", MODEL)
            assert f"{use_cluster.context}, {namespace}" in shown and f" on {node}" in shown
            assert "8,192 tokens" in shown and "vLLM" in shown
            assert "shards: 100% Completed" in meshtui("server", "logs", MODEL)
            assert meshtui("prompt", MODEL, "The capital of France?", "--force").strip() == (
                "The capital of France is Paris."
            )
            assert "Stopped" in meshtui("server", "stop", MODEL)
            meshtui("server", "remove", MODEL)
        finally:
            meshtui("controller", "stop")

    await asyncio.to_thread(by_hand)
    await nothing_left(cluster, namespace)

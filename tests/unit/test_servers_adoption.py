"""A controller that is killed loses no server: the next one takes them over."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from meshtui.deploy.local import read_record
from meshtui.deploy.servers import ServerManager, server_id
from meshtui.domain.server import Phase, ServerStatus
from meshtui.domain.task import Engine
from tests.layout import REPOSITORY
from tests.support.fake_servers import (
    CONNECTION,
    CONNECTION_VARIABLE,
    MODEL,
    FakeAdapter,
    ReadyModel,
    enabled,
    make_manager,
)
from tests.support.processes import is_running, marked
from tests.support.waiting import eventually

ID = server_id(CONNECTION.name, MODEL)

CONTROLLER = """
import asyncio, json, sys
from pathlib import Path
from tests.support.fake_servers import *

async def main():
    manager = make_manager(Path(sys.argv[1]))
    await manager.open()
    await manager.start(CONNECTION, enabled(*sys.argv[3:], idle_timeout_s=float(sys.argv[2])))
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Controller:
    """A controller in a process of its own, to be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self, *options: str, until: Phase, idle_timeout_s: float = 1200.0) -> None:
        command = [sys.executable, "-c", CONTROLLER, str(self.folder), str(idle_timeout_s)]
        environment = {**os.environ, CONNECTION_VARIABLE: CONNECTION.name}
        self.process = subprocess.Popen([*command, *options], cwd=REPOSITORY, env=environment)
        record = self.folder / ID / "server.json"

        def reached() -> bool:
            return record.exists() and f'"phase":"{until.value}"' in record.read_text()

        await eventually(reached, f"{until} is on disk")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[Controller]:
    controller = Controller(tmp_path / "servers")
    yield controller
    controller.kill()
    last = make_manager(controller.folder)
    await last.open()
    for status in last.list():
        await last.stop(status.id)
    await last.close()
    await eventually(lambda: not marked(ID), "no process of the server is left")


@pytest.fixture
async def next_one(tmp_path: Path) -> AsyncIterator[ServerManager]:
    """The next controller's manager, not opened yet."""
    manager = make_manager(tmp_path / "servers")
    yield manager
    await manager.close()


def ignore(status: ServerStatus) -> None:
    pass


async def reach(manager: ServerManager, phase: Phase) -> ServerStatus:
    await eventually(lambda: manager.get(ID).phase is phase, f"it is {phase}")
    return manager.get(ID)


async def test_a_ready_server_is_adopted_with_its_key(
    controller: Controller, next_one: ServerManager
) -> None:
    await controller.start(until=Phase.READY)
    controller.kill()
    (pid,) = marked(ID)
    await next_one.open()
    status = next_one.get(ID)
    assert status.phase is Phase.READY and status.pid == pid
    server = await next_one.ready(CONNECTION, enabled(), ignore)
    assert marked(ID) == [pid] and server.context_length == 2048
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.api_key}"}) as session,
        session.get(f"{server.base_url}/v1/models") as answer,
    ):
        assert answer.status == 200
    assert (await next_one.stop(ID)).phase is Phase.STOPPED
    assert not is_running(pid)


async def test_a_start_goes_on_where_it_was(
    controller: Controller, next_one: ServerManager, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    await controller.start("--stay-in", "weights", "--until", str(go), until=Phase.LOADING_WEIGHTS)
    controller.kill()
    (pid,) = marked(ID)
    await next_one.open()
    assert next_one.get(ID).phase is Phase.LOADING_WEIGHTS
    waiting = asyncio.ensure_future(next_one.ready(CONNECTION, enabled(), ignore))
    go.touch()
    server = await waiting
    assert marked(ID) == [pid] and server.context_length == 2048
    assert [record.phase for record in next_one.get(ID).phases] == [
        Phase.QUEUED,
        Phase.STARTING,
        Phase.LOADING_WEIGHTS,
        Phase.WARMING,
        Phase.READY,
    ]


async def test_an_adopted_start_that_fails_still_falls_back(
    controller: Controller, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    adapters = {engine: FakeAdapter(engine) for engine in Engine}
    crash = ("--crash-at", "warmup", "--crash-text", "ValueError: cannot be served")
    adapters[Engine.VLLM].options = ("--stay-in", "weights", "--until", str(go), *crash)
    first = make_manager(controller.folder, adapters=adapters, fallback=Engine.TRANSFORMERS)
    await first.open()
    await first.start(CONNECTION, enabled())
    await reach(first, Phase.LOADING_WEIGHTS)
    await first.close()
    second = make_manager(controller.folder, adapters=adapters, fallback=Engine.TRANSFORMERS)
    await second.open()
    go.touch()
    assert (await second.ready(CONNECTION, enabled(), ignore)).engine is Engine.TRANSFORMERS
    await second.close()


async def test_closing_a_controller_leaves_its_servers_alone(
    controller: Controller, next_one: ServerManager
) -> None:
    first = make_manager(controller.folder)
    await first.open()
    server = await first.ready(CONNECTION, enabled(), ignore)
    await first.close()
    await next_one.open()
    assert await next_one.ready(CONNECTION, enabled(), ignore) == server


async def test_two_controllers_at_once_kill_nothing(
    controller: Controller, next_one: ServerManager
) -> None:
    await controller.start("--stay-in", "weights", until=Phase.LOADING_WEIGHTS)
    other = make_manager(controller.folder)
    await asyncio.gather(next_one.open(), other.open())
    assert next_one.get(ID).phase is other.get(ID).phase is Phase.LOADING_WEIGHTS
    assert len(marked(ID)) == 1
    await other.stop(ID)
    assert (await reach(next_one, Phase.STOPPED)).explanation is None
    await other.close()


@pytest.mark.parametrize("state", ["ready", "weights"])
async def test_a_server_that_vanished_meanwhile_is_marked_and_reaped(
    controller: Controller, next_one: ServerManager, state: str
) -> None:
    options = ["--child", "setsid", "--child", "deaf"]
    options += ["--stay-in", "weights"] if state == "weights" else []
    phase = Phase.READY if state == "ready" else Phase.LOADING_WEIGHTS
    await controller.start(*options, until=phase)
    controller.kill()
    record = read_record(controller.folder / ID)
    assert record and record.guard_pid and record.engine_pid
    # Supervisor and guard at once: nobody is left to clean up but the next controller.
    for pid in (record.guard_pid, record.pid):
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not is_running(record.pid), "the supervisor is dead")
    await next_one.open()
    status = next_one.get(ID)
    assert status.phase is Phase.FAILED
    assert status.explanation and "while the controller was away" in status.explanation.cause
    assert not marked(ID)
    await next_one.ready(CONNECTION, enabled(), ignore)


async def test_an_engine_that_crashed_meanwhile_is_explained(
    controller: Controller, next_one: ServerManager
) -> None:
    await controller.start(until=Phase.READY)
    controller.kill()
    record = read_record(controller.folder / ID)
    assert record and record.engine_pid
    os.kill(record.engine_pid, signal.SIGKILL)
    await eventually(lambda: not is_running(record.pid), "the supervisor has ended")
    await next_one.open()
    status = next_one.get(ID)
    assert status.phase is Phase.FAILED
    assert status.explanation and status.explanation.failure_id == "killed"


async def test_an_engine_that_was_stopped_meanwhile_is_stopped(
    controller: Controller, next_one: ServerManager
) -> None:
    await controller.start(until=Phase.READY)
    controller.kill()
    record = read_record(controller.folder / ID)
    assert record
    os.kill(record.pid, signal.SIGTERM)
    await eventually(lambda: not is_running(record.pid), "the supervisor has ended")
    await next_one.open()
    assert next_one.get(ID).phase is Phase.STOPPED


async def test_a_stop_that_was_interrupted_is_finished(
    controller: Controller, next_one: ServerManager
) -> None:
    first = make_manager(controller.folder, adapters={Engine.VLLM: deaf()})
    await first.open()
    await first.ready(CONNECTION, enabled(), ignore)
    stopping = asyncio.ensure_future(first.stop(ID))
    await reach(first, Phase.STOPPING)
    await first.close()
    stopping.cancel()
    assert marked(ID)
    await next_one.open()
    await reach(next_one, Phase.STOPPED)
    assert not marked(ID)


def deaf() -> FakeAdapter:
    adapter = FakeAdapter(Engine.VLLM, "--ignore-sigterm", "always")
    adapter.grace_s = 30.0
    return adapter


async def test_the_idle_timeout_goes_on(controller: Controller, next_one: ServerManager) -> None:
    await controller.start(until=Phase.READY, idle_timeout_s=0.5)
    controller.kill()
    (pid,) = marked(ID)
    await next_one.open()
    status = await reach(next_one, Phase.STOPPED)
    assert status.current and "Nobody used it" in status.current.message
    assert not is_running(pid)


async def test_a_start_without_an_engine_yet_is_marked(
    controller: Controller, next_one: ServerManager, tmp_path: Path
) -> None:
    first = make_manager(controller.folder, models=ReadyModel(tmp_path, asyncio.Event()))
    await first.open()
    await first.start(CONNECTION, enabled())
    await reach(first, Phase.FETCHING_MODEL)
    await first.close()
    await next_one.open()
    status = next_one.get(ID)
    assert status.phase is Phase.FAILED
    assert status.explanation and status.explanation.failure_id == "controller-ended"


async def test_an_engine_that_hangs_is_not_adopted_for_good(
    controller: Controller, next_one: ServerManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshtui.deploy.starting._RECHECK_TIMEOUT_S", 0.5)
    await controller.start(until=Phase.READY)
    controller.kill()
    (pid,) = marked(ID)
    os.kill(pid, signal.SIGSTOP)
    await next_one.open()
    status = await reach(next_one, Phase.FAILED)
    assert status.explanation and "did not answer" in status.explanation.cause
    assert not is_running(pid)


async def test_a_broken_record_does_not_stop_a_controller(
    controller: Controller, next_one: ServerManager
) -> None:
    broken = controller.folder / "broken-123456"
    broken.mkdir(parents=True)
    (broken / "server.json").write_text("{")
    (controller.folder / "a-stray-file").touch()
    await next_one.open()
    assert next_one.list() == []


@pytest.mark.parametrize("broken", ["status", "phases", "id"])
async def test_a_server_whose_record_cannot_be_read_does_not_run_on_unseen(
    controller: Controller, next_one: ServerManager, broken: str
) -> None:
    await controller.start("--child", "setsid", until=Phase.READY)
    controller.kill()
    assert marked(ID)
    path = controller.folder / ID / "server.json"
    record = json.loads(path.read_text())
    if broken == "status":
        record["status"] = 1
    else:
        record["status"][broken] = {"phases": [], "id": "another"}[broken]
    path.write_text(json.dumps(record))
    await next_one.open()
    assert not marked(ID)
    assert next_one.list() == []


async def test_requests_of_a_killed_controller_do_not_count(
    controller: Controller, next_one: ServerManager
) -> None:
    await controller.start(until=Phase.READY)
    controller.kill()
    path = controller.folder / ID / "server.json"
    record = json.loads(path.read_text())
    record["status"]["active_requests"] = 3
    path.write_text(json.dumps(record))
    await next_one.open()
    assert next_one.get(ID).active_requests == 0


async def test_a_killed_controller_has_saved_what_it_knew(
    controller: Controller, next_one: ServerManager
) -> None:
    await controller.start(until=Phase.READY)
    await eventually(
        lambda: b'"memory_bytes":null' not in (controller.folder / ID / "server.json").read_bytes(),
        "its memory is on disk",
    )
    controller.kill()
    await next_one.open()
    status = next_one.get(ID)
    assert status.memory_bytes and status.ready_at and status.engine_reason == "It is a fake."

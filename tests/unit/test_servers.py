"""Servers: started once, shown in phases, stopped when asked or idle, explained when they fail."""

import asyncio
import os
import signal
import socket
import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meshtui.deploy.local import PREVIOUS_LOG_NAME, read_record
from meshtui.deploy.servers import ServerManager, server_id
from meshtui.domain.errors import Conflict, InvalidInput, NotFound, StartFailed
from meshtui.domain.server import Phase, ServerStatus
from meshtui.domain.task import Engine
from tests.support.fake_servers import (
    CONNECTION,
    MODEL,
    FakeAdapter,
    ReadyModel,
    ReadyRuntime,
    enabled,
    make_manager,
)
from tests.support.processes import is_running, marked
from tests.support.waiting import eventually

ID = server_id(CONNECTION.name, MODEL)
Make = Callable[..., ServerManager]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes managers of one folder of servers; at the end no process may be left."""
    made: list[ServerManager] = []

    def make(**more: Any) -> ServerManager:
        made.append(make_manager(tmp_path / "servers", **more))
        return made[-1]

    yield make
    for manager in made:
        await manager.close()
    last = make_manager(tmp_path / "servers")
    await last.open()
    for status in last.list():
        await last.stop(status.id)
    await last.close()
    await eventually(lambda: not marked(ID), "no process of the server is left")


@pytest.fixture
async def manager(make: Make) -> ServerManager:
    manager = make()
    await manager.open()
    return manager


def ignore(status: ServerStatus) -> None:
    pass


async def reach(manager: ServerManager, phase: Phase, server: str = ID) -> ServerStatus:
    await eventually(lambda: manager.get(server).phase is phase, f"{server} is {phase}")
    return manager.get(server)


def names(status: ServerStatus) -> list[str]:
    return [record.phase.value for record in status.phases]


async def test_a_start_goes_through_its_phases_to_an_answering_engine(make: Make) -> None:
    told: list[ServerStatus] = []
    manager = make(on_change=told.append)
    await manager.open()
    server = await manager.ready(CONNECTION, enabled("--phase-s", "0.15"), ignore)
    status = manager.get(server.server_id)
    assert names(status) == ["Queued", "Starting", "LoadingWeights", "Warming", "Ready"]
    assert all(
        a.ended_at == b.started_at for a, b in zip(status.phases, status.phases[1:], strict=False)
    )
    loading = status.phases[2]
    assert (loading.progress, loading.message) == (0.5, "Loaded 1 of 2 weight files")
    assert (status.engine, status.engine_reason) == (Engine.VLLM, "It is a fake.")
    assert (status.engine_version, status.context_length) == ("0.32.0", 2048)
    assert status.pid and is_running(status.pid) and status.ready_at and status.stops_at
    assert server.context_length == 2048 and server.model == MODEL
    assert server.api_key not in " ".join(status.command)
    seen = list(dict.fromkeys(s.phase for s in told))
    assert seen[0] is Phase.QUEUED and seen[-1] is Phase.READY
    async with aiohttp.ClientSession() as session:
        url = f"{server.base_url}/v1/models"
        async with session.get(url) as refused:
            assert refused.status == 401
        headers = {"Authorization": f"Bearer {server.api_key}"}
        async with session.get(url, headers=headers) as answer:
            assert answer.status == 200
    await eventually(lambda: manager.get(ID).memory_bytes, "its memory")


async def test_the_key_is_private(manager: ServerManager, tmp_path: Path) -> None:
    server = await manager.ready(CONNECTION, enabled(), ignore)
    key = tmp_path / "servers" / ID / "key"
    assert key.read_text() == server.api_key
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


async def test_two_prompts_start_one_server(manager: ServerManager) -> None:
    first, second = await asyncio.gather(
        manager.ready(CONNECTION, enabled(), ignore), manager.ready(CONNECTION, enabled(), ignore)
    )
    assert first == second
    third = await manager.ready(CONNECTION, enabled(), ignore)
    assert third == first
    assert len(manager.list()) == 1
    assert len(set(marked(ID))) == 1


async def test_whoever_waits_sees_the_phases(manager: ServerManager) -> None:
    seen: list[Phase] = []
    await manager.ready(
        CONNECTION, enabled("--phase-s", "0.15"), lambda status: seen.append(status.phase)
    )
    assert list(dict.fromkeys(seen)) == [
        Phase.QUEUED,
        Phase.STARTING,
        Phase.LOADING_WEIGHTS,
        Phase.WARMING,
        Phase.READY,
    ]


async def test_starting_returns_at_once(manager: ServerManager) -> None:
    status = await manager.start(CONNECTION, enabled("--stay-in", "args"))
    assert status.phase is Phase.QUEUED
    assert manager.find(CONNECTION.name, MODEL) == status
    again = await manager.start(CONNECTION, enabled("--stay-in", "args"))
    assert again.created_at == status.created_at


async def test_leaving_the_wait_does_not_stop_the_start(manager: ServerManager) -> None:
    waiting = asyncio.ensure_future(manager.ready(CONNECTION, enabled(), ignore))
    await eventually(lambda: manager.find(CONNECTION.name, MODEL), "it has begun")
    waiting.cancel()
    await reach(manager, Phase.READY)


# -- stopping


async def test_a_stopped_server_leaves_its_log(manager: ServerManager) -> None:
    server = await manager.ready(CONNECTION, enabled("--child", "setsid"), ignore)
    pid = manager.get(ID).pid
    status = await manager.stop(server.server_id)
    assert status.phase is Phase.STOPPED and status.stopped_at and status.explanation is None
    assert (status.port, status.pid, status.memory_bytes, status.stops_at) == (None,) * 4
    assert pid and not is_running(pid) and not marked(ID)
    assert "startup complete" in manager.log_path(ID).read_text()
    assert await manager.stop(ID) == status  # again is no error
    await manager.ready(CONNECTION, enabled(), ignore)
    previous = manager.log_path(ID).with_name(PREVIOUS_LOG_NAME).read_text()
    assert f"pid={pid}" in previous and f"pid={pid}" not in manager.log_path(ID).read_text()


@pytest.mark.parametrize("phase", ["args", "core", "weights", "warmup"])
async def test_a_start_can_be_stopped_in_every_phase(manager: ServerManager, phase: str) -> None:
    wanted = {"weights": Phase.LOADING_WEIGHTS, "warmup": Phase.WARMING}.get(phase, Phase.STARTING)
    waiting = asyncio.ensure_future(
        manager.ready(CONNECTION, enabled("--stay-in", phase, "--child", "deaf"), ignore)
    )
    await eventually(lambda: manager.find(CONNECTION.name, MODEL), "it has begun")
    await reach(manager, wanted)
    begin = time.monotonic()
    status = await manager.stop(ID)
    assert time.monotonic() - begin < 3.0
    assert status.phase is Phase.STOPPED and not marked(ID)
    with pytest.raises(StartFailed, match="stopped while it was starting"):
        await waiting


async def test_stopping_before_there_is_an_engine(make: Make) -> None:
    for providers, phase in (
        ({"runtimes": ReadyRuntime(asyncio.Event())}, Phase.BUILDING_RUNTIME),
        ({"models": ReadyModel(Path("/"), asyncio.Event())}, Phase.FETCHING_MODEL),
    ):
        manager = make(**providers)
        await manager.open()
        await manager.start(CONNECTION, enabled())
        status = await reach(manager, phase)
        assert status.current and status.current.progress and status.current.message
        assert (await manager.stop(ID)).phase is Phase.STOPPED
        await manager.close()


async def test_a_start_during_a_stop_follows_it(make: Make) -> None:
    adapter = FakeAdapter(Engine.VLLM, "--ignore-sigterm", "always")
    adapter.grace_s = 0.5
    manager = make(adapters={Engine.VLLM: adapter})
    await manager.open()
    await manager.ready(CONNECTION, enabled(), ignore)
    first = manager.get(ID).pid
    stopping = asyncio.ensure_future(manager.stop(ID))
    await reach(manager, Phase.STOPPING)
    await manager.ready(CONNECTION, enabled(), ignore)
    await stopping
    status = manager.get(ID)
    assert status.phase is Phase.READY and status.pid != first
    assert first and not is_running(first)


async def test_stops_and_starts_in_a_row_end_as_the_last_one_says(make: Make) -> None:
    adapter = FakeAdapter(Engine.VLLM, "--ignore-sigterm", "always")
    adapter.grace_s = 0.3
    manager = make(adapters={Engine.VLLM: adapter})
    await manager.open()
    await manager.ready(CONNECTION, enabled(), ignore)
    stopping = asyncio.ensure_future(manager.stop(ID))
    await reach(manager, Phase.STOPPING)
    waiting = asyncio.ensure_future(manager.ready(CONNECTION, enabled(), ignore))
    await asyncio.sleep(0)
    again = await manager.stop(ID)
    assert again.phase is Phase.STOPPED and (await stopping).phase is Phase.STOPPED
    with pytest.raises(StartFailed):
        await waiting
    assert not marked(ID)


async def test_only_a_server_that_is_over_can_be_removed(make: Make, tmp_path: Path) -> None:
    removed: list[str] = []
    manager = make(on_removed=removed.append)
    await manager.open()
    await manager.ready(CONNECTION, enabled(), ignore)
    with pytest.raises(Conflict):
        await manager.remove(ID)
    await manager.stop(ID)
    await manager.remove(ID)
    assert removed == [ID] and manager.list() == []
    assert not (tmp_path / "servers" / ID).exists()
    for call in (manager.get, manager.log_path):
        with pytest.raises(NotFound):
            call(ID)


# -- idle


async def test_an_idle_server_stops(manager: ServerManager) -> None:
    await manager.ready(CONNECTION, enabled(idle_timeout_s=0.4), ignore)
    status = await reach(manager, Phase.STOPPED)
    assert status.current and "Nobody used it" in status.current.message


async def test_a_request_defers_the_idle_stop(manager: ServerManager) -> None:
    server = await manager.ready(CONNECTION, enabled(idle_timeout_s=0.4), ignore)
    begin = time.time()
    with manager.lease(server.server_id), manager.lease(server.server_id):
        status = manager.get(ID)
        assert (status.active_requests, status.stops_at) == (2, None)
        await eventually(lambda: time.time() - begin > 0.8, "twice the timeout has passed")
        assert manager.get(ID).phase is Phase.READY
    released = manager.get(ID)
    assert released.stops_at and released.last_used_at and released.last_used_at - begin > 0.8
    stopped = await reach(manager, Phase.STOPPED)
    assert stopped.stopped_at and stopped.stopped_at - released.last_used_at >= 0.4


async def test_zero_means_never(manager: ServerManager) -> None:
    await manager.ready(CONNECTION, enabled(idle_timeout_s=0), ignore)
    assert manager.get(ID).stops_at is None


# -- failing


async def test_a_crash_at_start_is_explained(manager: ServerManager) -> None:
    broken = enabled(
        "--crash-at", "weights", "--crash-text", "torch.OutOfMemoryError: CUDA out of memory."
    )
    with pytest.raises(StartFailed) as failure:
        await manager.ready(CONNECTION, broken, ignore)
    assert failure.value.explanation and "memory" in failure.value.explanation.cause
    status = manager.get(ID)
    assert status.phase is Phase.FAILED and status.explanation == failure.value.explanation
    assert status.explanation.fix and not marked(ID)
    await manager.ready(CONNECTION, enabled(), ignore)  # the next start is a new one
    assert manager.get(ID).explanation is None


async def test_an_engine_that_never_answers_is_given_up(make: Make) -> None:
    adapter = FakeAdapter(Engine.VLLM, "--stay-in", "weights")
    adapter.start_timeout_s = 1.5
    manager = make(adapters={Engine.VLLM: adapter})
    await manager.open()
    with pytest.raises(StartFailed, match="did not answer in time"):
        await manager.ready(CONNECTION, enabled(), ignore)
    assert manager.get(ID).phase is Phase.FAILED and not marked(ID)


@pytest.mark.parametrize("victim", ["engine", "supervisor"])
async def test_a_crash_while_ready_is_told_and_the_next_start_works(
    manager: ServerManager, tmp_path: Path, victim: str
) -> None:
    await manager.ready(CONNECTION, enabled("--child", "setsid"), ignore)
    status = manager.get(ID)
    pid = status.pid if victim == "engine" else supervisor_pid(tmp_path)
    assert pid
    os.kill(pid, signal.SIGKILL)
    status = await reach(manager, Phase.FAILED)
    assert status.explanation and status.explanation.failure_id == (
        "killed" if victim == "engine" else "supervisor-killed"
    )
    assert not marked(ID)
    await manager.ready(CONNECTION, enabled(), ignore)


@pytest.mark.parametrize("victim", ["engine", "supervisor"])
async def test_a_kill_while_loading_ends_in_failed(
    manager: ServerManager, tmp_path: Path, victim: str
) -> None:
    options = ("--stay-in", "weights", "--child", "deaf", "--child", "setsid")
    await manager.start(CONNECTION, enabled(*options))
    status = await reach(manager, Phase.LOADING_WEIGHTS)
    pid = status.pid if victim == "engine" else supervisor_pid(tmp_path)
    assert pid
    os.kill(pid, signal.SIGKILL)
    await reach(manager, Phase.FAILED)
    assert not marked(ID)


def supervisor_pid(tmp_path: Path) -> int:
    record = read_record(tmp_path / "servers" / ID)
    assert record
    return record.pid


async def test_another_port_is_tried_when_one_is_taken(make: Make) -> None:
    adapter = FakeAdapter(Engine.VLLM)
    manager = make(adapters={Engine.VLLM: adapter})
    await manager.open()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        adapter.ports = [taken.getsockname()[1]]
        await manager.ready(CONNECTION, enabled(), ignore)
        assert any("port" in notice for notice in manager.get(ID).notices)
        await manager.stop(ID)
        adapter.ports = [taken.getsockname()[1]] * 2
        with pytest.raises(StartFailed, match="port"):
            await manager.ready(CONNECTION, enabled(), ignore)


async def test_auto_falls_back_when_the_first_engine_does_not_start(make: Make) -> None:
    adapters = {
        Engine.VLLM: FakeAdapter(
            Engine.VLLM, "--crash-at", "core", "--crash-text", "ValueError: no such architecture"
        ),
        Engine.TRANSFORMERS: FakeAdapter(Engine.TRANSFORMERS),
    }
    manager = make(adapters=adapters, fallback=Engine.TRANSFORMERS)
    await manager.open()
    server = await manager.ready(CONNECTION, enabled(), ignore)
    assert server.engine is Engine.TRANSFORMERS
    status = manager.get(ID)
    assert status.engine is Engine.TRANSFORMERS
    assert "no such architecture" in status.engine_reason
    assert any("Trying transformers" in notice for notice in status.notices)
    previous = manager.log_path(ID).with_name(PREVIOUS_LOG_NAME).read_text()
    assert "no such architecture" in previous


async def test_what_another_engine_cannot_help_does_not_fall_back(make: Make) -> None:
    crash = ("--crash-at", "core", "--crash-signal", str(int(signal.SIGKILL)))
    adapters = {engine: FakeAdapter(engine, *crash) for engine in Engine}
    manager = make(adapters=adapters, fallback=Engine.TRANSFORMERS)
    await manager.open()
    with pytest.raises(StartFailed):
        await manager.ready(CONNECTION, enabled(), ignore)
    assert manager.get(ID).engine is Engine.VLLM and not manager.get(ID).notices


async def test_when_both_engines_fail_the_first_reason_is_kept(make: Make) -> None:
    crash = ("--crash-at", "args", "--crash-text")
    adapters = {
        Engine.VLLM: FakeAdapter(Engine.VLLM, *crash, "ValueError: the first"),
        Engine.TRANSFORMERS: FakeAdapter(Engine.TRANSFORMERS, *crash, "ValueError: the second"),
    }
    manager = make(adapters=adapters, fallback=Engine.TRANSFORMERS)
    await manager.open()
    with pytest.raises(StartFailed, match="the second"):
        await manager.ready(CONNECTION, enabled(), ignore)
    assert "the first" in manager.get(ID).notices[0]


async def test_errors_of_runtime_and_model_become_the_reason(make: Make) -> None:
    refused = InvalidInput("No such model on the Hub.", hint="Look at its name.")
    manager = make(models=ReadyModel(Path("/"), error=refused))
    await manager.open()
    with pytest.raises(StartFailed, match="No such model") as failure:
        await manager.ready(CONNECTION, enabled(), ignore)
    assert failure.value.explanation and failure.value.explanation.fix == "Look at its name."


async def test_a_bug_in_a_part_does_not_end_in_an_endless_spinner(make: Make) -> None:
    manager = make(models=ReadyModel(Path("/"), error=ZeroDivisionError("oops")))
    await manager.open()
    with pytest.raises(StartFailed, match="Something in meshtui failed"):
        await manager.ready(CONNECTION, enabled(), ignore)
    assert manager.get(ID).phase is Phase.FAILED


async def test_no_room_for_the_log_is_said(make: Make, tmp_path: Path) -> None:
    manager = make()
    await manager.open()
    (tmp_path / "servers" / ID).touch()  # a file where the server's folder should be
    with pytest.raises(StartFailed, match="did not allow it"):
        await manager.ready(CONNECTION, enabled(), ignore)
    (tmp_path / "servers" / ID).unlink()
    await manager.ready(CONNECTION, enabled(), ignore)


async def test_what_an_engine_writes_is_shown_harmlessly(manager: ServerManager) -> None:
    hostile = "ValueError: \x1b]0;owned\x07 \x1b[31m [bold]red[/] \u202etxt.exe"
    with pytest.raises(StartFailed) as failure:
        await manager.ready(
            CONNECTION, enabled("--crash-at", "args", "--crash-text", hostile), ignore
        )
    explanation = failure.value.explanation
    assert explanation and "[bold]red[/]" in explanation.cause
    shown = explanation.cause + explanation.excerpt + str(failure.value)
    assert not set(shown) & set("\x1b\x07\u202e")


async def test_an_environment_that_is_not_utf8_is_no_obstacle(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD", os.fsdecode(b"\xff\xfe"))
    manager = make()
    await manager.open()
    await manager.ready(CONNECTION, enabled(), ignore)
    (pid,) = marked(ID)
    assert b"ODD=\xff\xfe\0" in Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_failing_listener_harms_nobody(make: Make) -> None:
    def broken(status: ServerStatus) -> None:
        raise RuntimeError("a broken listener")

    manager = make(on_change=broken)
    await manager.open()
    await manager.ready(CONNECTION, enabled(), ignore)


# -- names


@pytest.mark.parametrize(
    ("model", "slug"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m-instruct"),
        ("org/7B_v1.5", "m-7b-v1-5"),
        ("org/name@v2", "name"),
        ("org/" + "x" * 80, "x" * 40),
    ],
)
def test_server_names_fit_kubernetes(model: str, slug: str) -> None:
    name = server_id("local", model)
    assert name.rpartition("-")[0] == slug and len(name) <= 63
    assert name != server_id("other", model)

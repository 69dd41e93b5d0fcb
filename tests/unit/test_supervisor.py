"""Whatever is killed, with whatever signal, nothing of an engine outlives its server."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from meshtui.deploy.local import (
    LOG_NAME,
    OLDER_LOG_NAME,
    EngineCommand,
    EngineProcess,
    SupervisorRecord,
    read_record,
    reap_orphans,
)
from meshtui.deploy.logtail import LogTail, log_end
from meshtui.deploy.members import process_stat
from meshtui.deploy.process import ProcessId, free_port, memory_bytes
from meshtui.domain.errors import StartFailed
from tests.support.processes import is_running, marked
from tests.support.waiting import eventually

FAKE_ENGINE = Path(__file__).parent.parent / "fake_engine.py"
SERVER = f"test-server-{os.getpid()}"

Start = Callable[..., Coroutine[Any, Any, EngineProcess]]


def command(
    *options: str, nonce: str = "first", grace_s: float = 5.0, log_bytes: int = 1 << 20
) -> EngineCommand:
    port = free_port()
    return EngineCommand(
        server_id=SERVER,
        nonce=nonce,
        argv=[sys.executable, str(FAKE_ENGINE), "--port", str(port), *options],
        environment=dict(os.environ),
        port=port,
        grace_s=grace_s,
        log_bytes=log_bytes,
    )


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts fake engines; at the end nothing of them may be left."""
    started: list[EngineProcess] = []

    async def start(*options: str, until: str = "startup complete", **more: Any) -> EngineProcess:
        process = await EngineProcess.spawn(tmp_path, command(*options, **more))
        started.append(process)
        await eventually(lambda: until in log_end(tmp_path), f"{until!r} in the log")
        return process

    yield start
    for process in started:
        if not process.ended:
            await process.end(grace_s=None)
        await process.detach()
    await eventually(lambda: not marked(SERVER), "nothing of the engine is left")


def engine_pid(process: EngineProcess) -> int:
    assert process.record.engine_pid
    return process.record.engine_pid


async def with_children(start: Start, *options: str) -> tuple[EngineProcess, list[int]]:
    """An engine with a child in its session, one that called setsid and one deaf to signals."""
    kinds = ("plain", "setsid", "deaf")
    process = await start(*(part for kind in kinds for part in ("--child", kind)), *options)
    pids = [stat.pid for stat in await asyncio.to_thread(process.members)]
    assert len(pids) == 4
    return process, pids


async def ended(process: EngineProcess) -> SupervisorRecord:
    async with asyncio.timeout(20):
        return await process.exited()


async def test_a_ready_engine_ends_by_itself_when_it_is_stopped(start: Start) -> None:
    process, pids = await with_children(start)
    record = await process.end(grace_s=5.0)
    assert (record.state, record.exit_code, record.stop_requested) == ("exited", 0, "stop")
    assert not any(map(is_running, pids))


async def test_an_engine_that_ignores_sigterm_is_killed_after_its_grace(start: Start) -> None:
    process = await start("--ignore-sigterm", "always", grace_s=0.3)
    record = await process.end(grace_s=0.3)
    assert (record.state, record.exit_code) == ("exited", -signal.SIGKILL)


async def test_a_starting_engine_is_killed_at_once(start: Start) -> None:
    process = await start("--stay-in", "weights", "--child", "deaf", until="Loading safetensors")
    record = await process.end(grace_s=None)
    assert (record.stop_requested, record.exit_code) == ("kill", -signal.SIGKILL)
    assert not marked(SERVER)


@pytest.mark.parametrize("stage", ["weights", "ready"])
async def test_when_the_engine_is_killed_its_children_go_too(start: Start, stage: str) -> None:
    options = ("--child", "plain", "--child", "setsid", "--child", "deaf")
    until = "startup complete"
    if stage == "weights":
        options, until = (*options, "--stay-in", "weights"), "Loading safetensors"
    process = await start(*options, until=until)
    os.kill(engine_pid(process), signal.SIGKILL)
    record = await ended(process)
    assert (record.state, record.exit_code) == ("exited", -signal.SIGKILL)
    assert record.stop_requested is None
    assert not marked(SERVER)


async def test_a_killed_grandchild_is_the_engines_own_affair(start: Start) -> None:
    process, pids = await with_children(start)
    child = next(pid for pid in pids if pid != engine_pid(process))
    os.kill(child, signal.SIGKILL)
    await eventually(lambda: not is_running(child), "the child is gone")
    assert is_running(engine_pid(process))
    await process.end(grace_s=5.0)


@pytest.mark.parametrize("stage", ["weights", "ready"])
async def test_when_the_supervisor_is_killed_everything_goes(start: Start, stage: str) -> None:
    options = ("--child", "plain", "--child", "setsid", "--child", "deaf")
    until = "startup complete"
    if stage == "weights":
        options, until = (*options, "--stay-in", "weights"), "Loading safetensors"
    process = await start(*options, until=until)
    os.kill(process.record.pid, signal.SIGKILL)
    record = await ended(process)
    assert record.state == "running"  # nobody was left to write down more
    assert not marked(SERVER)


async def test_the_guard_alone_ends_the_engine_of_a_killed_supervisor(start: Start) -> None:
    process, pids = await with_children(start)
    await process.detach()  # as if the controller had died: nobody else cleans up
    os.kill(process.record.pid, signal.SIGKILL)
    await eventually(lambda: not any(map(is_running, pids)), "the guard killed all")


async def test_a_killed_guard_is_replaced(start: Start, tmp_path: Path) -> None:
    process, pids = await with_children(start)
    first = process.record.guard_pid
    assert first
    os.kill(first, signal.SIGKILL)

    def second() -> int | None:
        record = read_record(tmp_path)
        return record.guard_pid if record and record.guard_pid != first else None

    await eventually(second, "a new guard")
    assert is_running(engine_pid(process))
    await process.detach()
    os.kill(process.record.pid, signal.SIGKILL)
    await eventually(lambda: not any(map(is_running, pids)), "the new guard killed all")


async def test_when_guard_and_supervisor_are_killed_the_controller_cleans_up(start: Start) -> None:
    process, pids = await with_children(start)
    assert process.record.guard_pid
    os.kill(process.record.guard_pid, signal.SIGKILL)
    os.kill(process.record.pid, signal.SIGKILL)
    await ended(process)
    assert not any(map(is_running, pids))


async def test_what_everybody_was_killed_around_is_reaped_later(start: Start) -> None:
    process, pids = await with_children(start)
    await process.detach()
    record = process.record
    assert record.guard_pid
    for pid in (record.guard_pid, record.pid, engine_pid(process)):
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not record.identity.is_alive(), "the supervisor is dead")
    assert reap_orphans(record) == []
    assert not any(map(is_running, pids))


async def test_orphans_of_another_start_are_left_alone(start: Start) -> None:
    process, pids = await with_children(start)
    other = SupervisorRecord(
        server=SERVER,
        nonce="other",
        port=1,
        boot=process.record.boot,
        pid=process.record.pid,
        start_ticks=1,
        engine_pid=process.record.engine_pid,
        engine_start_ticks=1,
        state="running",
        started_at=0.0,
    )
    reap_orphans(other)
    assert all(map(is_running, pids))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
async def test_terminal_signals_do_not_touch_it(start: Start, number: signal.Signals) -> None:
    process = await start()
    os.kill(process.record.pid, number)
    record = await process.end(grace_s=5.0)  # signals are delivered in no order, but all of them
    assert record.exit_code == 0


async def test_it_is_adopted_by_nonce_pid_and_start_time(start: Start, tmp_path: Path) -> None:
    process = await start()
    await process.detach()
    assert await EngineProcess.adopt(tmp_path, "other") is None
    found = ProcessId(process.record.pid, process.record.start_ticks + 1, process.record.boot)
    assert not found.is_alive()
    adopted = await EngineProcess.adopt(tmp_path, "first")
    assert adopted is not None
    record = await adopted.end(grace_s=5.0)
    assert record.exit_code == 0
    assert await EngineProcess.adopt(tmp_path, "first") is None


async def test_a_supervisor_that_hangs_is_killed_when_it_is_to_end(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshtui.deploy.local._STOP_MARGIN_S", 0.3)
    process, pids = await with_children(start)
    os.kill(process.record.pid, signal.SIGSTOP)
    await process.end(grace_s=0.1)
    assert not any(map(is_running, pids))


async def test_a_program_that_cannot_be_run_is_reported(tmp_path: Path) -> None:
    broken = EngineCommand(
        server_id=SERVER,
        nonce="n",
        argv=[str(tmp_path / "missing")],
        environment={},
        port=1,
        grace_s=1.0,
    )
    with pytest.raises(StartFailed, match="No such file"):
        await EngineProcess.spawn(tmp_path, broken)
    record = read_record(tmp_path)
    assert record and (record.state, record.exit_code) == ("exited", 127)


async def test_shared_memory_of_a_killed_engine_is_unlinked(start: Start, tmp_path: Path) -> None:
    process = await start("--shared-memory")
    line = next(x for x in log_end(tmp_path).splitlines() if x.startswith("shared memory "))
    memory = Path("/dev/shm", line.removeprefix("shared memory "))
    assert memory.exists()
    os.kill(engine_pid(process), signal.SIGKILL)
    await ended(process)
    assert not memory.exists()


async def test_shared_memory_goes_also_when_all_are_killed_at_once(
    start: Start, tmp_path: Path
) -> None:
    process = await start("--shared-memory")
    line = next(x for x in log_end(tmp_path).splitlines() if x.startswith("shared memory "))
    await process.end(grace_s=None)
    assert not Path("/dev/shm", line.removeprefix("shared memory ")).exists()


async def test_a_chatty_engine_cannot_fill_the_disk(start: Start, tmp_path: Path) -> None:
    limit_bytes = 200_000
    process = await start("--chatter-bytes", "1000000", log_bytes=limit_bytes)
    sizes = [(tmp_path / name).stat().st_size for name in (LOG_NAME, OLDER_LOG_NAME)]
    assert all(sizes) and sum(sizes) <= limit_bytes
    assert "startup complete" in log_end(tmp_path)
    await process.end(grace_s=5.0)


async def test_the_log_is_followed_across_rotation(start: Start, tmp_path: Path) -> None:
    go = tmp_path / "go"
    options = ("--stay-in", "weights", "--until", str(go), "--chatter-bytes", "150000")
    await start(*options, until="Loading safetensors", log_bytes=200_000)
    tail = LogTail(tmp_path)
    lines = tail.read()
    assert "non-default args" in lines[0]
    assert any("50% Completed" in line and "\r" not in line for line in lines)
    go.touch()
    await eventually(lambda: "startup complete" in log_end(tmp_path), "ready")
    assert (tmp_path / OLDER_LOG_NAME).exists()
    while more := tail.read():
        lines += more
    tail.close()
    assert sum("chatter" in line for line in lines) == 150000 // 121
    assert "startup complete" in lines[-1]


async def test_secrets_are_on_no_command_line(start: Start, tmp_path: Path) -> None:
    secret = "a-secret-that-nobody-may-see"
    base = command()
    given = EngineCommand(
        server_id=base.server_id,
        nonce=base.nonce,
        argv=base.argv,
        environment={**base.environment, "FAKE_ENGINE_KEY": secret},
        port=base.port,
        grace_s=5.0,
    )
    process = await EngineProcess.spawn(tmp_path, given)
    try:
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout
        assert secret.encode() not in listing
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert files and not any(secret.encode() in path.read_bytes() for path in files)
        own = Path(f"/proc/{process.record.pid}/environ").read_bytes()
        assert secret.encode() not in own
    finally:
        await process.end(grace_s=None)


async def test_it_is_small_and_quiet(start: Start) -> None:
    process = await start()
    assert process.record.guard_pid
    own = [process.record.pid, process.record.guard_pid]

    def switches() -> int:
        lines = [Path(f"/proc/{pid}/status").read_text().splitlines() for pid in own]
        return sum(int(line.split()[1]) for some in lines for line in some if "ctxt" in line)

    await eventually(lambda: "\nState:\tS" in Path(f"/proc/{own[0]}/status").read_text(), "idle")
    before = switches()
    await asyncio.to_thread(subprocess.run, ["sleep", "0.5"], check=True)
    assert switches() == before  # nobody polls
    stats = [stat for pid in own if (stat := process_stat(pid))]
    assert memory_bytes(stats) < 16 * 1024 * 1024

"""Engines as processes of this machine, each under a supervisor that outlives the controller."""

import asyncio
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import msgspec

from meshtui.deploy import supervisor
from meshtui.deploy.members import ProcessStat, boot_id, destroy, find_members, marker, process_stat
from meshtui.deploy.process import ProcessId, memory_bytes, wait_for_exit
from meshtui.domain.errors import StartFailed
from meshtui.domain.text import one_line

LOG_NAME = supervisor.LOG_NAME
OLDER_LOG_NAME = supervisor.OLDER_LOG_NAME
PREVIOUS_LOG_NAME = "engine.previous.log"
_SUPERVISOR_LOG_NAME = "supervisor.log"

DEFAULT_LOG_BYTES = 32 * 1024 * 1024
_ANSWER_TIMEOUT_S = 30.0
# How long past the grace a supervisor may take to end its engine before it is killed itself.
_STOP_MARGIN_S = 25.0


class SupervisorRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor writes down about itself and its engine. `exit_code` is negative for a
    signal; `left` are the pids that could not be killed."""

    server: str
    nonce: str
    port: int
    boot: str
    pid: int
    start_ticks: int
    guard_pid: int | None = None
    engine_pid: int | None = None
    engine_start_ticks: int | None = None
    state: Literal["starting", "running", "stopping", "exited"]
    started_at: float
    stop_requested: Literal["stop", "kill"] | None = None
    exited_at: float | None = None
    exit_code: int | None = None
    error: str | None = None
    left: tuple[int, ...] = ()

    @property
    def was_stopped(self) -> bool:
        """Whether it ended because somebody asked for it."""
        return self.state == "exited" and self.stop_requested is not None

    @property
    def identity(self) -> ProcessId:
        return ProcessId(self.pid, self.start_ticks, self.boot)


class EngineCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor is to run, and how. `environment` is all that the engine gets."""

    server_id: str
    nonce: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    port: int
    grace_s: float
    log_bytes: int = DEFAULT_LOG_BYTES


def read_record(folder: Path) -> SupervisorRecord | None:
    """The supervisor's record in a server's folder; None where there is none (yet)."""
    try:
        return msgspec.json.decode(
            (folder / supervisor.RECORD_NAME).read_bytes(), type=SupervisorRecord
        )
    except (OSError, msgspec.MsgspecError):
        return None


def keep_previous_log(folder: Path) -> None:
    """Makes room for a new start's log; the last start's stays readable."""
    with contextlib.suppress(FileNotFoundError):
        (folder / LOG_NAME).replace(folder / PREVIOUS_LOG_NAME)
    (folder / OLDER_LOG_NAME).unlink(missing_ok=True)


def reap_orphans(record: SupervisorRecord, *, just_died: bool = False) -> list[int]:
    """Kills what is left of an engine whose supervisor is dead; gives what could not be killed.

    Blocks until they are gone. The session's number can be another session's by now, unless the
    supervisor died just now or the engine's main process still has it: else only the marker in
    the environment counts.
    """
    if record.boot != boot_id():
        return []
    session = record.engine_pid
    if session is not None and not just_died:
        leader = process_stat(session)
        if leader is None or leader.start_ticks != record.engine_start_ticks:
            session = None
    marked = marker(record.server, record.nonce)
    return destroy(lambda: find_members(marked, session=session))


class EngineProcess:
    """A running supervisor and its engine. Make it with `spawn` or `adopt`; call `detach` when
    it is no longer watched."""

    def __init__(
        self, folder: Path, record: SupervisorRecord, child: subprocess.Popen[bytes] | None
    ) -> None:
        self.folder = folder
        self.record = record
        self._child = child
        self._exit = asyncio.get_running_loop().create_task(self._wait())

    @classmethod
    async def spawn(cls, folder: Path, command: EngineCommand) -> Self:
        """Starts a supervisor that survives this process. Raises `StartFailed` where it, or the
        engine's program, cannot be run. Cancelling it leaves a supervisor that nobody watches:
        shield it."""
        child, record = await asyncio.to_thread(_spawn, folder, command)
        return cls(folder, record, child)

    @classmethod
    async def adopt(cls, folder: Path, nonce: str) -> Self | None:
        """The supervisor of that very start, if it is alive."""
        record = await asyncio.to_thread(read_record, folder)
        if record is None or record.nonce != nonce or not record.identity.is_alive():
            return None
        return cls(folder, record, None)

    @property
    def ended(self) -> bool:
        return self._exit.done()

    async def exited(self) -> SupervisorRecord:
        """Waits until nothing is left of the engine. Where the record's state is not `exited`
        then, the supervisor was killed."""
        return await asyncio.shield(self._exit)

    def stop(self) -> None:
        """Asks the engine to end; it is killed after its grace."""
        self.record.identity.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the engine at once, whatever it is doing."""
        self.record.identity.signal(signal.SIGUSR1)

    async def end(self, *, grace_s: float | None) -> SupervisorRecord:
        """Stops (with a grace) or kills (None), and waits until all is gone."""
        if grace_s is None:
            self.kill()
        else:
            self.stop()
        try:
            async with asyncio.timeout((grace_s or 0.0) + _STOP_MARGIN_S):
                return await self.exited()
        except TimeoutError:
            # The supervisor hangs, or was stopped by a signal: its guard, or we, end the engine.
            self.record.identity.signal(signal.SIGKILL)
            return await self.exited()

    def members(self) -> list[ProcessStat]:
        """The engine's processes now. Blocks for some milliseconds."""
        record = read_record(self.folder) or self.record  # the guard may be another by now
        return find_members(
            marker(record.server, record.nonce),
            session=record.engine_pid,
            root=record.pid,
            without=[record.pid, record.guard_pid or 0],
        )

    def memory_bytes(self) -> int:
        """As `process.memory_bytes`, of all the engine's processes. Blocks."""
        return memory_bytes(self.members())

    async def detach(self) -> None:
        """Lets it live on, unwatched."""
        self._exit.cancel()
        await asyncio.wait({self._exit})

    async def _wait(self) -> SupervisorRecord:
        await wait_for_exit(self.record.identity)
        if self._child is not None:
            self._child.wait()  # it is a zombie now: this reaps it and does not block
        record = await asyncio.to_thread(read_record, self.folder)
        if record is None or record.nonce != self.record.nonce:
            record = self.record
        if record.state != "exited":
            await asyncio.to_thread(reap_orphans, record, just_died=True)
        return record


def _spawn(
    folder: Path, command: EngineCommand
) -> tuple[subprocess.Popen[bytes], SupervisorRecord]:
    config = {
        "server": command.server_id,
        "nonce": command.nonce,
        "folder": str(folder),
        "argv": list(command.argv),
        "environment": dict(command.environment),
        "port": command.port,
        "grace_s": command.grace_s,
        "log_bytes": command.log_bytes,
    }
    (folder / supervisor.RECORD_NAME).unlink(missing_ok=True)
    with (folder / _SUPERVISOR_LOG_NAME).open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(supervisor.__file__), command.server_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
    assert child.stdin and child.stdout
    with contextlib.suppress(BrokenPipeError), child.stdin:
        # Not msgspec: variables of the environment need not be UTF-8.
        child.stdin.write(json.dumps(config).encode())
    with child.stdout:
        heard = select.select([child.stdout], [], [], _ANSWER_TIMEOUT_S)[0]
        answer = child.stdout.readline() if heard else b""
    try:
        record = msgspec.json.decode(answer, type=SupervisorRecord)
    except msgspec.MsgspecError:
        child.kill()
        child.wait()
        said = one_line((folder / _SUPERVISOR_LOG_NAME).read_text(errors="replace")[-2000:])
        raise StartFailed(
            f"The server's supervisor did not start: {said or 'it said nothing'}.",
            hint=f"Look whether {shutil.which('python3') or sys.executable} and the disk work.",
        ) from None
    if record.error:
        child.wait()
        raise StartFailed(
            f"The engine's program could not be run: {one_line(record.error)}.",
            hint="Rebuild the runtime.",
        )
    return child, record

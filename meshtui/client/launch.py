"""Starts the controller as a process of its own, and sees it end."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from meshtui.controller.lock import ControllerLock
from meshtui.domain.errors import Unavailable
from meshtui.domain.text import one_line
from meshtui.settings.paths import controller_log_path

PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
_GONE_TIMEOUT_S = 15.0
_LOG_TAIL_BYTES = 4000


async def start_controller(socket: Path) -> Path:
    """Starts a controller on `socket`; returns the socket of the one that runs then.

    The new process says on its standard output, in one line, `ready SOCKET`, or `running SOCKET`
    where another one holds the lock, or `failed REASON`; nothing means that it died, and its log
    tells why (`Unavailable`). It leaves this process's family, session and folder, so that
    nothing of ours ends it and its end leaves nothing to reap.
    """
    log = controller_log_path()
    try:
        start = log.stat().st_size if log.exists() else 0
        errors = log.open("ab")
        log.chmod(0o600)
    except OSError as error:
        raise Unavailable(
            f"The controller's log {log} cannot be written: {error.strerror}.",
            hint="Look at the permissions of its folder, or set XDG_STATE_HOME to another one.",
        ) from error
    with errors:
        said = await _said_by(
            (sys.executable, "-m", "meshtui.controller", "--detach", "--socket", str(socket)),
            errors,
        )
    word, _, where = said.rstrip("\n").partition(" ")
    if word in ("ready", "running") and where:
        return Path(where)
    why = where if word == "failed" else await asyncio.to_thread(_last_words, log, start)
    raise Unavailable(f"The controller could not be started: {why}", hint=f"Its log: {log}")


async def _said_by(command: Sequence[str], errors: BinaryIO) -> str:
    """The first line of its output. The process that is started ends at once, and its child goes
    on with the pipe: it is ours to close, also where nobody waits for that line any more."""
    readable, writable = os.pipe()
    reader = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(readable, "rb", buffering=0)
    )
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writable,
                stderr=errors,
                start_new_session=True,
                cwd="/",
            )
        finally:
            os.close(writable)
        try:
            return (await reader.readline()).decode(errors="replace")
        finally:
            await process.wait()
    finally:
        pipe.close()


def told_socket() -> Path | None:
    """Where this user's controller says that it listens. A login without a runtime folder looks
    in another place than one with it."""
    holder = ControllerLock().holder()
    return None if holder is None else Path(holder.socket)


def running_pid() -> int | None:
    """The process of this user's controller, whether it answers or not; None where none runs."""
    holder = ControllerLock().live_holder()
    return None if holder is None else holder.pid


async def wait_until_gone(pid: int) -> None:
    """Returns when the process is no more; raises `Unavailable` if it stays."""
    try:
        async with asyncio.timeout(_GONE_TIMEOUT_S):
            # Not our child, so there is no exit to be told of.
            while _is_alive(pid):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise Unavailable(
            f"The controller (process {pid}) does not end.",
            hint=f"Its log: {controller_log_path()}",
        ) from None


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # The name, in brackets, may hold anything; the state is the field behind it.
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def _last_words(log: Path, start: int) -> str:
    """The last thing that the log says since `start`. Of a traceback that is the error itself:
    the frames before it are for the log alone."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(min(start, size), size - _LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return f"its log cannot be read ({error.strerror})."
    said = [line for line in lines if line.strip(" ^~")]
    return one_line(said[-1], 300) if said else "it ended without a word."

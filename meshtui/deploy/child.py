"""Runs installers and converters: their output line by line, and none outlives its owner."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_TRAMPOLINE = Path(__file__).with_name("with_parent.py")
_LINE_END = re.compile(r"[\r\n]")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
# A longer line is no progress line; it is cut so that a broken program cannot fill memory.
_MAX_LINE_CHARS = 64 * 1024


def without_credentials(text: str) -> str:
    """The text without `user:password@` in its URLs."""
    return _CREDENTIALS.sub("***@", text)


async def run_child(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    log: Path | None = None,
    on_start: Callable[[int], None] | None = None,
) -> int:
    """Runs a command to its end and gives its exit status (negative: killed by that signal).

    Standard output and error come merged, split at `\\n` and `\\r`, without credentials, to
    `on_line` and to the end of `log`. The child leads a session of its own; cancelling kills all
    of it, and so does the death of this process. Raises `OSError` where it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(_TRAMPOLINE),
        str(os.getpid()),
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        if on_start:
            on_start(process.pid)
        assert process.stdout is not None
        await _read(process.stdout, on_line, log)
        return await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _read(
    stream: asyncio.StreamReader, on_line: Callable[[str], None], log: Path | None
) -> None:
    held = ""
    while chunk := await stream.read(64 * 1024):
        *lines, held = _LINE_END.split(held + chunk.decode("utf-8", "replace"))
        held = held[:_MAX_LINE_CHARS]
        await _deliver(lines, on_line, log)
    await _deliver([held], on_line, log)


async def _deliver(lines: list[str], on_line: Callable[[str], None], log: Path | None) -> None:
    clean = [without_credentials(line) for line in lines if line.strip()]
    for line in clean:
        on_line(line)
    if log and clean:
        await asyncio.to_thread(append_log, log, "\n".join(clean))


def append_log(log: Path, text: str) -> None:
    """Adds whole lines to a log; blocks for as long as the disk does."""
    with log.open("a", encoding="utf-8", errors="replace") as file:
        file.write(text + "\n")

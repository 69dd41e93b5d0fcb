"""A process of its own for what cannot be done, or not be ended, inside the controller.

Two things need it. The Hub's client takes proxies and certificates from its environment only, so a
connection with others asks from a process that has them. And files that are too large for plain
HTTP come through Xet, whose transfer knows no end but that of its process.

The request comes as one line of JSON on standard input (it may hold a token), answers go out as
lines of JSON. The process dies with the one that started it.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec

from meshtui.domain.errors import ErrorInfo, MeshtuiError, error_from_info
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.errors import HubUnreachable
from meshtui.hub.model_files import HubFile, HubModel
from meshtui.hub.reach import Reach

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_MOST_LINE_BYTES = 64 * 1024 * 1024


class LookUp(msgspec.Struct, frozen=True, tag="look-up"):
    """What the Hub knows of a model: a `HubModel`."""

    parent: int
    reach: Reach
    ref: ModelRef


class Fetch(msgspec.Struct, frozen=True, tag="fetch"):
    """One file by Xet, into `part`: its SHA-256, or nothing where it is not offered so."""

    parent: int
    reach: Reach
    model: HubModel
    file: HubFile
    part: str


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line: how far it is, or, as the last one, the result or what went wrong. `is_found`: that
    much was there before. `retry_after_s` is what the Hub asked for."""

    done_bytes: int = 0
    is_found: bool = False
    is_last: bool = False
    result: Any = None
    error: ErrorInfo | None = None
    retry_after_s: float | None = None


async def ask(request: LookUp | Fetch, reach: Reach) -> AsyncGenerator[Answer, None]:
    """The answers of a worker to one request, the last one with its result. Closing the generator
    kills the worker, and so does the end of this process. Raises the `MeshtuiError` that it met,
    or `HubUnreachable`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meshtui.hub.worker"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **reach.environment},
        start_new_session=True,
        cwd="/",
        limit=_MOST_LINE_BYTES,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(request) + b"\n")
        process.stdin.close()
        async for line in process.stdout:
            answer = msgspec.json.decode(line, type=Answer)
            if answer.error is not None:
                raise _error(answer, answer.error)
            yield answer
            if answer.is_last:
                return
        status = await process.wait()
        raise HubUnreachable(
            f"The process that asks the Hub ended early (status {status}).",
            hint="Try again; what has come is kept.",
        )
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _error(answer: Answer, info: ErrorInfo) -> MeshtuiError:
    error = error_from_info(info)
    if isinstance(error, HubUnreachable):
        error.retry_after_s = answer.retry_after_s
    return error


def main() -> None:
    """The process: one request, its answers, the end."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=LookUp | Fetch)
    # The parent may have died before the setting took hold.
    if os.getppid() != request.parent:
        sys.exit(1)
    try:
        result = _look_up(request) if isinstance(request, LookUp) else _fetch(request)
        _say(Answer(is_last=True, result=result))
    except MeshtuiError as error:
        asked_s = getattr(error, "retry_after_s", None)
        _say(Answer(is_last=True, error=error.info(), retry_after_s=asked_s))
    # Threads of a library that hangs are no reason to stay.
    os._exit(0)


def _look_up(request: LookUp) -> HubModel:
    from meshtui.hub.model_files import look_up_here

    return look_up_here(request.ref, request.reach)


def _fetch(request: Fetch) -> str | None:
    from meshtui.hub.xet_stream import stream_to_part

    told = -1

    def finds(done_bytes: int) -> None:
        _say(Answer(done_bytes=done_bytes, is_found=True))

    def has(done_bytes: int) -> None:
        nonlocal told
        # Silence tells that nothing comes.
        if done_bytes != told:
            told = done_bytes
            _say(Answer(done_bytes=done_bytes))

    return stream_to_part(
        request.reach, request.model, request.file, Path(request.part), finds=finds, has=has
    )


def _say(answer: Answer) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

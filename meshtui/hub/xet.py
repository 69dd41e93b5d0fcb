"""Brings one file in by Xet, the Hub's way for what is too large for plain HTTP.

Its library knows no end to a transfer but that of its process, so it runs in one of its own, which
writes and hashes the part; cancelling kills it, and another one goes on from the part.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from meshtui.hub.errors import BrokenDownload, HubUnreachable
from meshtui.hub.model_files import HubFile, HubModel
from meshtui.hub.reach import Reach
from meshtui.hub.retries import DEFAULT_RETRIES, Retries
from meshtui.hub.transfer import Listener
from meshtui.hub.worker import Fetch, ask

# Transfers over bad networks were seen to hang for ever.
_SILENCE_S = 120.0


async def fetch_by_xet(
    reach: Reach,
    model: HubModel,
    file: HubFile,
    *,
    part: Path,
    target: Path,
    listener: Listener,
    retries: Retries = DEFAULT_RETRIES,
    silence_s: float = _SILENCE_S,
) -> str | None:
    """As `fetch_file`; None where the Hub does not offer the file by Xet. A process that brings
    nothing for `silence_s` is replaced."""
    request = Fetch(os.getpid(), reach, model, file, str(part))
    failures = 0
    corrupt = False
    come = 0

    def tell(size_bytes: int, *, is_found: bool = False) -> None:
        nonlocal come
        come = size_bytes
        if is_found:
            listener.finds(size_bytes)
        else:
            listener.has(size_bytes)

    while True:
        before = come
        try:
            digest = await _attempt(request, reach, tell, silence_s)
        except BrokenDownload:
            if corrupt:
                raise
            corrupt = True
            tell(0)
        except HubUnreachable as error:
            failures = 1 if come > before else failures + 1
            if failures >= retries.tries:
                raise
            pause_s = retries.pause_s(failures)
            listener.pauses(error.message, pause_s)
            await asyncio.sleep(pause_s)
        else:
            if digest is not None:
                tell(file.size_bytes)
                await asyncio.to_thread(_place, part, target)
            return digest


async def _attempt(
    request: Fetch, reach: Reach, tell: Callable[..., None], silence_s: float
) -> str | None:
    async with contextlib.aclosing(ask(request, reach)) as answers:
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    answer = await anext(answers)
            except TimeoutError:
                raise HubUnreachable(
                    f"Nothing came of {request.file.path} for {silence_s:g} s.",
                    hint="What has come is kept: start again to go on.",
                ) from None
            if answer.is_last:
                return None if answer.result is None else str(answer.result)
            tell(answer.done_bytes, is_found=answer.is_found)


def _place(part: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)

"""Brings one file in: resumable, hashed in the same pass, cancellable at once."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import aiohttp
from yarl import URL

from meshtui.domain.errors import MeshtuiError
from meshtui.hub.errors import BrokenDownload, HubUnreachable
from meshtui.hub.model_files import HubFile
from meshtui.hub.part_file import BLOCK_BYTES, PartFile
from meshtui.hub.retries import DEFAULT_RETRIES, Retries, retry_after_s

# The Hub's limits count in windows of five minutes; who asks for more is not waited for.
_LONGEST_ASKED_S = 900.0
# Over a slow link, more than that is not lost when this process is killed.
_KEPT_EVERY_S = 0.1


class _TryAgain(Exception):
    """A failure that may pass; `after_s` is the pause that the server asked for."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Listener(Protocol):
    """Who hears how a file is coming."""

    def finds(self, size_bytes: int) -> None:
        """So much of it is there from an earlier attempt."""

    def has(self, size_bytes: int) -> None:
        """So much of it is there now; less than before where what came was useless."""

    def pauses(self, reason: str, pause_s: float) -> None:
        """Nothing comes for so long, because of `reason`."""


async def fetch_file(
    session: aiohttp.ClientSession,
    url: str,
    file: HubFile,
    *,
    headers: Mapping[str, str],
    part: Path,
    target: Path,
    listener: Listener,
    refusal: Callable[[int, Mapping[str, str]], MeshtuiError],
    retries: Retries = DEFAULT_RETRIES,
) -> str:
    """Fetches `url` into `part`, then puts it at `target`; gives its SHA-256.

    What an earlier call left in `part` is hashed, not fetched again. Raises `BrokenDownload`
    when the content is not what its hash says even at a second try from the beginning,
    `HubUnreachable`, or what `refusal` makes of an HTTP status and its headers.
    """
    failures = 0
    corrupt = False
    sink = await _open(part, file, listener)
    try:
        while True:
            before = sink.size_bytes
            try:
                if not sink.is_complete:
                    await _fetch_rest(session, url, sink, headers, listener, refusal)
                digest = await asyncio.to_thread(sink.finish)
                break
            except BrokenDownload:
                if corrupt:
                    raise
                corrupt = True
                await asyncio.to_thread(sink.restart)
                listener.has(0)
            except (_TryAgain, aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                failures = 1 if sink.size_bytes > before else failures + 1
                reason = str(error) or type(error).__name__
                pause_s = _asked_s(error)
                if failures >= retries.tries or (pause_s or 0) > _LONGEST_ASKED_S:
                    raise HubUnreachable(
                        f"Downloading {file.path} failed: {reason}.",
                        hint="What has come is kept: start again to go on.",
                    ) from error
                pause_s = retries.pause_s(failures) if pause_s is None else pause_s
                listener.pauses(reason, pause_s)
                await asyncio.sleep(pause_s)
    finally:
        await asyncio.to_thread(sink.close)
    await asyncio.to_thread(sink.place, target)
    return digest


async def _open(part: Path, file: HubFile, listener: Listener) -> PartFile:
    """Hashing what is there of a large file takes a while: cancelled, it ends."""
    ended = threading.Event()

    def hashed(size_bytes: int) -> None:
        if ended.is_set():
            raise asyncio.CancelledError
        listener.finds(size_bytes)

    try:
        return await asyncio.to_thread(PartFile, part, file, hashed)
    except asyncio.CancelledError:
        ended.set()
        raise


async def _fetch_rest(
    session: aiohttp.ClientSession,
    url: str,
    sink: PartFile,
    headers: Mapping[str, str],
    listener: Listener,
    refusal: Callable[[int, Mapping[str, str]], MeshtuiError],
) -> None:
    start = sink.size_bytes
    asked = {**headers, "Range": f"bytes={start}-"} if start else dict(headers)
    async with session.get(url, headers=asked) as answer:
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise _TryAgain(f"status {answer.status}", retry_after_s(answer.headers))
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
            f"bytes {start}-"
        )
        if answer.status == 416 or (start and not resumed and answer.status in (200, 206)):
            # It does not know ranges, or has another file now: from the beginning.
            await asyncio.to_thread(sink.restart)
            listener.has(0)
            if answer.status != 200:
                raise _TryAgain(f"status {answer.status} to a range")
        elif answer.status >= 400 and answer.url.origin() != URL(url).origin():
            # The store behind the Hub: an address that it signed has run out. The next try asks
            # the Hub for a new one.
            raise _TryAgain(f"the store answered with status {answer.status}")
        elif answer.status not in (200, 206):
            raise refusal(answer.status, answer.headers)
        # Into the thread in larger pieces than they come: each trip costs a tenth of a millisecond.
        come = sink.size_bytes
        pending: list[bytes] = []
        pending_bytes = 0
        written_at = time.monotonic()
        try:
            async for chunk in answer.content.iter_any():
                pending.append(chunk)
                pending_bytes += len(chunk)
                come += len(chunk)
                listener.has(come)
                if pending_bytes >= BLOCK_BYTES or time.monotonic() - written_at > _KEPT_EVERY_S:
                    block, pending, pending_bytes = b"".join(pending), [], 0
                    await asyncio.to_thread(sink.write, block)
                    written_at = time.monotonic()
        finally:
            # What has come is kept, whatever ended it.
            sink.write(b"".join(pending))
    if not sink.is_complete:
        raise _TryAgain("the connection ended early")


def _asked_s(error: Exception) -> float | None:
    return error.after_s if isinstance(error, _TryAgain) else None

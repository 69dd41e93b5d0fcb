"""Brings one file in: resumable, hashed in the same pass, cancellable at once."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO

import aiohttp
import msgspec

from meshtui.domain.errors import MeshtuiError
from meshtui.hub.errors import BrokenDownload, HubUnreachable
from meshtui.hub.model_files import HubFile

_BLOCK_BYTES = 1 << 20
_TRIES = 6
_LONGEST_PAUSE_S = 60.0


class Retries(msgspec.Struct, frozen=True):
    """How often a transfer that makes no headway is tried, and its first pause, in seconds;
    pauses double. A server's `Retry-After` goes before."""

    tries: int = _TRIES
    first_pause_s: float = 0.5


DEFAULT_RETRIES = Retries()


class _TryAgain(Exception):
    """A failure that may pass; `after_s` is the pause that the server asked for."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


async def fetch_file(
    session: aiohttp.ClientSession,
    url: str,
    file: HubFile,
    *,
    headers: Mapping[str, str],
    part: Path,
    target: Path,
    on_bytes: Callable[[int], None],
    refusal: Callable[[int, Mapping[str, str]], MeshtuiError],
    retries: Retries = DEFAULT_RETRIES,
) -> str:
    """Fetches `url` into `part`, then puts it at `target`; gives its SHA-256.

    What an earlier call left in `part` is hashed, not fetched again. `on_bytes` gets the bytes
    that are there as they come (negative when they turn out useless). Raises `BrokenDownload`
    when the content is not what its hash says even at a second try from the beginning,
    `HubUnreachable`, or what `refusal` makes of an HTTP status and its headers.
    """
    failures = 0
    corrupt = False
    sink = await asyncio.to_thread(_Sink, part, file)
    try:
        on_bytes(sink.size_bytes)
        while True:
            before = sink.size_bytes
            try:
                if not sink.is_complete:
                    await _fetch_rest(session, url, sink, headers, on_bytes, refusal)
                digest = await asyncio.to_thread(sink.finish)
                break
            except BrokenDownload:
                if corrupt:
                    raise
                corrupt = True
                on_bytes(-sink.size_bytes)
                await asyncio.to_thread(sink.restart)
            except (_TryAgain, aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                failures = 1 if sink.size_bytes > before else failures + 1
                if failures >= retries.tries:
                    raise HubUnreachable(
                        f"Downloading {file.path} failed: {error or type(error).__name__}.",
                        hint="What has come is kept: start again to go on.",
                    ) from error
                await asyncio.sleep(_pause_s(error, failures, retries))
    finally:
        await asyncio.to_thread(sink.close)
    await asyncio.to_thread(_place, part, target)
    return digest


async def _fetch_rest(
    session: aiohttp.ClientSession,
    url: str,
    sink: "_Sink",
    headers: Mapping[str, str],
    on_bytes: Callable[[int], None],
    refusal: Callable[[int, Mapping[str, str]], MeshtuiError],
) -> None:
    start = sink.size_bytes
    asked = {**headers, "Range": f"bytes={start}-"} if start else dict(headers)
    async with session.get(url, headers=asked) as answer:
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise _TryAgain(f"status {answer.status}", _retry_after_s(answer.headers))
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
            f"bytes {start}-"
        )
        if answer.status == 416 or (start and not resumed and answer.status in (200, 206)):
            # It does not know ranges, or has another file now: from the beginning.
            on_bytes(-start)
            await asyncio.to_thread(sink.restart)
            if answer.status != 200:
                raise _TryAgain(f"status {answer.status} to a range")
        elif answer.status not in (200, 206):
            raise refusal(answer.status, answer.headers)
        # Into the thread in larger pieces than they come: each trip costs a tenth of a millisecond.
        pending: list[bytes] = []
        pending_bytes = 0
        try:
            async for chunk in answer.content.iter_any():
                pending.append(chunk)
                pending_bytes += len(chunk)
                on_bytes(len(chunk))
                if pending_bytes >= _BLOCK_BYTES:
                    block, pending, pending_bytes = b"".join(pending), [], 0
                    await asyncio.to_thread(sink.write, block)
        finally:
            # What has come is kept, whatever ended it.
            sink.write(b"".join(pending))
    if not sink.is_complete:
        raise _TryAgain("the connection ended early")


class _Sink:
    """The part file and the hashes of what it holds. Its methods block. A cancelled transfer may
    leave a `write` running in its thread while it closes the sink: the lock keeps them apart."""

    def __init__(self, part: Path, file: HubFile) -> None:
        self._file = file
        self._lock = threading.Lock()
        part.parent.mkdir(parents=True, exist_ok=True)
        self._stream: BinaryIO = part.open("r+b" if part.exists() else "w+b")
        self._begin()
        if os.fstat(self._stream.fileno()).st_size > file.size_bytes:
            self._stream.truncate(0)
        while block := self._stream.read(_BLOCK_BYTES):
            self._take(block)

    def _begin(self) -> None:
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % self._file.size_bytes, usedforsecurity=False)

    def _take(self, block: bytes) -> None:
        self.size_bytes += len(block)
        self._sha256.update(block)
        if self._file.git_sha1:
            self._git.update(block)

    @property
    def is_complete(self) -> bool:
        return self.size_bytes >= self._file.size_bytes

    def write(self, block: bytes) -> None:
        with self._lock:
            if self._stream.closed:
                return
            if self.size_bytes + len(block) > self._file.size_bytes:
                raise BrokenDownload(f"{self._file.path} is longer than the Hub said.")
            self._stream.write(block)
            self._take(block)

    def restart(self) -> None:
        self._stream.seek(0)
        self._stream.truncate(0)
        self._begin()

    def finish(self) -> str:
        """The SHA-256, with everything on disk; raises `BrokenDownload`."""
        wanted = self._file.sha256 or self._file.git_sha1
        found = self._sha256.hexdigest() if self._file.sha256 else self._git.hexdigest()
        if wanted and wanted != found:
            raise BrokenDownload(
                f"{self._file.path} arrived damaged: its hash is not the one the Hub gives.",
                hint="Try again; if it stays, a proxy or mirror on the way changes files.",
            )
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return self._sha256.hexdigest()

    def close(self) -> None:
        with self._lock:
            self._stream.close()


def _place(part: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)


def _pause_s(error: Exception, failures: int, retries: Retries) -> float:
    asked = error.after_s if isinstance(error, _TryAgain) else None
    pause = asked if asked is not None else retries.first_pause_s * 2 ** (failures - 1)
    return min(pause, _LONGEST_PAUSE_S)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds or an HTTP date."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None

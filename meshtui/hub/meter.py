"""How far a download is: counted file by file, told many times a second."""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable

import msgspec

# Twice as often as the transfers look at it, so that each look sees something new.
_TELL_EVERY_S = 0.04
_RATE_OVER_S = 3.0


class DownloadProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a download is; `rate_bytes_s` is that of the last three seconds. `note` says why
    nothing comes, where that is known."""

    done_bytes: int
    total_bytes: int
    rate_bytes_s: float
    note: str = ""

    @property
    def fraction(self) -> float:
        return self.done_bytes / self.total_bytes if self.total_bytes else 1.0

    @property
    def left_s(self) -> float | None:
        """Seconds to go at this rate; None while nothing comes."""
        left = self.total_bytes - self.done_bytes
        return left / self.rate_bytes_s if self.rate_bytes_s > 0 else None


class Meter:
    """Tells `on_progress` while its block is open, whether bytes come or not, and once more at
    the end of one that went well."""

    def __init__(self, total_bytes: int, on_progress: Callable[[DownloadProgress], None]) -> None:
        self._total_bytes = total_bytes
        self._on_progress = on_progress
        self._files: list[FileMeter] = []
        self._seen: deque[tuple[float, int]] = deque()
        self._task: asyncio.Task[None] | None = None

    def file(self, size_bytes: int = 0) -> "FileMeter":
        """The meter of one more file, `size_bytes` of which are there."""
        self._files.append(FileMeter(size_bytes))
        return self._files[-1]

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._tell(), name="download meter")

    async def __aexit__(self, *error: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if error[0] is None:
            self._show()

    async def _tell(self) -> None:
        while True:
            self._show()
            await asyncio.sleep(_TELL_EVERY_S)

    def _show(self) -> None:
        now = time.monotonic()
        come = sum(file.come_bytes for file in self._files)
        self._seen.append((now, come))
        while now - self._seen[0][0] > _RATE_OVER_S:
            self._seen.popleft()
        first_at, first_come = self._seen[0]
        self._on_progress(
            DownloadProgress(
                done_bytes=sum(file.size_bytes for file in self._files),
                total_bytes=self._total_bytes,
                rate_bytes_s=(come - first_come) / (now - first_at) if now > first_at else 0.0,
                note=self._note(now),
            )
        )

    def _note(self, now: float) -> str:
        """Why nothing comes, where every file that is under way pauses."""
        under_way = [file for file in self._files if file.under_way]
        pausing = [file for file in under_way if file.pauses_until > now]
        if not pausing or len(pausing) < len(under_way):
            return ""
        next_one = min(pausing, key=lambda file: file.pauses_until)
        seconds = math.ceil(next_one.pauses_until - now)
        return f"Trying again in {seconds // 60}:{seconds % 60:02} ({next_one.reason})"


class FileMeter:
    """What is there of one file, how much of it has come over the network, and why no more
    comes."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.come_bytes = 0
        self.under_way = False
        self.pauses_until = -math.inf
        self.reason = ""

    def finds(self, size_bytes: int) -> None:
        """So much of it is there from before: it says nothing about how fast the rest comes."""
        self.size_bytes = size_bytes

    def has(self, size_bytes: int) -> None:
        self.come_bytes += max(0, size_bytes - self.size_bytes)
        self.size_bytes = size_bytes
        self.pauses_until = -math.inf

    def pauses(self, reason: str, pause_s: float) -> None:
        self.reason = reason
        self.pauses_until = time.monotonic() + pause_s

"""A long step in a thread: how far it is, and whether it should end."""

import threading
import time
from collections import deque

_RATE_OVER_S = 3.0


class Cancelled(Exception):
    """The step was asked to end; whoever catches it cleans up and lets it pass."""


class Work:
    """Shared between the thread that works and those who watch it.

    The worker calls `advance` at least every few milliseconds; `cancel` makes its next call raise
    `Cancelled`. Reading is safe from any thread.
    """

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._seen: deque[tuple[float, int]] = deque()
        self.step = ""
        self.done_bytes = 0
        self.total_bytes: int | None = None

    def begin(self, step: str, total_bytes: int | None = None) -> None:
        """Says what is done now; with a total, counting starts anew."""
        self.advance(0)
        self.step = step
        if total_bytes is not None:
            with self._lock:
                self.done_bytes, self.total_bytes = 0, total_bytes
                self._seen.clear()

    def advance(self, count_bytes: int = 0) -> None:
        """Counts; raises `Cancelled` after `cancel`."""
        if self._cancelled.is_set():
            raise Cancelled
        if count_bytes:
            with self._lock:
                self.done_bytes += count_bytes

    def cancel(self) -> None:
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled.is_set()

    def rate_bytes_s(self) -> float:
        """Bytes a second over the last three seconds, as far as it was asked for."""
        now = time.monotonic()
        with self._lock:
            self._seen.append((now, self.done_bytes))
            while now - self._seen[0][0] > _RATE_OVER_S:
                self._seen.popleft()
            first_at, first_done = self._seen[0]
            return (self.done_bytes - first_done) / (now - first_at) if now > first_at else 0.0

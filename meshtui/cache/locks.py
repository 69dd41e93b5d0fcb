"""Locks between processes, held by open files: the kernel lets go when the holder dies."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

_POLL_S = 0.1


class FileLock:
    """An exclusive `flock` on a file that stays behind, empty."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def try_acquire(self) -> bool:
        """Whether it is held by this object now; never waits."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


@asynccontextmanager
async def locked(path: Path, on_wait: Callable[[], None] | None = None) -> AsyncIterator[None]:
    """Holds the lock of `path`, waiting for other processes; `on_wait` is called once if so.

    A waiting `flock` call could not be cancelled, so this one asks again and again.
    """
    lock = FileLock(path)
    if not await asyncio.to_thread(lock.try_acquire):
        if on_wait:
            on_wait()
        while not await asyncio.to_thread(lock.try_acquire):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()

"""Locks between processes, held by open files: the kernel lets go when the holder dies."""

import asyncio
import errno
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Self

from meshtui.cache.disk_errors import again_if_stale
from meshtui.cache.sharing import PRIVATE, Sharing

_POLL_S = 0.1
_SHORT_POLL_S = 0.005


class FileLock:
    """An exclusive `flock` on a file that stays behind.

    The file is opened for writing: NFS gives exclusive locks on no others.
    """

    def __init__(self, path: Path, sharing: Sharing = PRIVATE) -> None:
        self._path = path
        self._sharing = sharing
        self._file: int | None = None

    def try_acquire(self) -> bool:
        """Whether it is held by this object now; never waits."""
        file = again_if_stale(self._open)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            # On NFS `flock` is a lock of byte ranges, which may say "permission denied".
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return True

    def _open(self) -> int:
        """Not by `O_CREAT` alone: in a folder with the sticky bit, Linux forbids that for a file
        of somebody else (fs.protected_regular)."""
        while True:
            try:
                return os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                self._sharing.make_folder(self._path.parent)
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                file = os.open(self._path, flags, 0o666)
            except FileExistsError:
                continue
            self._sharing.settle(file)
            return file

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def write(self, text: str) -> None:
        """Says something about the holder in the file, while it is held."""
        if self._file is not None:
            os.truncate(self._file, 0)
            os.pwrite(self._file, text.encode(errors="replace"), 0)

    @contextmanager
    def holding(
        self, timeout_s: float | None = None, while_waiting: Callable[[], None] | None = None
    ) -> Iterator[Self]:
        """Holds it, waiting for others; `while_waiting` is called again and again, and ends the
        wait by raising. Raises `TimeoutError`. Waiting in the kernel could not be ended."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.try_acquire():
            if while_waiting:
                while_waiting()
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds the lock")
            time.sleep(_SHORT_POLL_S)
        try:
            yield self
        finally:
            self.release()


@asynccontextmanager
async def locked(
    path: Path, on_wait: Callable[[], None] | None = None, sharing: Sharing = PRIVATE
) -> AsyncIterator[None]:
    """Holds the lock of `path`, waiting for other processes; `on_wait` is called once if so.

    A waiting `flock` call could not be cancelled, so this one asks again and again.
    """
    lock = FileLock(path, sharing)
    if not await _try(lock):
        if on_wait:
            on_wait()
        while not await _try(lock):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()


async def _try(lock: FileLock) -> bool:
    """Cancelled meanwhile, what the thread gets hold of is let go again."""
    trying = asyncio.ensure_future(asyncio.to_thread(lock.try_acquire))
    try:
        return await asyncio.shield(trying)
    except asyncio.CancelledError:
        trying.add_done_callback(lambda _: lock.release())
        raise

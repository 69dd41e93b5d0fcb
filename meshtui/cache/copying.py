"""Copies a file and hashes it in the same pass, or shares its blocks where the disk can."""

import errno
import fcntl
import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from meshtui.cache.work import Work

_BLOCK_BYTES = 1 << 19
_BLOCKS = 8
_WRITEBACK_BYTES = 16 << 20
# ioctl FICLONE of <linux/fs.h>: the copy shares the blocks until one of the two is changed.
_FICLONE = 0x40049409


def copy_hashed(source: Path, target: Path, work: Work) -> str:
    """Copies `source` (links are followed) to the new file `target`, and makes its folder; gives
    the SHA-256 of what is in the copy. Raises `OSError` or `Cancelled`."""
    with source.open("rb", buffering=0) as reader, new_file(target) as file:
        if reflink(reader.fileno(), file):
            return _hash(file, work)
        return hashed(
            lambda buffer: os.readv(reader.fileno(), [buffer]), BlockWriter(file), work.advance
        )


@contextmanager
def new_file(path: Path) -> Iterator[int]:
    """A file that was not there before, open for reading and writing; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(path, flags, 0o644)
    try:
        yield file
    finally:
        os.close(file)


def reflink(source: int, target: int) -> bool:
    """Has the open file `target` share all blocks of `source`; False where that cannot be."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    return True


class BlockWriter:
    """Writes blocks one behind the other, and has the disk begin with them at once: flushing at
    the end then has little left to do, and the memory is free for others."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._at = 0
        self._begun = 0

    def __call__(self, block: memoryview) -> None:
        done = 0
        while done < len(block):
            done += os.write(self._file, block[done:])
        self._at += done
        self._begun = begin_writeback(self._file, self._begun, self._at)


def begin_writeback(file: int, begun: int, written: int) -> int:
    """Has the disk begin with what was written behind the place `begun`, where that is much; gives
    the place up to which it has. (Linux does so for pages that one has no need of.)"""
    if written - begun < _WRITEBACK_BYTES:
        return begun
    os.posix_fadvise(file, begun, written - begun, os.POSIX_FADV_DONTNEED)
    return written


def hashed(
    read_into: Callable[[memoryview], int],
    write: Callable[[memoryview], None],
    advance: Callable[[int], None],
) -> str:
    """Passes on what `read_into` gives, until that is nothing; gives the SHA-256 of it. Hashing
    runs in a thread beside reading and writing: together they take as long as the slower of the
    two. `advance` is told of every block, and may raise."""
    digest = hashlib.sha256()
    blocks: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
    free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
    for _ in range(_BLOCKS):
        free.put(memoryview(bytearray(_BLOCK_BYTES)))

    def hash_blocks() -> None:
        while (block := blocks.get()) is not None:
            digest.update(block)
            free.put(memoryview(block.obj))

    hasher = threading.Thread(target=hash_blocks, name="hash", daemon=True)
    hasher.start()
    try:
        while True:
            view = free.get()
            count = read_into(view)
            if not count:
                break
            blocks.put(view[:count])
            write(view[:count])
            advance(count)
    finally:
        blocks.put(None)
        hasher.join()
    return digest.hexdigest()


def _hash(file: int, work: Work) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    at = 0
    while count := os.preadv(file, [buffer], at):
        digest.update(buffer[:count])
        at += count
        work.advance(count)
    return digest.hexdigest()

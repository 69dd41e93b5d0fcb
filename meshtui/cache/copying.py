"""Copies a file and hashes it in the same pass, or shares its blocks where the disk can."""

import errno
import fcntl
import hashlib
import os
import queue
import threading
from pathlib import Path

from meshtui.cache.work import Work

_BLOCK_BYTES = 1 << 20
_BLOCKS = 4
# ioctl FICLONE of <linux/fs.h>: the copy shares the blocks until one of the two is changed.
_FICLONE = 0x40049409


def copy_hashed(source: Path, target: Path, work: Work) -> str:
    """Copies `source` (links are followed) to the new file `target`, and makes its folder; gives
    the SHA-256 of what is in the copy. Raises `OSError` or `Cancelled`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb", buffering=0) as reader:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(target, flags, 0o644)
        try:
            if reflink(reader.fileno(), file):
                return _hash(file, work)
            return _copy(reader.fileno(), file, work)
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


def _hash(file: int, work: Work) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    at = 0
    while count := os.preadv(file, [buffer], at):
        digest.update(buffer[:count])
        at += count
        work.advance(count)
    return digest.hexdigest()


def _copy(source: int, target: int, work: Work) -> str:
    """Hashing runs in a thread beside reading and writing: together they take as long as the
    slower of the two."""
    digest = hashlib.sha256()
    blocks: queue.Queue[memoryview | None] = queue.Queue()
    free: queue.Queue[bytearray] = queue.Queue()
    for _ in range(_BLOCKS):
        free.put(bytearray(_BLOCK_BYTES))

    def hash_blocks() -> None:
        while (block := blocks.get()) is not None:
            digest.update(block)
            owner = block.obj
            block.release()
            assert isinstance(owner, bytearray)
            free.put(owner)

    hasher = threading.Thread(target=hash_blocks, name="hash", daemon=True)
    hasher.start()
    try:
        while True:
            buffer = free.get()
            count = os.readv(source, [buffer])
            if not count:
                break
            view = memoryview(buffer)[:count]
            _write(target, view)
            blocks.put(view)
            work.advance(count)
    finally:
        blocks.put(None)
        hasher.join()
    return digest.hexdigest()


def _write(target: int, view: memoryview) -> None:
    done = 0
    while done < len(view):
        done += os.write(target, view[done:])

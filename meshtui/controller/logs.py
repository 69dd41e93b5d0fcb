"""Streams a log file: its last lines, and what is added to it."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import BinaryIO

_BLOCK_BYTES = 64 * 1024
_LOOK_EVERY_S = 0.25


async def log_bytes(
    path: Path, *, tail: int, follow: bool, is_over: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    """The last `tail` lines, then, with `follow`, what is appended, until `is_over` and the end
    is reached. A log that is replaced by a new one is followed into it. One that does not exist
    is empty."""
    file: BinaryIO | None = None
    try:
        file = await asyncio.to_thread(_open_at_tail, path, tail)
        while True:
            # Asked before reading: what is written before the end is then read for certain.
            over = is_over()
            if file is not None:
                while data := await asyncio.to_thread(file.read, _BLOCK_BYTES):
                    yield data
            if not follow:
                return
            replaced = await asyncio.to_thread(_replaced, path, file)
            if replaced:
                if file is not None:
                    # What came between the last look and the replacement.
                    while data := await asyncio.to_thread(file.read, _BLOCK_BYTES):
                        yield data
                    file.close()
                file = await asyncio.to_thread(_open, path)
            elif over:
                return
            else:
                await asyncio.sleep(_LOOK_EVERY_S)
    finally:
        if file is not None:
            file.close()


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _open_at_tail(path: Path, tail: int) -> BinaryIO | None:
    file = _open(path)
    if file is not None:
        file.seek(_tail_offset(file, tail))
    return file


def _tail_offset(file: BinaryIO, tail: int) -> int:
    """Where the last `tail` lines begin."""
    end = file.seek(0, os.SEEK_END)
    if tail <= 0:
        return end
    # A newline at the very end closes the last line and begins none.
    position, missing = max(0, end - 1), tail
    while position > 0:
        start = max(0, position - _BLOCK_BYTES)
        file.seek(start)
        block = file.read(position - start)
        newlines = block.count(b"\n")
        if newlines >= missing:
            at = len(block)
            for _ in range(missing):
                at = block.rindex(b"\n", 0, at)
            return start + at + 1
        missing -= newlines
        position = start
    return 0


def _replaced(path: Path, file: BinaryIO | None) -> bool:
    """Whether `path` is another file now, or shorter than what was read."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    if file is None:
        return True
    opened = os.fstat(file.fileno())
    return (now.st_ino, now.st_dev) != (opened.st_ino, opened.st_dev) or now.st_size < file.tell()

"""The bytes of an archive, which may be split into several files: `x.zip.001`, `x.zip.002`, ...

Volumes are the archive cut into pieces, nothing more: `cat x.zip.* > x.zip` joins them.
"""

import errno
import os
import re
import stat
from bisect import bisect_right
from pathlib import Path

from meshtui.domain.errors import InvalidInput
from meshtui.domain.text import one_line

_VOLUME = re.compile(r"(.+)\.(\d{3,4})")
# Lists of archives are read whole, by libraries too: one that is longer than this has more members
# than any model.
MOST_READ_BYTES = 4_000_000


def volume_name(base: str, number: int) -> str:
    """`x.zip.001` is the first."""
    return f"{base}.{number:03}"


def volume_of(name: str) -> tuple[str, int] | None:
    """Of which archive a file is a volume, and which one; None where its name is no such."""
    found = _VOLUME.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def volumes_from(first: Path) -> list[Path]:
    """The file, and where it is a first volume all that follow. Raises `InvalidInput` for one
    from the middle."""
    named = volume_of(first.name)
    if named is None:
        return [first]
    base, number = named
    if number != 1:
        begin = first.with_name(volume_name(base, 1))
        if not begin.exists():
            return [first]
        raise InvalidInput(
            f"{one_line(first.name)} is a part of a split archive.",
            hint=f"Name its first part: {one_line(str(begin))}",
        )
    found = [first]
    while (path := first.with_name(volume_name(base, len(found) + 1))).exists():
        found.append(path)
    return found


class VolumeReader:
    """Several files as one. Reading is at a place of its own (`read_at`), or goes on from where
    it was, as libraries want it. Raises `OSError`, also where one is no regular file."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self._files: list[int] = []
        self._starts: list[int] = []
        self.size_bytes = 0
        self._at = 0
        try:
            for path in paths:
                self._files.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
                found = os.fstat(self._files[-1])
                if not stat.S_ISREG(found.st_mode):
                    raise OSError(errno.EINVAL, "this is not a regular file", str(path))
                self._starts.append(self.size_bytes)
                self.size_bytes += found.st_size
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        while self._files:
            os.close(self._files.pop())

    def read_into_at(self, offset: int, buffer: memoryview) -> int:
        """Fewer bytes than asked for at the end of a volume, none at the end of the last."""
        if not 0 <= offset < self.size_bytes:
            return 0
        index = bisect_right(self._starts, offset) - 1
        return os.preadv(self._files[index], [buffer], offset - self._starts[index])

    def read_at(self, offset: int, length: int) -> bytes:
        """Fewer bytes only at the end of the archive."""
        data = bytearray(max(0, min(length, self.size_bytes - offset)))
        view = memoryview(data)
        done = 0
        while done < len(data) and (count := self.read_into_at(offset + done, view[done:])):
            done += count
        return bytes(view[:done])

    # -- as a file

    def readinto(self, buffer: memoryview | bytearray) -> int:
        count = self.read_into_at(self._at, memoryview(buffer))
        self._at += count
        return count

    def read(self, length: int = -1) -> bytes:
        left = max(0, self.size_bytes - self._at)
        length = left if length < 0 else min(length, left)
        if length > MOST_READ_BYTES:
            raise InvalidInput("Its list of files is longer than that of any model.")
        data = self.read_at(self._at, length)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size_bytes}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "there is nothing before the beginning")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

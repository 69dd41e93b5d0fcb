"""Where an export is written: hidden files beside the goal, which get their names at the end.

What an earlier attempt left there is compared with what would be written, and only differing
blocks are: so an export that was broken off goes on, and what it left is checked as well.
"""

import contextlib
import fcntl
import os
import re
from pathlib import Path

from meshtui.cache.archive.volumes import volume_name
from meshtui.cache.copying import begin_writeback
from meshtui.cache.files import sync_folder
from meshtui.domain.errors import Conflict
from meshtui.domain.text import one_line

_PART = ".part"


class OpenFile:
    """One file. Raises `Conflict` where another process writes it, and `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o644)
        try:
            _claim(self._file, path)
            self._begun = 0
            self._there_bytes = os.fstat(self._file).st_size
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def write_at(self, offset: int, data: memoryview) -> None:
        end = offset + len(data)
        if end <= self._there_bytes and os.pread(self._file, len(data), offset) == data:
            return
        while data:
            count = os.pwrite(self._file, data, offset)
            data, offset = data[count:], offset + count
        self._begun = begin_writeback(self._file, self._begun, end)

    def finish(self, size_bytes: int) -> None:
        """Cuts off what stands behind, and makes it durable."""
        if os.fstat(self._file).st_size != size_bytes:
            os.ftruncate(self._file, size_bytes)
        os.fsync(self._file)
        self.close()


class Volumes:
    """The file of an archive, or the files that it is split into, as one file to write to. The
    final names appear in `publish`, the first part's last."""

    def __init__(self, goal: Path, volume_bytes: int | None) -> None:
        self._goal = goal
        self._volume_bytes = volume_bytes
        self._files: list[OpenFile] = []
        self._at = 0
        self._size_bytes = 0
        self._closed = False

    # -- as a file

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data)
        length = len(view)
        if self._closed:
            # `zipfile` writes its list when it is thrown away.
            return length
        while view:
            index, offset, room = self._place(len(view))
            self._open(index).write_at(offset, view[:room])
            view = view[room:]
            self._at += room
        self._size_bytes = max(self._size_bytes, self._at)
        return length

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size_bytes}[whence]
        self._at = base + offset
        return self._at

    def seekable(self) -> bool:
        return True

    def flush(self) -> None:
        """Nothing is held back."""

    # --

    def seal(self) -> None:
        """Cuts the files to their lengths, and makes them durable."""
        for index, file in enumerate(self._files):
            rest = self._size_bytes - index * (self._volume_bytes or 0)
            file.finish(min(rest, self._volume_bytes) if self._volume_bytes else rest)
        self._closed = True

    def publish(self) -> list[Path]:
        """Gives the archive its name. Older parts behind the last one go, and what attempts with
        parts of another size left."""
        names = [self._name(index) for index in range(len(self._files))]
        for name in reversed(names):
            part_of(name).replace(name)
        if self._volume_bytes:
            self._remove_parts_from(len(names))
        for path in leftovers(self._goal):
            path.unlink()
        sync_folder(self._goal.parent)
        return names

    def close(self) -> None:
        self._closed = True
        for file in self._files:
            file.close()

    def discard(self) -> None:
        """Removes what was written."""
        self.close()
        for file in self._files:
            with contextlib.suppress(OSError):
                file.path.unlink()

    def _place(self, length: int) -> tuple[int, int, int]:
        """Which file the next byte goes to, where in it, and how many can."""
        if self._volume_bytes is None:
            return 0, self._at, length
        index, offset = divmod(self._at, self._volume_bytes)
        return index, offset, min(length, self._volume_bytes - offset)

    def _open(self, index: int) -> OpenFile:
        while len(self._files) <= index:
            self._files.append(OpenFile(part_of(self._name(len(self._files)))))
        return self._files[index]

    def _name(self, index: int) -> Path:
        if self._volume_bytes is None:
            return self._goal
        return self._goal.with_name(volume_name(self._goal.name, index + 1))

    def _remove_parts_from(self, index: int) -> None:
        while (path := self._name(index)).exists():
            path.unlink()
            index += 1


def write_file(path: Path, data: bytes) -> None:
    """A small file as a whole; an older one is replaced."""
    part = part_of(path)
    with contextlib.closing(OpenFile(part)) as file:
        file.write_at(0, memoryview(data))
        file.finish(len(data))
    part.replace(path)
    sync_folder(path.parent)


def part_of(goal: Path) -> Path:
    """The hidden name under which it grows."""
    return goal.with_name(f".{goal.name}{_PART}")


def leftovers(goal: Path) -> list[Path]:
    """What attempts to write it that were broken off have left."""
    hidden = re.compile(rf"\.{re.escape(goal.name)}(\.\d{{3,4}})?{re.escape(_PART)}")
    if not goal.parent.is_dir():
        return []
    return [path for path in goal.parent.iterdir() if hidden.fullmatch(path.name)]


def _claim(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(f"Another export writes {one_line(path.name)} now.") from None
    except OSError:
        # Disks without locks are no shared ones.
        return

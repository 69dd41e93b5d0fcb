"""Members of a folder: an entry that was unpacked, or exported as it is."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from meshtui.cache.archive.members import Advance, Archive, Kind, Member, cut_off
from meshtui.cache.archive.names import shown
from meshtui.cache.copying import copy_hashed
from meshtui.cache.work import Work
from meshtui.domain.errors import InvalidInput


class FolderArchive(Archive):
    """Names of members begin below the folder: what it is called does not matter."""

    container = "folder"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def close(self) -> None:
        """Nothing is open between members."""

    def members(self, advance: Advance) -> Iterator[Member]:
        yield from self._below(self._folder, "")

    def _below(self, folder: Path, prefix: str) -> Iterator[Member]:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            status = entry.stat(follow_symlinks=False)
            kind = _kind(status.st_mode)
            member = _FolderMember(Path(entry.path), f"{prefix}{entry.name}", kind, status.st_size)
            try:
                yield member
            finally:
                member.close()
            if kind is Kind.FOLDER:
                yield from self._below(Path(entry.path), f"{prefix}{entry.name}/")


class _FolderMember(Member):
    def __init__(self, path: Path, name: str, kind: Kind, size_bytes: int) -> None:
        super().__init__(name, kind, size_bytes)
        self._path = path
        self._file: int | None = None
        self._left_bytes = size_bytes

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read_into(self, buffer: memoryview) -> int:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not self._left_bytes:
            return 0
        count = os.readv(self._file, [buffer[: self._left_bytes]])
        if not count:
            raise cut_off(self.name)
        self._left_bytes -= count
        return count

    def save(self, target: Path, work: Work) -> str:
        """Shares the blocks of the file where the disk can."""
        digest = copy_hashed(self._path, target, work)
        if target.stat().st_size != self.size_bytes:
            raise InvalidInput(f"{shown(self.name)} was changed while it was read.")
        return digest


def _kind(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.FOLDER
    return Kind.LINK if stat.S_ISLNK(mode) else Kind.SPECIAL

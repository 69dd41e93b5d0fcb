"""The containers that an export writes. The bytes depend on nothing but the entry, so the same
entry gives the same archive on every machine."""

import datetime
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

import zstandard

from meshtui.cache.archive.targets import Volumes

Write = Callable[[memoryview], None]
Fill = Callable[[Write], None]

_MODE = 0o644
_FIRST_ZIP_YEAR, _LAST_ZIP_YEAR = 1980, 2107
_LEVEL = 1
_THREADS = 2


class Packer(ABC):
    """Takes files one behind the other."""

    @abstractmethod
    def add(self, name: str, size_bytes: int, fill: Fill) -> None:
        """A file; `fill` is called once with what writes its content, and must write exactly so
        many bytes."""

    def add_bytes(self, name: str, data: bytes) -> None:
        self.add(name, len(data), lambda write: write(memoryview(data)))

    @abstractmethod
    def seal(self) -> None:
        """Writes what belongs at the end, and makes all of it durable."""

    @abstractmethod
    def publish(self) -> list[Path]:
        """Gives it its name, in the place of an older one; gives the paths."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of it; what is written stays under its hidden name."""

    @abstractmethod
    def discard(self) -> None:
        """Removes what is written."""


class _ArchivePacker(Packer):
    def __init__(self, target: Volumes) -> None:
        self._target = target

    def publish(self) -> list[Path]:
        return self._target.publish()

    def close(self) -> None:
        self._target.close()

    def discard(self) -> None:
        self._target.discard()


class ZipPacker(_ArchivePacker):
    """Stored, with ZIP64 where it is needed. Sizes and checksums are in the header of each file,
    so that it can also be read as a stream."""

    def __init__(self, target: Volumes, time_s: float) -> None:
        super().__init__(target)
        self._zip = zipfile.ZipFile(cast(IO[bytes], target), "w", zipfile.ZIP_STORED)
        moment = datetime.datetime.fromtimestamp(time_s, datetime.UTC)
        year = min(max(moment.year, _FIRST_ZIP_YEAR), _LAST_ZIP_YEAR)
        self._moment = (year, *moment.timetuple()[1:6])

    def add(self, name: str, size_bytes: int, fill: Fill) -> None:
        info = zipfile.ZipInfo(name, self._moment)
        info.file_size = size_bytes
        info.create_system = 3
        info.external_attr = (0o100000 | _MODE) << 16
        with self._zip.open(info, "w") as file:
            fill(lambda block: _write(file, block))

    def seal(self) -> None:
        self._zip.close()
        self._target.seal()


class TarPacker(_ArchivePacker):
    """With `packed` as `tar.zst`."""

    def __init__(self, target: Volumes, time_s: float, *, packed: bool) -> None:
        super().__init__(target)
        self._time_s = int(time_s)
        self._written_bytes = 0
        self._packed = None
        if packed:
            packer = zstandard.ZstdCompressor(_LEVEL, threads=_THREADS, write_checksum=True)
            self._packed = packer.stream_writer(cast(IO[bytes], target), closefd=False)

    def add(self, name: str, size_bytes: int, fill: Fill) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size_bytes, self._time_s, _MODE
        self._write(memoryview(info.tobuf(tarfile.PAX_FORMAT)))
        fill(self._write)
        self._write(memoryview(bytes(-size_bytes % tarfile.BLOCKSIZE)))

    def seal(self) -> None:
        self._write(memoryview(bytes(2 * tarfile.BLOCKSIZE)))
        self._write(memoryview(bytes(-self._written_bytes % tarfile.RECORDSIZE)))
        if self._packed is not None:
            self._packed.flush(zstandard.FLUSH_FRAME)
        self._target.seal()

    def _write(self, block: memoryview) -> None:
        self._written_bytes += len(block)
        if self._packed is not None:
            self._packed.write(block)
        else:
            self._target.write(block)


def _write(file: IO[bytes], block: memoryview) -> None:
    file.write(block)

"""The bytes of a tar file, packed or not, read from the beginning to the end."""

import gzip
import io
import zlib
from collections.abc import Callable
from typing import IO, cast

import zstandard

from meshtui.cache.archive.members import Advance
from meshtui.cache.archive.names import Refused
from meshtui.cache.archive.volumes import VolumeReader
from meshtui.domain.errors import InvalidInput

GZIP, ZSTD, PLAIN = "tar.gz", "tar.zst", "tar"
# What zstd itself accepts if nothing else is said (ZSTD_WINDOWLOG_LIMIT_DEFAULT); only level 22
# and `--long` need that much.
_MOST_WINDOW_BYTES = 1 << 27
_INPUT_BYTES = 1 << 20
_SKIP_BYTES = 1 << 20
_MOST_RATIO = 20
_UNJUDGED_BYTES = 64_000_000


class Stream:
    """`advance` is told of the bytes read of a packed file, and may raise."""

    def __init__(self, file: VolumeReader, container: str, advance: Advance) -> None:
        file.seek(0)
        self._file = file
        self._advance = advance
        self._told_bytes = 0
        self._given_bytes = 0
        self._packed = _unpacker(file, container)
        self.is_packed = self._packed is not None
        self._skipped = memoryview(bytearray(_SKIP_BYTES)) if self.is_packed else None

    def read_into(self, buffer: memoryview) -> int:
        """0 at the end. Raises `InvalidInput` where it cannot be unpacked."""
        if self._packed is None:
            return self._file.readinto(buffer)
        try:
            count = self._packed(buffer)
        except EOFError:
            raise InvalidInput("The archive is cut off.") from None
        except (zstandard.ZstdError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidInput(f"The archive cannot be unpacked: {error}.") from None
        self._given_bytes += count
        read = self._file.tell()
        self._advance(read - self._told_bytes)
        self._told_bytes = read
        if self._given_bytes > _UNJUDGED_BYTES + _MOST_RATIO * read:
            raise Refused("bomb", "It becomes far more than it holds when it is unpacked.")
        return count

    def read(self, length: int) -> bytes:
        """Fewer bytes only at the end."""
        data = bytearray(length)
        view = memoryview(data)
        done = 0
        while done < length and (count := self.read_into(view[done:])):
            done += count
        return bytes(view[:done])

    def skip(self, length: int) -> bool:
        """False where the stream ends before."""
        if self._skipped is None:
            return self._file.seek(length, io.SEEK_CUR) <= self._file.size_bytes
        while length > 0 and (count := self.read_into(self._skipped[:length])):
            length -= count
        return length == 0

    def finish(self) -> None:
        """Unpacks what is left, so that the checksums at the end are compared."""
        while self._skipped is not None and self.read_into(self._skipped):
            pass


def _unpacker(file: VolumeReader, container: str) -> Callable[[memoryview], int] | None:
    source = cast(IO[bytes], _Raw(file))
    match container:
        case "tar.gz":
            buffered = io.BufferedReader(cast(io.RawIOBase, source), _INPUT_BYTES)
            return gzip.GzipFile(fileobj=buffered).readinto
        case "tar.zst":
            unpacker = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW_BYTES)
            reader = unpacker.stream_reader(
                source, read_size=_INPUT_BYTES, read_across_frames=True, closefd=False
            )
            return cast(Callable[[memoryview], int], reader.readinto)
        case _:
            return None


class _Raw(io.RawIOBase):
    def __init__(self, file: VolumeReader) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._file.readinto(buffer)

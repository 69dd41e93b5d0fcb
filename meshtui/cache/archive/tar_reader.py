"""Members of a tar file, packed or not.

The standard library reads each header; what belongs to a member that is longer (names, records
of pax) is read here, with bounds that it lacks.
"""

import tarfile
from collections.abc import Iterator

import msgspec

from meshtui.cache.archive.members import Advance, Archive, Kind, Member, cut_off
from meshtui.cache.archive.names import MOST_ENTRIES, Refused
from meshtui.cache.archive.streams import PLAIN, Stream
from meshtui.cache.archive.volumes import VolumeReader
from meshtui.domain.errors import InvalidInput

_BLOCK = tarfile.BLOCKSIZE
# Records of pax and long names; a path has 1,024 bytes at most.
_MOST_RECORD_BYTES = 65_536
# Members of any kind, those that are left out included.
_MOST_HEADERS = 20 * MOST_ENTRIES
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_GLOBAL = tarfile.XGLTYPE
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class TarArchive(Archive):
    """Raises `InvalidInput` while it is read."""

    def __init__(self, file: VolumeReader, container: str) -> None:
        self._file = file
        self.container = container
        self.one_way = container != PLAIN
        self.packed_bytes = file.size_bytes

    def close(self) -> None:
        self._file.close()

    def members(self, advance: Advance) -> Iterator[Member]:
        stream = Stream(self._file, self.container, advance)
        said = _Said()
        for _ in range(_MOST_HEADERS):
            block = stream.read(_BLOCK)
            if len(block) < _BLOCK:
                raise InvalidInput("The archive is cut off: it has no end.")
            if not any(block):
                stream.finish()
                return
            header = _header(block)
            if header.type in (*_PAX, *_LONG, _GLOBAL):
                said = _more(said, header, stream)
                continue
            member = _member(header, said, stream)
            said = _Said()
            yield member
            member.pass_by()
        raise Refused("count", f"It holds more than {_MOST_HEADERS:,} things.")


class _Said(msgspec.Struct, frozen=True):
    """What the headers before a member's own say of it."""

    name: str | None = None
    size_bytes: int | None = None
    sparse: bool = False


class _TarMember(Member):
    def __init__(self, name: str, kind: Kind, size_bytes: int, stream: Stream) -> None:
        super().__init__(name, kind, size_bytes)
        self._stream = stream
        self.counted = stream.is_packed
        self._left_bytes = size_bytes

    def read_into(self, buffer: memoryview) -> int:
        if not self._left_bytes:
            return 0
        count = self._stream.read_into(buffer[: self._left_bytes])
        if not count:
            raise cut_off(self.name)
        self._left_bytes -= count
        return count

    def pass_by(self) -> None:
        """Goes to the next header."""
        if not self._stream.skip(self._left_bytes + -self.size_bytes % _BLOCK):
            raise cut_off(self.name)


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, OverflowError) as error:
        raise InvalidInput(
            "It has a header that makes no sense: the archive is damaged."
        ) from error
    if header.size < 0:
        raise InvalidInput("It has a file of less than no bytes: the archive is damaged.")
    return header


def _more(said: _Said, header: tarfile.TarInfo, stream: Stream) -> _Said:
    if header.size > _MOST_RECORD_BYTES:
        raise Refused("name", f"It has a header of {header.size:,} bytes.")
    data = stream.read(header.size + -header.size % _BLOCK)[: header.size]
    if len(data) < header.size:
        raise InvalidInput("The archive is cut off.")
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return msgspec.structs.replace(said, name=_text(data.rstrip(b"\0")))
    if header.type not in _PAX:
        return said
    records = _records(data)
    size = records.get("size")
    if size is not None and not (size.isascii() and size.isdecimal() and len(size) < 20):
        raise InvalidInput("It has a size that is no number: the archive is damaged.")
    return _Said(
        name=records.get("path", said.name),
        size_bytes=said.size_bytes if size is None else int(size),
        sparse=said.sparse or any(key.startswith("GNU.sparse.") for key in records),
    )


def _records(data: bytes) -> dict[str, str]:
    """`LENGTH KEY=VALUE\\n`, one behind the other; the length counts all of it (POSIX, pax)."""
    found: dict[str, str] = {}
    while data:
        digits, _, _ = data[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record, data = data[len(digits) + 1 : length], data[length:]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise InvalidInput("It has records that make no sense: the archive is damaged.")
        found[_text(key)] = _text(value[:-1])
    return found


def _member(header: tarfile.TarInfo, said: _Said, stream: Stream) -> _TarMember:
    """Only files have content; of others the size says nothing."""
    name = header.name if said.name is None else said.name
    size = header.size if said.size_bytes is None else said.size_bytes
    if header.type in _FILES and not said.sparse:
        if name.endswith("/"):
            return _TarMember(name, Kind.FOLDER, 0, stream)
        return _TarMember(name, Kind.FILE, size, stream)
    if header.type == tarfile.DIRTYPE:
        return _TarMember(name, Kind.FOLDER, 0, stream)
    if header.type in _LINKS:
        return _TarMember(name, Kind.LINK, 0, stream)
    # Sparse files and what is unknown may have content, which is passed by.
    return _TarMember(name, Kind.SPECIAL, size, stream)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def is_tar_header(block: bytes) -> bool:
    """Whether the first bytes of a file are a header, which has a checksum."""
    try:
        tarfile.TarInfo.frombuf(block[:_BLOCK], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, OverflowError):
        return False
    return True

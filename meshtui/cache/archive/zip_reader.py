"""Members of a zip file.

The standard library reads the list; the members' bytes are found and read here, so that no byte is
taken that belongs to another member, and stored ones come at the speed of the disk.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise, zip_longest
from typing import IO, cast

from meshtui.cache.archive.members import Advance, Archive, Kind, Member, cut_off
from meshtui.cache.archive.names import Refused, shown
from meshtui.cache.archive.volumes import VolumeReader
from meshtui.domain.errors import InvalidInput

# APPNOTE.TXT of PKWARE, 4.3.7: signature, ..., lengths of the name and the extra field.
_LOCAL = struct.Struct("<4s5H3I2H")
_LOCAL_SIGNATURE = b"PK\3\4"
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_PATCH = 0x0020
_UTF8 = 0x0800
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_INPUT_BYTES = 1 << 18
# What `zipfile` raises for lists that make no sense, by the version of Python.
_NONSENSE = (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, IndexError,
             OverflowError, EOFError, OSError)  # fmt: skip
# More than deflate can gain is a lie, and a gain of all members together as large is a bomb.
_MOST_RATIO = 20
_UNJUDGED_BYTES = 64_000_000


class ZipArchive(Archive):
    """Raises `InvalidInput` while it is read, for what is damaged or built to deceive."""

    container = "zip"

    def __init__(self, file: VolumeReader) -> None:
        self._file = file

    def close(self) -> None:
        self._file.close()

    def members(self, advance: Advance) -> Iterator[Member]:
        infos, end = self._list()
        _check(infos)
        for info, following in zip_longest(infos, infos[1:]):
            its_end = following.header_offset if following else end
            yield _ZipMember(self._file, info, its_end)

    def _list(self) -> tuple[list[zipfile.ZipInfo], int]:
        """In the order in which they lie there, and where the list begins."""
        try:
            with zipfile.ZipFile(cast(IO[bytes], self._file)) as listed:
                infos = sorted(listed.infolist(), key=lambda info: info.header_offset)
                return infos, listed.start_dir
        except _NONSENSE as error:
            raise InvalidInput(
                "It has no list of files that can be read: the zip file is cut off or damaged.",
                hint="Copy it again; of a split archive all parts must be there.",
            ) from error


def _check(infos: list[zipfile.ZipInfo]) -> None:
    for info in infos:
        name = shown(info.orig_filename)
        if info.volume:
            raise Refused("volumes", "It is a zip file in several disks, of the old kind.",
                          hint="Join it first: zip -s 0 parts.zip --out whole.zip")  # fmt: skip
        if info.flag_bits & _ENCRYPTED:
            raise Refused("encrypted", f"{name} is encrypted.")
        if info.compress_type not in _METHODS or info.flag_bits & _PATCH:
            raise Refused(
                "method",
                f"{name} is packed by method {info.compress_type}, which is not read here.",
                hint="Pack it again with deflate, or without compression.",
            )
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            raise Refused("damaged", f"{name} has two sizes.")
    for info, following in pairwise(infos):
        if info.header_offset + _LOCAL.size + info.compress_size > following.header_offset:
            names = f"{shown(info.orig_filename)} and {shown(following.orig_filename)}"
            raise Refused("overlap", f"{names} lie in the same place of the archive.")
    unpacked = sum(info.file_size for info in infos)
    if unpacked > _UNJUDGED_BYTES + _MOST_RATIO * sum(info.compress_size for info in infos):
        raise Refused("bomb", f"It would become {unpacked:,} bytes, far more than it holds.")


class _ZipMember(Member):
    """`end` is where the next member begins, or the list does."""

    def __init__(self, file: VolumeReader, info: zipfile.ZipInfo, end: int) -> None:
        super().__init__(_name(info), _kind(info), info.file_size)
        self._file = file
        self._info = info
        self._end = end
        self._at: int | None = None
        self._left_bytes = info.file_size
        self._packed_left_bytes = info.compress_size
        self._unpacker = (
            zlib.decompressobj(-zlib.MAX_WBITS)
            if info.compress_type == zipfile.ZIP_DEFLATED
            else None
        )
        self._crc = 0

    def read_into(self, buffer: memoryview) -> int:
        if self._at is None:
            self._at = self._first_byte()
        if not self._left_bytes:
            self._check_end()
            return 0
        wanted = buffer[: self._left_bytes]
        count = self._unpack(wanted) if self._unpacker else self._take(wanted)
        if not count:
            raise cut_off(self.name)
        self._crc = zlib.crc32(buffer[:count], self._crc)
        self._left_bytes -= count
        if not self._left_bytes:
            self._check_end()
        return count

    def _take(self, buffer: memoryview) -> int:
        """The next bytes as they lie there."""
        assert self._at is not None
        count = self._file.read_into_at(self._at, buffer)
        self._at += count
        self._packed_left_bytes -= count
        return count

    def _unpack(self, buffer: memoryview) -> int:
        assert self._unpacker is not None
        try:
            while not self._unpacker.eof:
                packed = self._unpacker.unconsumed_tail or self._packed()
                data = self._unpacker.decompress(packed, len(buffer))
                if data:
                    buffer[: len(data)] = data
                    return len(data)
                if not packed:
                    break
        except zlib.error:
            raise InvalidInput(f"{shown(self.name)} cannot be unpacked: it is damaged.") from None
        return 0

    def _packed(self) -> bytes:
        data = bytearray(min(_INPUT_BYTES, self._packed_left_bytes))
        return bytes(data[: self._take(memoryview(data))]) if data else b""

    def _check_end(self) -> None:
        if self._unpacker is not None and not self._unpacker.eof:
            # The end mark may be still to come; data behind the declared size may not.
            with memoryview(bytearray(1)) as spare:
                if self._unpack(spare) or not self._unpacker.eof:
                    raise InvalidInput(f"{shown(self.name)} is not as large as the list says.")
        if self._crc != self._info.CRC:
            raise InvalidInput(f"{shown(self.name)} is damaged: its checksum (CRC) is another.")

    def _first_byte(self) -> int:
        """Behind the member's own header, which must tell the same as the list."""
        at = self._info.header_offset
        header = self._file.read_at(at, _LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != _LOCAL_SIGNATURE:
            raise InvalidInput(f"{shown(self.name)} is not where the list says: it is damaged.")
        _, _, flags, method, *_, name_bytes, extra_bytes = _LOCAL.unpack(header)
        name = self._file.read_at(at + _LOCAL.size, name_bytes)
        first = at + _LOCAL.size + int(name_bytes) + int(extra_bytes)
        if name != _raw_name(self._info) or method != self._info.compress_type:
            raise Refused("deceit", f"{shown(self.name)} is something else to other programs.")
        if flags & _ENCRYPTED:
            raise Refused("encrypted", f"{shown(self.name)} is encrypted.")
        if first + self._info.compress_size > self._end:
            raise Refused("overlap", f"{shown(self.name)} reaches into another file.")
        return first


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")


def _name(info: zipfile.ZipInfo) -> str:
    """`zip` of Linux writes UTF-8 and does not say so."""
    if info.flag_bits & _UTF8 or info.orig_filename.isascii():
        return info.orig_filename
    try:
        return info.orig_filename.encode("cp437").decode()
    except UnicodeDecodeError:
        return info.orig_filename


def _kind(info: zipfile.ZipInfo) -> Kind:
    """Where it was made on Unix, the upper half of the attributes is the file's mode."""
    if info.orig_filename.endswith("/"):
        return Kind.FOLDER
    match info.external_attr >> 28:
        case 0o12:
            return Kind.LINK
        case 0 | 0o10:
            return Kind.FILE
        case 0o4:
            return Kind.FOLDER
        case _:
            return Kind.SPECIAL

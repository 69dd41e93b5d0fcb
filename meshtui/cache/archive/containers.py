"""Which container a file is, by its first bytes: its name says nothing."""

from pathlib import Path

from meshtui.cache.archive.folder_reader import FolderArchive
from meshtui.cache.archive.members import Archive
from meshtui.cache.archive.streams import GZIP, PLAIN, ZSTD, Stream
from meshtui.cache.archive.tar_reader import TarArchive, is_tar_header
from meshtui.cache.archive.volumes import VolumeReader, volumes_from
from meshtui.cache.archive.zip_reader import ZipArchive
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.text import one_line

_ZIP = "zip"
_MAGIC = (
    (b"PK\3\4", _ZIP),
    (b"PK\5\6", _ZIP),
    (b"\x1f\x8b", GZIP),
    (b"\x28\xb5\x2f\xfd", ZSTD),
)
_SKIPPABLE = b"\x2a\x4d\x18"  # of zstd: `pzstd` begins with such a frame
_HEADER_BYTES = 512


def open_archive(path: Path) -> Archive:
    """The archive (of a split one the first part) or the entry's folder at `path`. Raises
    `NotFound`, `InvalidInput` where it is no archive, and `OSError`."""
    if path.is_dir():
        return FolderArchive(path)
    if not path.exists():
        raise NotFound(f"There is no file or folder {one_line(str(path))}.")
    file = VolumeReader(volumes_from(path))
    try:
        container = container_of(file)
        if container is None:
            raise InvalidInput(
                f"{one_line(path.name)} is no archive: neither zip nor tar, tar.gz or tar.zst."
            )
        return ZipArchive(file) if container == _ZIP else TarArchive(file, container)
    except BaseException:
        file.close()
        raise


def container_of(file: VolumeReader) -> str | None:
    """`zip`, `tar`, `tar.gz` or `tar.zst`; None for everything else, packed files that are no
    tar file among them."""
    start = file.read_at(0, _HEADER_BYTES)
    for magic, container in _MAGIC:
        if start.startswith(magic):
            return container if container == _ZIP else _packed_tar(file, container)
    if start[1:4] == _SKIPPABLE and start[:1] >= b"\x50":
        return _packed_tar(file, ZSTD)
    return PLAIN if is_tar_header(start) else None


def _packed_tar(file: VolumeReader, container: str) -> str | None:
    try:
        start = Stream(file, container, lambda _: None).read(_HEADER_BYTES)
    except InvalidInput:
        # It says what it is, and is damaged: better to say that than nothing.
        return container
    return container if is_tar_header(start) else None

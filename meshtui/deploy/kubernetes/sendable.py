"""What is sent of a cache entry: its files, with the SHA-256 that they are to have."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from meshtui.cache.checksums import read_checksums, write_checksums
from meshtui.cache.disk_errors import explained
from meshtui.cache.names import folder_name
from meshtui.cache.store import CHECKSUMS, METADATA, MODEL, Entry
from meshtui.cache.work import Work
from meshtui.domain.errors import InvalidInput
from meshtui.domain.text import one_line

_BLOCK_BYTES = 1 << 20


class SendableFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file. `path` is below the entry's folder there; `source` is where it is here, or what it
    holds."""

    path: str
    source: Path | bytes
    size_bytes: int
    sha256: str

    def is_damaged(self) -> bool:
        """Whether what is here is not what it should be. Blocks."""
        if isinstance(self.source, bytes):
            return False
        return hash_file(self.source, Work()) != self.sha256


class Sendable(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as it is sent. `name` is that of its folder, on both sides; `digest` stands for the
    content of all files below `model/`."""

    model: str
    name: str
    digest: str
    files: tuple[SendableFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def sendable(entry: Entry, work: Work) -> Sendable:
    """Blocks: entries that were never hashed are hashed now. Raises `InvalidInput` where files are
    missing, `Cancelled`, or what the disk says."""
    with explained(f"{entry.ref} cannot be read", entry.folder):
        sizes = dict(_sizes(entry.model_dir))
        digests = _digests(entry, sizes, work)
        metadata = (entry.folder / METADATA).read_bytes()
    files = [
        SendableFile(
            path=f"{MODEL}/{path}",
            source=entry.model_dir / path,
            size_bytes=size,
            sha256=digests[path],
        )
        for path, size in sizes.items()
    ]
    files += [_small(METADATA, metadata), _small(CHECKSUMS, write_checksums(digests))]
    return Sendable(
        model=str(entry.ref),
        name=folder_name(entry.ref),
        digest=content_digest(digests),
        files=tuple(files),
    )


def content_digest(digests: Mapping[str, str]) -> str:
    """Stands for files and their content: equal on both sides where they are. In words of
    `sha256sum`: the hash of its output, sorted by path, with one space."""
    lines = "".join(f"{digest} {path}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def hash_file(path: Path, work: Work) -> str:
    """Its SHA-256. Blocks."""
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        block = memoryview(bytearray(_BLOCK_BYTES))
        while count := file.readinto(block):
            found.update(block[:count])
            work.advance(count)
    return found.hexdigest()


def _digests(entry: Entry, sizes: Mapping[str, int], work: Work) -> dict[str, str]:
    known = read_checksums(entry.folder / CHECKSUMS)
    if known is None:
        work.begin("Hashing the files", sum(sizes.values()))
        return {path: hash_file(entry.model_dir / path, work) for path in sizes}
    if odd := sorted(known.keys() ^ sizes.keys()):
        name, lacks = one_line(odd[0], 120), odd[0] in known
        raise InvalidInput(
            f"The cache entry of {entry.ref} is not what was stored: {name} "
            f"{'is missing' if lacks else 'was added'}.",
            hint=f"See what else is wrong: meshtui cache verify {entry.ref}",
        )
    return known


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    for at, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(at, name)
            yield str(path.relative_to(folder)), path.stat().st_size


def _small(path: str, content: bytes) -> SendableFile:
    return SendableFile(
        path=path,
        source=content,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )

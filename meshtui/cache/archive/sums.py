"""The checksums that travel beside an archive: `x.zip.sha256`, as `sha256sum` writes and checks.

Each line names a file as it is unpacked, so `sha256sum -c` can be used beside the unpacked folder.
A line may also name the archive itself, as people write such files.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from meshtui.cache.archive.names import Parts, parts_of
from meshtui.cache.archive.volumes import volume_of
from meshtui.cache.checksums import MOST_BYTES, parse_checksums
from meshtui.cache.files import read_limited
from meshtui.cache.store import METADATA, MODEL
from meshtui.domain.errors import InvalidInput
from meshtui.domain.text import one_line

SUFFIX = ".sha256"
_LINE = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)")


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """SHA-256 by path below `model`, of the metadata, and of the archive's own files by name."""

    files: dict[str, str] = {}
    metadata: str | None = None
    archives: dict[str, str] = {}


def beside(archive: Path) -> Path:
    """Where the checksums of an archive (of a split one the first part) or a folder are."""
    named = volume_of(archive.name)
    return archive.with_name(f"{named[0] if named else archive.name}{SUFFIX}")


def read_beside(archive: Path, root: Parts) -> Sums | None:
    """None where there are none. Raises `InvalidInput` where they cannot be used."""
    path = beside(archive)
    if not path.is_file():
        return None
    data = read_limited(path, MOST_BYTES)
    if len(data) > MOST_BYTES:
        raise InvalidInput(f"The checksums in {one_line(path.name)} are too many.")
    files: dict[str, str] = {}
    archives: dict[str, str] = {}
    metadata = None
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not (found := _LINE.fullmatch(line)) or found[1]:
            raise InvalidInput(
                f"Line {number} of {one_line(path.name)} is no checksum.",
                hint="Remove that file if it is not of this archive.",
            )
        parts = parts_of(found[3])
        below = _below_root(parts, root)
        if below == (METADATA,):
            metadata = found[2].lower()
        elif below[:1] == (MODEL,) and len(below) > 1:
            files["/".join(below[1:])] = found[2].lower()
        else:
            archives["/".join(parts)] = found[2].lower()
    return Sums(files=files, metadata=metadata, archives=archives)


def read_inside(content: bytes) -> dict[str, str]:
    """The checksums that an archive holds. Raises `InvalidInput`."""
    return {
        "/".join(parts_of(path)): digest.lower()
        for path, digest in parse_checksums(content).items()
    }


def write_beside(target: str, root: str, files: Mapping[str, str], metadata: str) -> bytes:
    """The file's content; `target` is the archive's name, `metadata` the sum of its metadata."""
    lines = [f"# The files in {target}. Unpack it, then: sha256sum -c {target}{SUFFIX}"]
    lines.append(f"{metadata}  {root}/{METADATA}")
    lines += [f"{digest}  {root}/{MODEL}/{path}" for path, digest in sorted(files.items())]
    return ("\n".join(lines) + "\n").encode()


def _below_root(parts: Parts, root: Parts) -> Parts:
    """Roots may have been renamed since the sums were written."""
    if root and parts[: len(root)] == root:
        return parts[len(root) :]
    if len(parts) > 1 and parts[1] in (MODEL, METADATA):
        return parts[1:]
    return parts

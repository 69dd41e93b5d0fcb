"""`checksums.json`: the SHA-256 of every file below `model/`, beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from meshtui.domain.errors import InvalidInput

MOST_BYTES = 16_000_000


class Checksums(msgspec.Struct, frozen=True):
    """`files` maps paths to hexadecimal digests."""

    files: dict[str, str]
    algorithm: Literal["sha256"] = "sha256"


def read_checksums(path: Path) -> dict[str, str] | None:
    """None where there is no such file. Raises `InvalidInput` where it cannot be used."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return parse_checksums(content)


def parse_checksums(content: bytes) -> dict[str, str]:
    """Raises `InvalidInput`."""
    try:
        return msgspec.json.decode(content, type=Checksums).files
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("The checksums of the entry cannot be read.") from error


def write_checksums(files: Mapping[str, str]) -> bytes:
    """The file's content, the same whatever the order in which the files came."""
    document = {"algorithm": "sha256", "files": dict(sorted(files.items()))}
    return msgspec.json.format(msgspec.json.encode(document), indent=2)

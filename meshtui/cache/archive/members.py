"""What every container looks like to those who read one: members, one behind the other."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from enum import Enum, auto
from pathlib import Path
from typing import Self

from meshtui.cache.archive.names import shown
from meshtui.cache.copying import BlockWriter, hashed, new_file
from meshtui.cache.work import Work
from meshtui.domain.errors import InvalidInput

Advance = Callable[[int], None]


class Kind(Enum):
    """What a member is; only the first two are ever unpacked."""

    FILE = auto()
    FOLDER = auto()
    LINK = auto()
    SPECIAL = auto()


class Member(ABC):
    """A file, folder or other thing in a container. `name` is as it stands there, and may be
    hostile; `size_bytes` is what the container says. `counted`: whoever reads the packed file has
    told how much that was."""

    counted = False

    def __init__(self, name: str, kind: Kind, size_bytes: int) -> None:
        self.name = name
        self.kind = kind
        self.size_bytes = size_bytes

    @abstractmethod
    def read_into(self, buffer: memoryview) -> int:
        """Reads on; 0 at the end, and only when exactly `size_bytes` were read. Raises
        `InvalidInput` where the container is damaged, and `OSError`."""

    def read(self, most_bytes: int) -> bytes:
        """The next bytes, fewer than asked for only at the end."""
        data = bytearray(min(most_bytes, self.size_bytes))
        view = memoryview(data)
        done = 0
        while done < len(data) and (count := self.read_into(view[done:])):
            done += count
        return bytes(view[:done])

    def save(self, target: Path, work: Work) -> str:
        """Writes the whole content to the new file `target`; gives its SHA-256."""
        with new_file(target) as file:
            return hashed(
                self.read_into,
                BlockWriter(file),
                (lambda _: work.advance()) if self.counted else work.advance,
            )


class Archive(ABC):
    """An open container. `container` is its kind, as `ImportPlan` names it; `one_way` means that
    to reach a member is to unpack all that stands before it; `packed_bytes` is its own length."""

    container: str
    one_way = False
    packed_bytes = 0

    @abstractmethod
    def members(self, advance: Advance) -> Iterator[Member]:
        """All of them, from the beginning; a member can be read until the next one is taken. Of a
        container that goes one way `advance` is told the bytes read of the file. Raises
        `InvalidInput` where the container is damaged, and `OSError`."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cut_off(name: str) -> InvalidInput:
    """The error of a member that ends before it should."""
    return InvalidInput(f"It ends in the middle of {shown(name)}: the archive is cut off.")

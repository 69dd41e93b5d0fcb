"""What disks refuse to those who read and write archives: they are not those of the cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshtui.cache.disk_errors import error_of
from meshtui.domain.errors import NoRoom, Unavailable
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line

_MAKE_ROOM = "Free some space there, export to another disk, or in parts: --volume-size 4GB."
_GOES_ON = "Look whether the disk is still there; the next export of the same goes on."
_LOOK = "Look whether it may be read, and whether its disk is still there."


@contextmanager
def imported(path: Path) -> Iterator[None]:
    """Turns what cannot be read into `Unavailable`."""
    try:
        yield
    except OSError as error:
        found = error_of(error, f"{one_line(path.name)} cannot be read", path)
        raise Unavailable(found.message, hint=_LOOK) from error


@contextmanager
def exported(ref: ModelRef, folder: Path) -> Iterator[None]:
    """Turns what cannot be written into `NoRoom` or `Unavailable`."""
    try:
        yield
    except OSError as error:
        found = error_of(error, f"{ref} cannot be exported", folder)
        if isinstance(found, NoRoom):
            raise NoRoom(found.message, hint=_MAKE_ROOM) from error
        raise Unavailable(found.message, hint=_GOES_ON) from error


def is_full(error: OSError) -> bool:
    """Whether it says that there is no more room."""
    return isinstance(error_of(error, "", Path("/")), NoRoom)

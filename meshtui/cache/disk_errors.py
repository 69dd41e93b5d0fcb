"""What a file system refuses, as errors for people; and what asking once more puts right."""

import errno
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from meshtui.domain.errors import MeshtuiError, NoRoom, Unavailable
from meshtui.domain.text import one_line

T = TypeVar("T")

_TRIES = 3
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file is larger than the file system or the limits of this account allow",
}
_MAKE_ROOM = "Free some space, prune the model cache, or move it to another disk (MESHTUI_CACHE)."
_ELSEWHERE = "MESHTUI_CACHE names another folder for the model cache."


@contextmanager
def explained(what: str, place: Path) -> Iterator[None]:
    """Turns an `OSError` into a `MeshtuiError` that begins with `what` (a sentence without its
    full stop) and says why; `place` is the folder that it is about."""
    try:
        yield
    except OSError as error:
        raise error_of(error, what, place) from error


def error_of(error: OSError, what: str, place: Path) -> MeshtuiError:
    """`NoRoom` where the disk is full, else `Unavailable`."""
    shown = one_line(str(place))
    if reason := _FULL.get(error.errno or 0):
        return NoRoom(f"{what}: {reason} ({shown}).", hint=_MAKE_ROOM)
    if error.errno == errno.EROFS:
        return Unavailable(f"{what}: {shown} is on a read-only file system.", hint=_ELSEWHERE)
    if error.errno in (errno.EACCES, errno.EPERM):
        path = Path(os.fsdecode(error.filename)) if error.filename else place
        return not_allowed(what, path if path.is_absolute() else place)
    if error.errno == errno.ENOLCK:
        return Unavailable(
            f"{what}: the file system of {shown} gives no locks.",
            hint="On NFS the lock service must run (or mount with local_lock=flock, if only this "
            f"machine uses the folder). {_ELSEWHERE}",
        )
    said = error.strerror or str(error)
    return Unavailable(f"{what}: {one_line(said)} ({shown}).", hint=_ELSEWHERE)


def not_allowed(what: str, path: Path) -> Unavailable:
    """The error of one who may not change `path`; it names whose it is."""
    owner = owner_of(path)
    return Unavailable(
        f"{what}: {one_line(str(path))} belongs to {owner}, and you may not change it.",
        hint=f"Ask {owner}, or whoever looks after this folder.",
    )


def owner_of(path: Path) -> str:
    """The login name of the owner of a file, or of the first folder above that can be seen."""
    for place in (path, *path.parents):
        try:
            number = place.lstat().st_uid
        except OSError:
            continue
        try:
            return one_line(pwd.getpwuid(number).pw_name, 64)
        except KeyError:
            return f"user {number}"
    return "somebody else"


def again_if_stale(call: Callable[[], T]) -> T:
    """What `call` gives. Another machine may replace a file on NFS while it is looked up; asking
    anew finds the new one."""
    for _ in range(_TRIES - 1):
        try:
            return call()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return call()

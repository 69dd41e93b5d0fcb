"""One folder in the place of another, in one step where the file system can do that."""

import contextlib
import ctypes
import errno
import os
from pathlib import Path

from meshtui.cache.files import TRASH_PREFIX, clear, discard, empty_trash, remove, sync_folder
from meshtui.cache.sharing import PRIVATE, Sharing

_RENAME_EXCHANGE = 2  # <linux/fs.h>
_AT_FDCWD = -100
# In it, a file for each folder that is being removed where it is.
GOING = ".going"


def put_folder(
    source: Path, target: Path, aside: Path, *, first: str, sharing: Sharing = PRIVATE
) -> None:
    """Puts the folder `source` at `target` on the same file system, durably. What was there is
    replaced in one step where two names can be exchanged. NFS cannot: there, the older one is at
    `aside` for a moment, and `target` is missing; `restore` puts right what a kill leaves then.
    `first` is as in `take_away`."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if exchange(source, target):
            discard(source)
        else:
            sharing.make_folder(aside.parent)
            take_away(target, aside, first=first, sharing=sharing)
            source.rename(target)
            clear(aside)
            with contextlib.suppress(OSError):
                aside.parent.rmdir()
    sync_folder(target.parent)


def take_away(path: Path, aside: Path, *, first: str, sharing: Sharing = PRIVATE) -> None:
    """Moves a file or folder to `aside`. Overlay file systems cannot move a folder that came with
    an image: it is removed where it is then, the file `first` in it before all others; what a
    kill leaves of it goes with `finish_removals`."""
    try:
        path.rename(aside)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        mark = path.parent / GOING / path.name
        sharing.make_folder(mark.parent)
        mark.touch()
        sync_folder(mark.parent)
        (path / first).unlink(missing_ok=True)
        remove(path)
        _unmark(mark)


def finish_removals(root: Path, *, first: str) -> None:
    """Removes the folders in `root` of which `take_away` was killed after it had begun. Hold the
    lock that it is called with."""
    going = root / GOING
    if going.is_dir():
        for mark in going.iterdir():
            folder = root / mark.name
            # Where the first file is there, nothing was removed yet, or something newer came.
            if not os.path.lexists(folder / first):
                remove(folder)
            _unmark(mark)


def _unmark(mark: Path) -> None:
    mark.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        mark.parent.rmdir()


def restore(aside: Path, root: Path) -> None:
    """Puts the folders in `aside` back to their places in `root`, but for those that something
    newer has taken. Hold the lock that `put_folder` is called with."""
    for path in aside.iterdir():
        if path.name.startswith(TRASH_PREFIX) or os.path.lexists(root / path.name):
            discard(path)
        else:
            path.rename(root / path.name)
    empty_trash(aside)
    aside.rmdir()


def exchange(one: Path, other: Path) -> bool:
    """Swaps two names by renameat2(2); False where that cannot be."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)

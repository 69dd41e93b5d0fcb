"""Takes a file from elsewhere into the cache without copying it, where the disk can."""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Literal

from meshtui.cache.copying import copy_hashed, reflink
from meshtui.cache.sharing import Sharing
from meshtui.cache.work import Work
from meshtui.domain.errors import Conflict
from meshtui.domain.text import one_line

How = Literal["link", "reflink", "copy"]
# What says that two names of one file cannot be had here: another file system, a file of somebody
# else (fs.protected_hardlinks), too many names, or a file system that has no links.
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


class Linker:
    """Brings files into folders below `target`, a cache's root with its `sharing`.

    A hard link is one file with two names: it has the rights of the original, and whoever writes
    into one writes into the other. Neither the Hub's client nor we ever do.
    """

    def __init__(self, target: Path, sharing: Sharing) -> None:
        self._target = next((p for p in (target, *target.parents) if p.is_dir()), target)
        self._sharing = sharing
        # By device of the source: whether it is this file system (as it is mounted here), and
        # whether it shares blocks with it.
        self._links: dict[int, bool] = {}
        self._reflinks: dict[int, bool] = {}

    def is_same_disk(self, place: str, device: int) -> bool:
        """Whether a file or folder, which is on that device, is on the cache's file system, in
        the same mount of it."""
        if device not in self._links:
            here = self._target.stat().st_dev == device
            self._links[device] = here and _mount(place) == _mount(str(self._target))
        return self._links[device]

    def takes_all(self, place: str, device: int) -> bool:
        """Whether all own files below a folder, which is on that device, can be linked."""
        return self._sharing.file_mode is None and self.is_same_disk(place, device)

    def _may_link(self, place: str, found: os.stat_result) -> bool:
        """Whether this user may link the file, and all who share the cache could read it then."""
        if self._sharing.file_mode is not None and not found.st_mode & stat.S_IROTH:
            readable = found.st_mode & stat.S_IRGRP and found.st_gid == self._sharing.group
            if not readable:
                return False
        return may_link(place, found)

    def how(self, place: str, found: os.stat_result) -> How:
        """How the file would come, as far as can be told without trying."""
        if self._may_link(place, found) and self.is_same_disk(place, found.st_dev):
            return "link"
        if found.st_dev not in self._reflinks:
            self._reflinks[found.st_dev] = _shares_blocks(place, self._target)
        return "reflink" if self._reflinks[found.st_dev] else "copy"

    def bring(
        self,
        place: str,
        found: os.stat_result,
        target: Path,
        *,
        allow_copy: bool,
        work: Work,
    ) -> str | None:
        """Makes `target`, whose folder is there, of the regular file at `place`, a path without
        links, of which `found` was told. Gives the SHA-256 where it had to be read. Raises
        `Conflict` where it would have to be copied and may not be, or where it is another file by
        now; `OSError`; and `Cancelled`."""
        if self._may_link(place, found) and _link(place, target):
            if not _is_same(target.lstat(), found):
                target.unlink()
                raise _changed(place)
            return None
        # NONBLOCK: opening a pipe in its place would not return.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        source = os.open(place, flags)
        try:
            if not _is_same(os.fstat(source), found):
                raise _changed(place)
            if _reflink(source, target):
                return None
            if not allow_copy:
                raise Conflict(
                    "It cannot be linked: it is on another disk, or belongs to somebody else.",
                    hint="Allow that it is copied (--copy); it takes its size once more.",
                )
            return copy_hashed(Path(f"/proc/self/fd/{source}"), target, work)
        finally:
            os.close(source)


def may_link(place: str, found: os.stat_result) -> bool:
    """Whether this user may give the file another name. Linux forbids it for files of others that
    one may not write (fs.protected_hardlinks)."""
    return os.geteuid() in (0, found.st_uid) or os.access(
        place, os.R_OK | os.W_OK, effective_ids=True
    )


def _link(place: str, target: Path) -> bool:
    try:
        os.link(place, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True


def _reflink(source: int, target: Path) -> bool:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(target, flags, 0o644)
    try:
        done = reflink(source, file)
    finally:
        os.close(file)
    if not done:
        target.unlink()
    return done


def _is_same(now: os.stat_result, before: os.stat_result) -> bool:
    return stat.S_ISREG(now.st_mode) and (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino)


def _changed(place: str) -> Conflict:
    return Conflict(
        f"{one_line(place, 300)} was replaced while it was looked at.", hint="Try again."
    )


def _mount(place: str) -> str:
    """Which mount a path is in: between two of them, even of one disk, no links can be made.
    Empty where the kernel does not tell."""
    handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/self/fdinfo/{handle}").read_text().splitlines():
                if line.startswith("mnt_id:"):
                    return line
        return ""
    finally:
        os.close(handle)


def _shares_blocks(place: str, target: Path) -> bool:
    """Tries it with a file that has no name, and is gone when it is closed."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        source = os.open(place, flags)
        opened.callback(os.close, source)
        trial = os.open(target, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        opened.callback(os.close, trial)
        return reflink(source, trial)
    return False

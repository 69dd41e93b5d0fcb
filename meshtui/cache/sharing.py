"""Rights in a cache that several users share, whatever the umask of each of them.

A cache is shared where its root can be written to by the group (`chmod 2775`). Everything in it
then belongs to the root's group, which may change it; others may do what they may do at the root.
Where the group may not write, nothing is done: new files are what the umask makes them.
"""

import contextlib
import os
import stat
import struct
from pathlib import Path

import msgspec

_ACL = "system.posix_acl_default"
# <linux/posix_acl_xattr.h>: version 2, then tag, rights and id (none) of owner, group and others.
_ACL_VERSION = struct.pack("<I", 2)
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_TAGS = ((0x01, 6), (0x04, 3), (0x20, 0))
_ACL_NO_ID = 0xFFFFFFFF


class Sharing(msgspec.Struct, frozen=True):
    """`folder_mode` and `file_mode` are None in a private cache."""

    group: int = -1
    folder_mode: int | None = None

    @property
    def file_mode(self) -> int | None:
        return None if self.folder_mode is None else self.folder_mode & 0o666

    def make_folder(self, path: Path) -> None:
        """The folder, with those above it; it may be there already."""
        if path.is_dir():
            return
        path.mkdir(parents=True, exist_ok=True)
        self.settle(path)

    def settle(self, target: Path | int) -> None:
        """Gives a file or folder (or an open one) the group and the rights that it should have.
        Only its owner can do that, so what belongs to others is left as it is; and so is a file
        with other links, which is somewhere else too."""
        if self.folder_mode is None or self.file_mode is None:
            return
        found = os.stat(target)  # noqa: PTH116 (open files too)
        is_folder = stat.S_ISDIR(found.st_mode)
        if not is_folder and found.st_nlink > 1:
            return
        mode = self.folder_mode if is_folder else self.file_mode
        with contextlib.suppress(OSError):
            if found.st_gid != self.group:
                os.chown(target, -1, self.group)
            if stat.S_IMODE(found.st_mode) != mode:
                os.chmod(target, mode)  # noqa: PTH101

    def pass_on(self, folder: Path) -> None:
        """Makes files that anybody makes in the folder from now on writable to the group, where
        the file system has access control lists: half a download can be gone on with by others."""
        if self.folder_mode is None:
            return
        rights = b"".join(
            _ACL_ENTRY.pack(tag, self.folder_mode >> shift & 0o7, _ACL_NO_ID)
            for tag, shift in _ACL_TAGS
        )
        with contextlib.suppress(OSError):
            os.setxattr(folder, _ACL, _ACL_VERSION + rights)


PRIVATE = Sharing()


def sharing_of(root: Path) -> Sharing:
    """As the mode of a cache's root folder says; private where it is not there."""
    try:
        found = root.stat()
    except FileNotFoundError:
        return PRIVATE
    if not found.st_mode & stat.S_IWGRP:
        return PRIVATE
    return Sharing(found.st_gid, stat.S_ISGID | 0o770 | (found.st_mode & 0o007))

"""Small steps on files that many parts take: atomic writes, durable renames, sizes, removal."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from meshtui.cache.sharing import PRIVATE, Sharing

TRASH_PREFIX = ".trash-"
TEMPORARY_SUFFIX = ".tmp"

# What an NFS client makes of a file that is removed while it is open; gone when it is closed.
_NFS_LEFTOVER = re.compile(r"\.nfs[0-9a-f]{8,}")
# A folder, or a file system, that cannot be flushed.
_NO_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF)


def read_limited(path: Path, limit_bytes: int) -> bytes:
    """The start of a file, one byte more than the limit where it is longer. Raises `OSError`,
    also where it is no regular file (a pipe would never end)."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "this is not a regular file", str(path))
        return file.read(limit_bytes + 1)


def write_atomically(
    path: Path,
    data: bytes,
    mode: int = 0o644,
    *,
    by_way_of: Path | None = None,
    sharing: Sharing = PRIVATE,
) -> None:
    """The file holds either what it held or `data`, whatever happens: temporary file, fsync,
    rename, fsync of the folder. The temporary file is in `by_way_of` (None: beside it), a folder
    on the same file system."""
    name = f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    temporary = (by_way_of or path.parent) / name
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            sharing.settle(stream.fileno())
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames in the folder durable, where its file system can."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(handle)
    finally:
        os.close(handle)


def settle_tree(folder: Path, sharing: Sharing = PRIVATE) -> None:
    """Makes every file and folder below (and itself) durable, with the rights of the cache. Files
    with other links are not flushed: their content was there before."""
    for root, _, names in os.walk(folder):
        for name in names:
            if is_leftover(name):
                continue
            handle = os.open(os.path.join(root, name), os.O_RDONLY | os.O_CLOEXEC)  # noqa: PTH118
            try:
                if os.fstat(handle).st_nlink == 1:
                    sharing.settle(handle)
                    _sync(handle)
            finally:
                os.close(handle)
        sharing.settle(Path(root))
        sync_folder(Path(root))


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def is_leftover(name: str) -> bool:
    """Whether a file is what NFS keeps of a removed one."""
    return _NFS_LEFTOVER.fullmatch(name) is not None


def tree_files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path and `lstat` of every file below, links and what is no file included."""
    for root, _, names in os.walk(folder):
        for name in names:
            if not is_leftover(name):
                path = os.path.join(root, name)  # noqa: PTH118 (100,000 files)
                yield path, os.lstat(path)


def tree_bytes(folder: Path) -> int:
    """Sum of the files' lengths; links count as nothing."""
    return sum(found.st_size for _, found in tree_files(folder) if not stat.S_ISLNK(found.st_mode))


def disk_bytes(folder: Path) -> int:
    """What the tree takes on disk, files with several links once."""
    total = 0
    seen = set()
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            found = os.lstat(os.path.join(root, name))  # noqa: PTH118 (100,000 files)
            if found.st_nlink == 1 or found.st_ino not in seen:
                seen.add(found.st_ino)
                total += found.st_blocks * 512
    return total


def trash(path: Path, into: Path | None = None) -> Path | None:
    """Moves a file or folder out of sight in one step, beside itself or into another folder of
    the same file system; give the result to `shutil.rmtree`. None where there is nothing."""
    gone = (into or path.parent) / f"{TRASH_PREFIX}{secrets.token_hex(8)}"
    try:
        path.rename(gone)
    except FileNotFoundError:
        return None
    return gone


def discard(path: Path, into: Path | None = None) -> None:
    """Removes a file or folder by way of the trash, so that it is gone at once by name, and its
    contents after that. What cannot be removed now stays in the trash."""
    if gone := trash(path, into):
        clear(gone)


def remove(path: Path) -> None:
    """Removes a file or a folder with all that is in it; raises `OSError`."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clear(path: Path) -> None:
    """As `remove`, as far as that goes."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def empty_trash(folder: Path) -> None:
    """Removes what a process that died had put in the trash of `folder`."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.iterdir():
            if path.name.startswith(TRASH_PREFIX):
                clear(path)

"""Small steps on files that many parts take: atomic writes, durable renames, sizes, removal."""

import ctypes
import errno
import os
import secrets
import shutil
from pathlib import Path

TRASH_PREFIX = ".trash-"


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """The file holds either what it held or `data`, whatever happens: temporary file, fsync,
    rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames in the folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Makes every file and folder below (and itself) durable."""
    for root, _, names in os.walk(folder):
        for name in names:
            handle = os.open(Path(root, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(root))


def tree_bytes(folder: Path) -> int:
    """Sum of the files' lengths; links count as nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if not path.is_symlink():
                total += path.stat().st_size
    return total


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


def trash(path: Path) -> Path | None:
    """Moves a file or folder out of sight in one step, beside itself; give the result to
    `shutil.rmtree`. None where there is nothing."""
    gone = path.with_name(f"{TRASH_PREFIX}{secrets.token_hex(8)}")
    try:
        path.rename(gone)
    except FileNotFoundError:
        return None
    return gone


def discard(path: Path) -> None:
    """Removes a folder so that it is gone at once by name, and its contents after that."""
    if gone := trash(path):
        shutil.rmtree(gone, ignore_errors=True)


def remove(path: Path) -> None:
    """Removes a file or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put_folder(source: Path, target: Path) -> None:
    """Puts the folder `source` at `target` on the same file system, durably. What was there is
    replaced in one step where the file system can exchange two names (NFS cannot: there,
    `target` is missing for a moment)."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if _exchange(source, target):
            discard(source)
        else:
            discard(target)
            source.rename(target)
    sync_folder(target.parent)


_RENAME_EXCHANGE = 2  # <linux/fs.h>
_AT_FDCWD = -100


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two names by renameat2(2); False where that cannot be."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def empty_trash(folder: Path) -> None:
    """Removes what a process that died had put in the trash of `folder`."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name.startswith(TRASH_PREFIX):
                shutil.rmtree(path, ignore_errors=True)

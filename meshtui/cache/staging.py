"""Where entries grow until they are complete: private folders in `ROOT/.staging/`.

A folder of a download that can go on is `<name>.partial`, the same one for each model. Others have
a random name and a claim beside them, a locked file: when its process dies, the lock is gone, and
the next sweep removes both.
"""

import contextlib
import hashlib
import os
import platform
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from meshtui.cache.files import (
    TEMPORARY_SUFFIX,
    clear,
    discard,
    empty_trash,
    read_limited,
)
from meshtui.cache.locks import FileLock
from meshtui.cache.names import folder_name, unescape
from meshtui.cache.sharing import Sharing
from meshtui.domain.errors import InvalidInput
from meshtui.domain.model_ref import ModelRef

STAGING = ".staging"
PARTIAL = ".partial"
NOTE = "stage.json"
_CLAIM = ".claim"
_NOTE_BYTES = 10_000
# Locks may not reach from one machine to another (NFS mounted with local locks). What another
# machine has staged goes only when it was not touched for so long.
_FOREIGN_AGE_S = 7 * 86400.0


class StageNote(msgspec.Struct, frozen=True):
    """What a stage says of itself: the model that it is for, who began it, and when."""

    model: str
    by: str = ""
    since: float = 0.0


class Staging:
    """The stages below a cache's root."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._claims: dict[Path, FileLock] = {}

    @property
    def folder(self) -> Path:
        return self._folder

    def partial(self, ref: ModelRef, by: str, sharing: Sharing) -> Path:
        """The folder in which downloads of the model go on. One that somebody else left behind,
        in which this user may not write, is begun anew."""
        sharing.make_folder(self._folder)
        folder = self._folder / f"{short(folder_name(ref))}{PARTIAL}"
        if folder.is_dir() and not _all_writable(folder):
            discard(folder)
        return self._begin(folder, ref, by, sharing)

    def claimed(self, ref: ModelRef, by: str, sharing: Sharing) -> Path:
        """A new folder that goes when this process does."""
        sharing.make_folder(self._folder)
        while True:
            folder = self._folder / secrets.token_hex(8)
            claim = folder.with_suffix(_CLAIM)
            lock = FileLock(claim, sharing)
            # A sweep may come between the making of the file and its locking.
            if lock.try_acquire() and claim.exists():
                lock.write(platform.node())
                self._claims[folder] = lock
                return self._begin(folder, ref, by, sharing)
            lock.release()

    def unclaim(self, folder: Path) -> None:
        if lock := self._claims.pop(folder, None):
            folder.with_suffix(_CLAIM).unlink(missing_ok=True)
            lock.release()

    def partials(self) -> Iterator[Path]:
        """The folders of downloads that are not finished."""
        with contextlib.suppress(OSError):
            for path in sorted(self._folder.iterdir()):
                if path.name.endswith(PARTIAL) and path.is_dir():
                    yield path

    def sweep(self) -> None:
        """Removes what processes that died had staged, but for downloads that can go on."""
        empty_trash(self._folder)
        for claim in self._folder.glob(f"*{_CLAIM}"):
            with contextlib.suppress(OSError):
                self._sweep(claim)

    def sweep_temporaries(self) -> None:
        """Removes files that were to be renamed by processes that died."""
        for path in self._folder.glob(f".*{TEMPORARY_SUFFIX}"):
            clear(path)

    def _begin(self, folder: Path, ref: ModelRef, by: str, sharing: Sharing) -> Path:
        sharing.make_folder(folder)
        sharing.pass_on(folder)
        note = folder / NOTE
        if not note.exists():
            data = msgspec.json.encode(StageNote(str(ref), by, time.time()))
            note.write_bytes(data)
            sharing.settle(note)
        return folder

    def _sweep(self, claim: Path) -> None:
        machine = read_limited(claim, _NOTE_BYTES).decode(errors="replace")
        if machine and machine != platform.node() and _age_s(claim) < _FOREIGN_AGE_S:
            return
        lock = FileLock(claim)
        if lock.try_acquire():
            try:
                clear(claim.with_suffix(""))
                claim.unlink(missing_ok=True)
            finally:
                lock.release()


def note_of(folder: Path) -> StageNote:
    """What a stage says of itself; for one that says nothing, what its name tells."""
    try:
        return msgspec.json.decode(read_limited(folder / NOTE, _NOTE_BYTES), type=StageNote)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        return StageNote(unescape(folder.name.removesuffix(PARTIAL)))
    except InvalidInput:
        return StageNote("")


def short(name: str) -> str:
    """A name that leaves room for a suffix."""
    return name if len(name) <= 200 else hashlib.sha256(name.encode()).hexdigest()


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _all_writable(folder: Path) -> bool:
    for root, _, names in os.walk(folder):
        paths = (root, *(os.path.join(root, name) for name in names))  # noqa: PTH118
        if not all(os.access(path, os.W_OK, effective_ids=True) for path in paths):
            return False
    return True

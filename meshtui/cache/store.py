"""The managed cache: one folder per model, which appears and goes in one step.

`ROOT/<escaped key>/model/...` and `ROOT/<escaped key>/model_metadata.json`. What is not finished
lives in `ROOT/.staging/`, on the same file system, so that a commit is one rename: an entry is
either there and complete, or it is not there. Locks lie in `ROOT/.locks/`.

All calls of `ModelStore` block for as long as the disk does: call them in a thread.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from getpass import getuser
from pathlib import Path

import msgspec

from meshtui.cache.files import (
    discard,
    empty_trash,
    put_folder,
    remove,
    sync_tree,
    tree_bytes,
    write_atomically,
)
from meshtui.cache.locks import FileLock, locked
from meshtui.cache.metadata import MAX_BYTES, ModelMetadata, read_metadata, write_metadata
from meshtui.cache.names import folder_name, unescape
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.model_ref import ModelRef

MODEL = "model"
METADATA = "model_metadata.json"
# Our own checksums: beside `model/`, so that an archive of the entry stays readable elsewhere.
CHECKSUMS = "checksums.json"
STAGING = ".staging"
_LOCKS = ".locks"
_CLAIM = ".claim"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A complete entry. `folder` holds `model/`."""

    ref: ModelRef
    folder: Path
    metadata: ModelMetadata

    @property
    def model_dir(self) -> Path:
        return self.folder / MODEL


class Stage:
    """A private folder in which an entry grows until it is committed."""

    def __init__(self, store: "ModelStore", ref: ModelRef, folder: Path) -> None:
        self._store = store
        self.ref = ref
        self.folder = folder
        self.committed = False

    @property
    def model_dir(self) -> Path:
        return self.folder / MODEL

    def commit(self, metadata: ModelMetadata, checksums: dict[str, str] | None = None) -> Entry:
        """Makes it the entry of its model; an older one is replaced. `checksums` are SHA-256 by
        path below `model/`. Raises `InvalidInput` where there is nothing to commit."""
        if not self.model_dir.is_dir() or not any(self.model_dir.iterdir()):
            raise InvalidInput(f"Nothing was stored for {self.ref}.")
        for path in self.folder.iterdir():
            if path.name != MODEL:
                remove(path)
        metadata = msgspec.structs.replace(metadata, size_in_bytes=tree_bytes(self.model_dir))
        if checksums is not None:
            document = {"algorithm": "sha256", "files": checksums}
            (self.folder / CHECKSUMS).write_bytes(
                msgspec.json.format(msgspec.json.encode(document), indent=2)
            )
        (self.folder / METADATA).write_bytes(write_metadata(metadata))
        entry = self._store._adopt(self, metadata)
        self.committed = True
        return entry


class ModelStore:
    """The cache below `root`; any number of processes may use it at the same time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._claims: dict[Path, FileLock] = {}

    @property
    def root(self) -> Path:
        return self._root

    def folder(self, ref: ModelRef) -> Path:
        """Where the entry of a model is, or would be."""
        return self._root / folder_name(ref)

    def get(self, ref: ModelRef) -> Entry:
        """Raises `NotFound` where it is missing, `InvalidInput` where its metadata is broken."""
        folder = self.folder(ref)
        try:
            with (folder / METADATA).open("rb") as file:
                metadata = read_metadata(file.read(MAX_BYTES + 1))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(
                f"{ref} is not in the model cache.", hint=f"Looked in {self._root}."
            ) from None
        if not (folder / MODEL).is_dir():
            raise InvalidInput(f"The cache entry of {ref} has no {MODEL} folder: {folder}.")
        return Entry(ref=ref, folder=folder, metadata=metadata)

    def find(self, ref: ModelRef) -> Entry | None:
        """As `get`, None where it is missing."""
        try:
            return self.get(ref)
        except NotFound:
            return None

    def list(self) -> list[Entry]:
        """All complete entries, by name; what cannot be read is left out."""
        return sorted(self._entries(), key=lambda entry: str(entry.ref))

    def _entries(self) -> Iterator[Entry]:
        if not self._root.is_dir():
            return
        for path in self._root.iterdir():
            with contextlib.suppress(InvalidInput, NotFound, OSError):
                if not path.name.startswith("."):
                    yield self.get(ModelRef.parse(unescape(path.name)))

    def record_use(self, ref: ModelRef, user: str | None = None) -> None:
        """Writes down that the model is used now, by `user` (None: the one who runs this). A
        cache that cannot be written to is used all the same."""
        with contextlib.suppress(OSError, NotFound, InvalidInput):
            entry = self.get(ref)
            metadata = msgspec.structs.replace(
                entry.metadata, last_dss_usage=now_ms(), last_used_by=user or current_user()
            )
            write_atomically(entry.folder / METADATA, write_metadata(metadata))

    def delete(self, ref: ModelRef) -> None:
        """Raises `NotFound`. The entry is gone in one step."""
        folder = self.folder(ref)
        if not folder.exists():
            raise NotFound(f"{ref} is not in the model cache.")
        discard(folder)

    @asynccontextmanager
    async def lock(
        self, ref: ModelRef, on_wait: Callable[[], None] | None = None
    ) -> AsyncIterator[None]:
        """Held by whoever brings a model in; others wait and then find it."""
        async with locked(self._root / _LOCKS / f"{_short(folder_name(ref))}.lock", on_wait):
            yield

    def stage(self, ref: ModelRef, *, resume: bool = False) -> Stage:
        """A folder for a new entry; end it with `commit` or `abandon`. With `resume` it is always
        the same one for a model, with what an earlier attempt left there: hold the `lock`."""
        staging = self._root / STAGING
        staging.mkdir(parents=True, exist_ok=True)
        if resume:
            folder = staging / f"{_short(folder_name(ref))}.partial"
        else:
            folder = self._claimed(staging)
        folder.mkdir(exist_ok=True)
        return Stage(self, ref, folder)

    def abandon(self, stage: Stage) -> None:
        """Removes what was staged, if it was not committed."""
        if not stage.committed:
            discard(stage.folder)
        self._unclaim(stage.folder)

    def sweep(self) -> None:
        """Removes what processes that died had staged, but for downloads that can go on."""
        staging = self._root / STAGING
        empty_trash(self._root)
        empty_trash(staging)
        if not staging.is_dir():
            return
        for claim in staging.glob(f"*{_CLAIM}"):
            lock = FileLock(claim)
            if lock.try_acquire():
                shutil.rmtree(claim.with_suffix(""), ignore_errors=True)
                claim.unlink(missing_ok=True)
                lock.release()

    def _claimed(self, staging: Path) -> Path:
        """A new folder's path, and the lock beside it that says that its process lives: process
        ids are used again, and mean nothing to another machine on the same NFS folder."""
        while True:
            folder = staging / secrets.token_hex(8)
            claim = folder.with_suffix(_CLAIM)
            lock = FileLock(claim)
            # A sweep may come between the making of the file and its locking.
            if lock.try_acquire() and claim.exists():
                self._claims[folder] = lock
                return folder
            lock.release()

    def _unclaim(self, folder: Path) -> None:
        if lock := self._claims.pop(folder, None):
            folder.with_suffix(_CLAIM).unlink(missing_ok=True)
            lock.release()

    def _adopt(self, stage: Stage, metadata: ModelMetadata) -> Entry:
        sync_tree(stage.folder)
        target = self.folder(stage.ref)
        put_folder(stage.folder, target)
        self._unclaim(stage.folder)
        return Entry(ref=stage.ref, folder=target, metadata=metadata)


def _short(name: str) -> str:
    """A name that leaves room for a suffix."""
    return name if len(name) <= 200 else hashlib.sha256(name.encode()).hexdigest()


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def current_user() -> str:
    """The login name, or the number of the user where there is none."""
    try:
        return getuser()
    except (KeyError, OSError):
        return str(os.getuid())

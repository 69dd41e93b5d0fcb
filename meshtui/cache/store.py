"""The managed cache: one folder per model, which appears and goes in one step.

`ROOT/<escaped key>/model/...` and `ROOT/<escaped key>/model_metadata.json`. What is not finished
lives in `ROOT/.staging/`, on the same file system, so that a commit is one rename: an entry is
either there and complete, or it is not there. Locks lie in `ROOT/.locks/`: one a model, held for
as long as it is brought in, and one that is held for the moment in which names change.

Several users may share a cache (`meshtui.cache.sharing`), also over NFS.

All calls of `ModelStore` block for as long as the disk does: call them in a thread.
"""

import contextlib
import os
import secrets
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from getpass import getuser
from pathlib import Path

import msgspec

from meshtui.cache.checksums import write_checksums
from meshtui.cache.disk_errors import again_if_stale, error_of, explained
from meshtui.cache.files import (
    TRASH_PREFIX,
    clear,
    discard,
    empty_trash,
    is_leftover,
    read_limited,
    settle_tree,
    sync_folder,
    tree_bytes,
    write_atomically,
)
from meshtui.cache.locks import FileLock
from meshtui.cache.metadata import MAX_BYTES, ModelMetadata, read_metadata, write_metadata
from meshtui.cache.names import folder_name, unescape
from meshtui.cache.replacing import GOING, finish_removals, put_folder, restore, take_away
from meshtui.cache.sharing import Sharing, sharing_of
from meshtui.cache.staging import PARTIAL, Staging
from meshtui.cache.staging import STAGING as STAGING
from meshtui.cache.store_locks import CHANGES_TIMEOUT_S, StoreLocks
from meshtui.cache.work import Work
from meshtui.domain.errors import InvalidInput, MeshtuiError, NotFound
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line

MODEL = "model"
METADATA = "model_metadata.json"
# Our own checksums: beside `model/`, so that an archive of the entry stays readable elsewhere.
CHECKSUMS = "checksums.json"
# Where an older entry is for the moment in which a newer one takes its place, on file systems
# that cannot exchange two names.
_REPLACED = ".replaced"
_USE_TIMEOUT_S = 5.0


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
        path below `model/`. Raises `InvalidInput` where there is nothing to commit, and `NoRoom`
        or `Unavailable` where the disk refuses it; what is staged is still there then."""
        with explained(f"{self.ref} cannot be stored", self._store.root):
            return self._commit(metadata, checksums)

    def _commit(self, metadata: ModelMetadata, checksums: dict[str, str] | None) -> Entry:
        if not self.model_dir.is_dir() or not any(self.model_dir.iterdir()):
            raise InvalidInput(f"Nothing was stored for {self.ref}.")
        for path in self.folder.iterdir():
            if path.name != MODEL and not is_leftover(path.name):
                # By way of another folder: what is still open on NFS cannot go at once.
                discard(path, self.folder.parent)
        metadata = msgspec.structs.replace(metadata, size_in_bytes=tree_bytes(self.model_dir))
        if checksums is not None:
            (self.folder / CHECKSUMS).write_bytes(write_checksums(checksums))
        (self.folder / METADATA).write_bytes(write_metadata(metadata))
        entry = self._store._take_in(self, metadata)
        self.committed = True
        return entry


class ModelStore:
    """The cache below `root`; any number of processes and users may use it at the same time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staging = Staging(root / STAGING)
        self._locks = StoreLocks(root)

    @property
    def root(self) -> Path:
        return self._root

    @property
    def staging(self) -> Staging:
        return self._staging

    @property
    def sharing(self) -> Sharing:
        """Which rights new files get here."""
        return sharing_of(self._root)

    def folder(self, ref: ModelRef) -> Path:
        """Where the entry of a model is, or would be."""
        return self._root / folder_name(ref)

    def get(self, ref: ModelRef) -> Entry:
        """Raises `NotFound` where it is missing, `InvalidInput` where it is broken, and
        `Unavailable` where it cannot be read."""
        if (self._root / _REPLACED / folder_name(ref)).exists():
            self._restore_replaced()
        return self._get(ref)

    def _get(self, ref: ModelRef) -> Entry:
        folder = self.folder(ref)
        try:
            data = again_if_stale(lambda: read_limited(folder / METADATA, MAX_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(
                f"{ref} is not in the model cache.", hint=f"Looked in {self._root}."
            ) from None
        except OSError as error:
            raise error_of(error, f"{ref} cannot be read", folder) from error
        metadata = read_metadata(data)
        if not (folder / MODEL).is_dir():
            raise InvalidInput(f"The cache entry of {ref} has no {MODEL} folder: {folder}.")
        if metadata.ref != ref:
            raise InvalidInput(
                f"The folder of {ref} holds {metadata.ref}: {folder}.",
                hint=f"If that is right, rename it to {folder_name(metadata.ref)}.",
            )
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
        self._restore_replaced()
        with contextlib.suppress(OSError):
            for name in again_if_stale(lambda: os.listdir(self._root)):  # noqa: PTH208
                with contextlib.suppress(MeshtuiError):
                    if not name.startswith("."):
                        yield self._get(ModelRef.parse(unescape(name)))

    def _restore_replaced(self) -> None:
        """Puts back the older entries that processes which died had set aside for newer ones."""
        aside = self._root / _REPLACED
        if aside.is_dir():
            with contextlib.suppress(OSError, MeshtuiError), self._locks.changing():
                restore(aside, self._root)

    def record_use(self, ref: ModelRef, user: str | None = None) -> None:
        """Writes down that the model is used now, by `user` (None: the one who runs this). A
        cache that cannot be written to is used all the same."""

        def used(metadata: ModelMetadata) -> ModelMetadata:
            return msgspec.structs.replace(
                metadata, last_dss_usage=now_ms(), last_used_by=user or current_user()
            )

        with contextlib.suppress(MeshtuiError):
            self.update(ref, used, timeout_s=_USE_TIMEOUT_S)

    def update(
        self,
        ref: ModelRef,
        change: Callable[[ModelMetadata], ModelMetadata],
        *,
        timeout_s: float = CHANGES_TIMEOUT_S,
    ) -> None:
        """Rewrites the metadata of an entry; what other processes write at the same time is not
        lost. Raises as `get`, and where the disk refuses it."""
        path = self.folder(ref) / METADATA
        with explained(f"The metadata of {ref} cannot be written", path.parent):
            self.get(ref)
            with self._locks.changing(timeout_s):
                metadata = change(self._get(ref).metadata)
                sharing = self.sharing
                sharing.make_folder(self._staging.folder)
                write_atomically(
                    path,
                    write_metadata(metadata),
                    stat.S_IMODE(path.stat().st_mode),
                    by_way_of=self._staging.folder,
                    sharing=sharing,
                )

    def delete(self, ref: ModelRef) -> None:
        """Raises `NotFound`, and `Unavailable` where this user may not. The entry is gone in one
        step."""
        self.delete_folder(folder_name(ref), str(ref))

    def delete_folder(self, name: str, shown: str | None = None) -> None:
        """As `delete`, by the name of the folder: for entries that are broken."""
        shown = shown or one_line(name)
        folder = self._root / name
        missing = NotFound(f"{shown} is not in the model cache.")
        if not name or name.startswith(".") or "/" in name or not os.path.lexists(folder):
            raise missing
        gone = self._root / f"{TRASH_PREFIX}{secrets.token_hex(8)}"
        with explained(f"{shown} cannot be deleted", folder):
            with self._locks.changing():
                # Another process may have deleted it while this one waited.
                if not os.path.lexists(folder):
                    raise missing
                take_away(folder, gone, first=METADATA, sharing=self.sharing)
                sync_folder(self._root)
            clear(gone)

    @asynccontextmanager
    async def lock(
        self, ref: ModelRef, on_wait: Callable[[], None] | None = None
    ) -> AsyncIterator[None]:
        """Held by whoever brings a model in; others wait and then find it. Raises `Unavailable`
        where the cache cannot be written to."""
        async with self._locks.model(ref, on_wait):
            yield

    @contextmanager
    def holding(self, ref: ModelRef, work: Work | None = None) -> Iterator[None]:
        """The same lock for a thread; `work` may be cancelled while this waits."""
        with self._locks.model_in_thread(ref, work):
            yield

    def lock_of_partial(self, name: str) -> FileLock:
        """The lock of the model whose half download has that name."""
        return self._locks.named(name.removesuffix(PARTIAL))

    def stage(self, ref: ModelRef, *, resume: bool = False) -> Stage:
        """A folder for a new entry; end it with `commit` or `abandon`. With `resume` it is always
        the same one for a model, with what an earlier attempt left there: hold the `lock`. Raises
        `NoRoom` or `Unavailable`."""
        with explained(f"{ref} cannot be stored", self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            begin = self._staging.partial if resume else self._staging.claimed
            return Stage(self, ref, begin(ref, current_user(), self.sharing))

    def abandon(self, stage: Stage) -> None:
        """Removes what was staged, if it was not committed."""
        with contextlib.suppress(OSError):
            if not stage.committed:
                discard(stage.folder)
            self._staging.unclaim(stage.folder)

    def sweep(self) -> None:
        """Removes what processes that died had staged, but for downloads that can go on. Does
        what it may where the cache belongs to others."""
        self._restore_replaced()
        if (self._root / GOING).is_dir():
            with contextlib.suppress(OSError, MeshtuiError), self._locks.changing():
                finish_removals(self._root, first=METADATA)
        with contextlib.suppress(OSError):
            empty_trash(self._root)
            self._staging.sweep()
        if self._staging.folder.is_dir():
            with contextlib.suppress(OSError, MeshtuiError), self._locks.changing():
                self._staging.sweep_temporaries()

    def _take_in(self, stage: Stage, metadata: ModelMetadata) -> Entry:
        sharing = self.sharing
        settle_tree(stage.folder, sharing)
        target = self.folder(stage.ref)
        aside = self._root / _REPLACED / target.name
        with self._locks.changing():
            put_folder(stage.folder, target, aside, first=METADATA, sharing=sharing)
        self._staging.unclaim(stage.folder)
        return Entry(ref=stage.ref, folder=target, metadata=metadata)


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def current_user() -> str:
    """The login name, or the number of the user where there is none."""
    try:
        return getuser()
    except (KeyError, OSError):
        return str(os.getuid())

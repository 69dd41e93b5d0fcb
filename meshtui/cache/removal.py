"""Deleting entries: what that gives back, and why it may not be possible."""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from meshtui.cache.disk_errors import owner_of
from meshtui.cache.files import tree_bytes
from meshtui.cache.freed import FreedBytes
from meshtui.cache.names import called, folder_called
from meshtui.cache.store import MODEL, ModelStore
from meshtui.domain.errors import NotFound, Unavailable
from meshtui.domain.model_cache import DeletePlan
from meshtui.domain.text import one_line

_HINT = "Ask whoever looks after the cache, or use another one (MESHTUI_CACHE)."


def plan_delete(store: ModelStore, models: Iterable[str]) -> list[DeletePlan]:
    """What deleting each of them means, broken entries included, by the names that lists give
    them; `frees_bytes` as if they went in this order. `refusal` says what the disk would refuse.
    Raises `NotFound` where one is not there, and `InvalidInput`. Blocks for as long as reading the
    folders takes."""
    freed = FreedBytes()
    folders = dict.fromkeys(folder_called(model) for model in models)
    _refuse_missing(store, *folders)
    return [_plan(store, folder, freed) for folder in folders]


def delete(store: ModelStore, model: str) -> None:
    """Deletes an entry, also a broken one: it is gone in one step. Hold the store's lock of the
    model. Raises `NotFound`, and `Unavailable` where this user may not or the disk refuses it;
    the entry is whole then."""
    name = folder_called(model)
    _refuse_missing(store, name)
    if refusal := _refusal(store, store.root / name):
        raise Unavailable(f"{called(name)} cannot be deleted. {refusal}", hint=_HINT)
    store.delete_folder(name, called(name))


def _refuse_missing(store: ModelStore, *names: str) -> None:
    missing = [called(name) for name in names if not os.path.lexists(store.root / name)]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise NotFound(
            f"{', '.join(missing)} {are} not in the model cache.", hint=f"Looked in {store.root}."
        )


def _plan(store: ModelStore, name: str, freed: FreedBytes) -> DeletePlan:
    folder = store.root / name
    return DeletePlan(
        model=called(name),
        size_bytes=tree_bytes(folder / MODEL),
        frees_bytes=freed.add(folder),
        refusal=_refusal(store, folder),
    )


def _refusal(store: ModelStore, folder: Path) -> str | None:
    """What keeps this user from removing the folder with all that is in it; None where nothing
    does. A folder that only goes out of sight would free nothing."""
    try:
        if os.statvfs(store.root).f_flag & os.ST_RDONLY:
            return "The cache is on a read-only file system."
        if not _may_unlink(folder):
            return f"The cache belongs to {owner_of(store.root)}, and you may not change it."
        closed = next(
            # One that has gone meanwhile cannot be written to either.
            (place for place in _folders(folder) if not _writable(place) and place.is_dir()),
            None,
        )
    except FileNotFoundError:
        # Somebody else has just deleted it; whoever goes on is told.
        return None
    except OSError as error:
        return f"Its folder cannot be read: {one_line(error.strerror or str(error))}."
    if closed is None:
        return None
    return f"{one_line(str(closed))} belongs to {owner_of(closed)}, and you may not change it."


def _folders(folder: Path) -> Sequence[Path]:
    """All folders from which something must be taken out."""
    if folder.is_symlink():
        return ()
    return [Path(place) for place, folders, names in os.walk(folder) if folders or names]


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=True)


def _may_unlink(path: Path) -> bool:
    """Whether this user may take the name out of its folder: in one with the sticky bit that is
    for the owners only."""
    parent = path.parent.stat()
    user = os.geteuid()
    if parent.st_mode & stat.S_ISVTX and user not in (0, parent.st_uid, path.lstat().st_uid):
        return False
    return _writable(path.parent)

"""What may go from a cache that has grown: the long unused, half downloads, detached revisions.

What a server uses or a connection enables is spared, and so is what is under way.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from meshtui.cache.disk_errors import explained
from meshtui.cache.files import discard
from meshtui.cache.freed import FreedBytes
from meshtui.cache.staging import PARTIAL, note_of
from meshtui.cache.store import MODEL, ModelStore
from meshtui.domain.errors import Conflict, InvalidInput, NotFound
from meshtui.domain.model_cache import CacheEntry, PruneItem, PrunePlan, PruneWishes
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line


class Partial(msgspec.Struct, frozen=True, kw_only=True):
    """A half download. `name` is its folder's, `model` what is to become of it; `touched_at` is
    when it last grew. `why_kept` says why it may not go now; empty where it may."""

    name: str
    model: str
    size_bytes: int
    begun_by: str = ""
    touched_at: float = 0.0
    why_kept: str = ""


def partials(store: ModelStore) -> list[Partial]:
    """The half downloads of a store, by the names of their folders. Blocks."""
    return [_partial(store, folder) for folder in store.staging.partials()]


def remove_partial(store: ModelStore, name: str) -> None:
    """Removes a half download, in one step. Raises `NotFound`, `Conflict` while it is under way,
    and `Unavailable` where this user may not."""
    folder = store.staging.folder / name
    if "/" in name or not name.endswith(PARTIAL) or not folder.is_dir() or folder.is_symlink():
        raise NotFound(f"There is no half download {one_line(name, 120)}.")
    model = _model(folder)
    lock = store.lock_of_partial(name)
    with explained(f"The half download of {model} cannot be removed", folder):
        if not lock.try_acquire():
            raise Conflict(
                f"The download of {model} is under way.", hint="Cancel it first, or let it end."
            )
        try:
            discard(folder)
        finally:
            lock.release()


def plan_prune(
    entries: Sequence[CacheEntry], halves: Sequence[Partial], wishes: PruneWishes, now_s: float
) -> PrunePlan:
    """What would go, each once, with the first reason that applies: long unused, detached, over
    the budget, half. The longest unused come first. An entry is used when a server mounts it; one
    that never was counts from when it came. Blocks for a look at the entries' folders."""
    shelf = _Shelf(entries)
    if wishes.unused_s is not None:
        shelf.want_unused(wishes.unused_s, now_s)
    if wishes.detached:
        shelf.want_detached()
    if wishes.budget_bytes is not None:
        shelf.want_within(wishes.budget_bytes)
    freed = FreedBytes()
    items, kept = [], []
    for entry, reason in shelf.wanted():
        if spared := _why_spared(entry):
            frees = FreedBytes().add(Path(entry.folder))
            kept.append(PruneItem(model=entry.model, reason=spared, frees_bytes=frees))
        else:
            frees = freed.add(Path(entry.folder))
            items.append(PruneItem(model=entry.model, reason=reason, frees_bytes=frees))
    if wishes.partials:
        for half in halves:
            (kept if half.why_kept else items).append(_half(half, now_s))
    return PrunePlan(items=tuple(items), kept=tuple(kept))


class _Shelf:
    """The entries, the longest unused first, and why each of them should go."""

    def __init__(self, entries: Iterable[CacheEntry]) -> None:
        dated = [(_used_at(entry), entry) for entry in entries]
        dated.sort(key=lambda pair: (pair[0], pair[1].model))
        self._used_at = {entry.folder: at for at, entry in dated}
        self._entries = [entry for _, entry in dated]
        self._reasons: dict[str, str] = {}

    def wanted(self) -> Iterator[tuple[CacheEntry, str]]:
        for entry in self._entries:
            if reason := self._reasons.get(entry.folder):
                yield entry, reason

    def want_unused(self, unused_s: float, now_s: float) -> None:
        for entry in self._entries:
            since_s = now_s - self._used_at[entry.folder]
            if since_s >= unused_s:
                used = "Last used" if entry.last_used_at else "Not used; it came"
                self._want(entry, f"{used} {_ago(since_s)}.")

    def want_detached(self) -> None:
        """Pinned revisions that no connection enables. One entry of each model stays: the one that
        was used last, where there is none without a revision and none that is enabled."""
        by_model: dict[str, list[CacheEntry]] = {}
        for entry in self._entries:
            with contextlib.suppress(InvalidInput):
                by_model.setdefault(ModelRef.parse(entry.model).model_id, []).append(entry)
        for same in by_model.values():
            loose = [e for e in same if "@" in e.model and not e.enabled_on and not e.served_by]
            if len(loose) == len(same):
                loose.pop()
            for entry in loose:
                self._want(entry, "No connection enables this revision.")

    def want_within(self, budget_bytes: int) -> None:
        """The longest unused, until the others are within the budget."""
        left = sum(entry.size_bytes for entry in self._entries if not self._goes(entry))
        for entry in self._entries:
            if left <= budget_bytes:
                break
            if not self._goes(entry):
                self._want(entry, "Among the longest unused, and the cache is over its budget.")
                left -= entry.size_bytes if self._goes(entry) else 0

    def _want(self, entry: CacheEntry, reason: str) -> None:
        self._reasons.setdefault(entry.folder, reason)

    def _goes(self, entry: CacheEntry) -> bool:
        return entry.folder in self._reasons and _why_spared(entry) is None


def _used_at(entry: CacheEntry) -> float:
    """When it was used last, or came into this cache: an archive brings the dates of the machine
    that it is from. 0 where nothing tells."""
    came_at = 0.0
    with contextlib.suppress(OSError):
        came_at = (Path(entry.folder) / MODEL).stat().st_mtime
    return max(entry.last_used_at or 0.0, entry.downloaded_at or 0.0, came_at)


def _why_spared(entry: CacheEntry) -> str | None:
    if entry.served_by:
        return f"A server uses it: {', '.join(entry.served_by)}."
    if entry.enabled_on:
        return f"It is enabled on {', '.join(one_line(name, 60) for name in entry.enabled_on)}."
    return None


def _ago(seconds: float) -> str:
    for size_s, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size_s:
            count = int(seconds // size_s)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def _partial(store: ModelStore, folder: Path) -> Partial:
    note = note_of(folder)
    size_bytes, touched_at = 0, 0.0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.lstat(os.path.join(place, name))  # noqa: PTH118 (walking)
                size_bytes += found.st_blocks * 512
                touched_at = max(touched_at, found.st_mtime)
    return Partial(
        name=folder.name,
        model=_model(folder),
        size_bytes=size_bytes,
        begun_by=one_line(note.by, 64),
        touched_at=touched_at,
        why_kept=_why_kept(store, folder.name),
    )


def _why_kept(store: ModelStore, name: str) -> str:
    """Empty where no process holds the lock."""
    lock = store.lock_of_partial(name)
    try:
        return "" if lock.try_acquire() else "Its download is under way."
    except OSError as error:
        return f"It cannot be changed here: {one_line(error.strerror or str(error))}."
    finally:
        lock.release()


def _half(half: Partial, now_s: float) -> PruneItem:
    reason = half.why_kept
    if not reason:
        by = f"Begun by {half.begun_by}; it" if half.begun_by else "It"
        reason = f"A half download. {by} last grew {_ago(now_s - half.touched_at)}."
    return PruneItem(
        model=half.model, reason=reason, frees_bytes=half.size_bytes, partial=half.name
    )


def _model(folder: Path) -> str:
    return one_line(note_of(folder).model or folder.name, 200)

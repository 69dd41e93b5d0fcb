"""How full the cache and its disk are."""

import os
import shutil

from meshtui.cache.disk_errors import owner_of
from meshtui.cache.store import STAGING, ModelStore
from meshtui.domain.model_cache import CacheUsage
from meshtui.domain.text import one_line


def usage(store: ModelStore) -> CacheUsage:
    """The disk and the half downloads of a store; entries are counted by whoever lists them.
    Blocks for a few calls."""
    root = store.root
    place = next((p for p in (root, *root.parents) if p.is_dir()), root)
    try:
        disk = shutil.disk_usage(place)
        total_bytes, free_bytes = disk.total, disk.free
    except OSError:
        total_bytes = free_bytes = 0
    partials = partial_bytes = 0
    for folder in (root / STAGING).glob("*.partial"):
        partials += 1
        partial_bytes += _bytes_below(str(folder))
    return CacheUsage(
        root=one_line(str(root), 500),
        partials=partials,
        partial_bytes=partial_bytes,
        disk_total_bytes=total_bytes,
        disk_free_bytes=free_bytes,
        problem=_problem(store),
    )


def _problem(store: ModelStore) -> str | None:
    """Why nothing can be written to the cache; None where it can."""
    root = store.root
    place = next((p for p in (root, *root.parents) if p.exists()), root)
    try:
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            return "The cache is on a read-only file system: models can be used, not changed."
    except OSError as error:
        return f"The cache cannot be read: {one_line(error.strerror or str(error))}."
    if not os.access(place, os.W_OK | os.X_OK):
        return f"The cache belongs to {owner_of(place)}: models can be used, not changed."
    return None


def _bytes_below(folder: str) -> int:
    """What a half download holds; files may go while one looks."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118
            except OSError:
                continue
    return total

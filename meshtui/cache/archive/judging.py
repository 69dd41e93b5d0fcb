"""What is to be said of an entry that comes in, beside whether its container is sound."""

import shutil
from collections.abc import Iterator, Mapping, Sequence

from meshtui.cache.archive.findings import blocker, warning
from meshtui.cache.archive.names import shown
from meshtui.cache.archive.sums import Sums
from meshtui.cache.facts import unsafe_files, weights_by_name
from meshtui.cache.metadata import ModelMetadata
from meshtui.cache.store import ModelStore
from meshtui.domain.amounts import size_of
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import WeightsFormat

_MARGIN_BYTES = 64_000_000
_SHOWN = 5
_MOST_POINTER_BYTES = 1024
_LFS_POINTER = b"version "


def about_others(paths: Sequence[str]) -> Iterator[Finding]:
    """Files that stand beside the model."""
    if paths:
        count = f"{len(paths)} files are" if len(paths) > 1 else "One file is"
        yield warning("other", f"{count} no part of the model, and left out: {shown(paths[0])}.")


def about_pointers(names: Sequence[str]) -> Iterator[Finding]:
    """Weights that `git clone` left out."""
    if names:
        yield blocker(
            "lfs-pointer",
            f"{shown(names[0])} is only a pointer: git has not fetched {len(names)} large files.",
            "Run `git lfs pull` where it was packed, and pack it again.",
        )


def is_pointer(start: bytes, size_bytes: int) -> bool:
    """Whether a file that begins so is a pointer of git-lfs; eight bytes tell."""
    return size_bytes <= _MOST_POINTER_BYTES and start[:8] == _LFS_POINTER


def about_files(metadata: ModelMetadata, files: Mapping[str, int]) -> Iterator[Finding]:
    """What is missing, and what can run code."""
    if weights_by_name(files).format is WeightsFormat.NONE:
        yield warning("weights", "There are no weights in it.")
    if not {"config.json", "model_index.json"} & files.keys():
        yield warning("configuration", "There is no config.json: no engine may load it.")
    size = sum(files.values())
    if metadata.size_in_bytes is not None and metadata.size_in_bytes != size:
        yield warning(
            "size",
            f"Its metadata speaks of {metadata.size_in_bytes:,} bytes, its files have {size:,}: "
            "some may be missing.",
        )
    unsafe = unsafe_files(files)
    for path in unsafe[:_SHOWN]:
        kind = "Python code" if path.endswith(".py") else "a pickle"
        yield warning("unsafe", f"{shown(path)} is {kind}: loading it can run code.")
    if len(unsafe) > _SHOWN:
        yield warning("unsafe", f"{len(unsafe) - _SHOWN} more files can run code when loaded.")


def about_sums(known: list[Mapping[str, str]], files: Mapping[str, int]) -> Iterator[Finding]:
    """Which files the checksums miss, and which they know that are not there."""
    for sums in known:
        missing = sorted(sums.keys() - files.keys())
        for path in missing[:_SHOWN]:
            yield blocker(
                "missing", f"{shown(path)} is missing: the checksums know it.", "Copy it again."
            )
        extra = sorted(files.keys() - sums.keys())
        if extra:
            count = f"{len(extra)} files are" if len(extra) > 1 else "One file is"
            yield warning("extra", f"{count} not in the checksums: {shown(extra[0])}.")
    if not known:
        yield Finding(
            rule="no-checksums",
            level=Level.OK,
            message="No checksums came with it; sizes and the headers of weights are checked.",
        )


def about_room(store: ModelStore, size_bytes: int) -> Iterator[Finding]:
    """Whether so much can be stored."""
    free_bytes = free_for(store)
    if free_bytes < size_bytes + _MARGIN_BYTES:
        yield blocker(
            "space",
            f"It takes {size_of(size_bytes)}; the cache has {size_of(free_bytes)} left.",
            "Free some space, or prune the cache.",
        )


def free_for(store: ModelStore) -> int:
    """Bytes that are free where the cache is, or would be."""
    place = next((p for p in (store.root, *store.root.parents) if p.is_dir()), store.root)
    return shutil.disk_usage(place).free


def known_sums(beside: Sums | None, inside: Mapping[str, str] | None) -> list[Mapping[str, str]]:
    """The checksums of files that there are."""
    found = [beside.files if beside else None, inside]
    return [sums for sums in found if sums]

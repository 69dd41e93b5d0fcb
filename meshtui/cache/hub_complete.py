"""Whether a snapshot of the standard Hugging Face cache is all that an engine needs.

A download that was broken off leaves the files that had come, and nothing says so. What tells:
the index of sharded weights, blobs that were not fetched to their end, and the list of the
commit's files, which `huggingface_hub` keeps since 1.29 (`_tree_cache`).
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import msgspec

from meshtui.cache.facts import weights_by_name
from meshtui.cache.files import read_limited
from meshtui.cache.hub_snapshot import Snapshot
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import WeightsFormat
from meshtui.domain.text import one_line
from meshtui.hub.selection import select_files

_MOST_BYTES = 64_000_000
_TREE_FORMAT = 1
_INDEX = ".index.json"
_CONFIGURATIONS = ("config.json", "model_index.json")
# Other files, as pictures and documents, are no loss.
_NEEDED = (".json", ".txt", ".model", ".py", ".jinja")


class TreeFile(msgspec.Struct, frozen=True):
    """A file of a commit. `blob_id` is the SHA-1 that git gives it (of large ones: of a pointer to
    them)."""

    size: int
    blob_id: str
    lfs_sha256: str | None = None
    lfs_size: int | None = None

    @property
    def size_bytes(self) -> int:
        return self.size if self.lfs_size is None else self.lfs_size

    @property
    def blob(self) -> str:
        """The name of the content in the repository's `blobs`."""
        return self.lfs_sha256 or self.blob_id


Tree = Mapping[str, TreeFile]


class _Listing(msgspec.Struct, frozen=True):
    format_version: int
    files: dict[str, TreeFile]


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str] = {}


def read_tree(repo: str, commit: str) -> Tree | None:
    """The files of a commit as the cache remembers them; None where it does not."""
    path = f"{repo}/trees/{commit}.json"
    if not os.path.lexists(path):
        return None
    try:
        found = msgspec.json.decode(read_limited(Path(path), _MOST_BYTES), type=_Listing)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found.files if found.format_version == _TREE_FORMAT else None


def look_for_gaps(
    snapshot: Snapshot, tree: Tree | None, model: str, *, alone: bool
) -> Iterator[Finding]:
    """What is missing from a snapshot whose own files can be read. `alone`: its repository has no
    other one, so that what was not fetched to its end belongs here."""
    sizes = {file.path: file.found.st_size for file in snapshot.files}
    fix = f"Complete it (hf download {model}), or fetch it: meshtui cache download {model}."
    yield from _cut(sizes, tree or {}, fix)
    yield from _shards(snapshot, sizes, fix)
    if tree is None:
        yield from _without_list(snapshot, sizes, fix, alone)
    else:
        yield from _by_list(snapshot, sizes, tree, fix)


def _cut(sizes: Mapping[str, int], tree: Tree, fix: str) -> Iterator[Finding]:
    for path in sorted(sizes.keys() & tree.keys()):
        if sizes[path] != tree[path].size_bytes:
            yield _finding(
                "size",
                f"{_name(path)} has {sizes[path]:,} bytes; the Hub said {tree[path].size_bytes:,}.",
                fix,
            )


def _shards(snapshot: Snapshot, sizes: Mapping[str, int], fix: str) -> Iterator[Finding]:
    """Every part that an index names is there. Beside safetensors, an index of pickles is a
    leftover: engines do not look at it."""
    for file in snapshot.files:
        if not file.path.endswith(_INDEX):
            continue
        folder = PurePosixPath(file.path).parent
        if not file.path.endswith(f".safetensors{_INDEX}") and any(
            path.endswith(".safetensors") and PurePosixPath(path).parent == folder for path in sizes
        ):
            continue
        named = {str(folder / name) for name in _weight_map(file.place)}
        if missing := sorted(named - sizes.keys()):
            yield _finding(
                "shard",
                f"{len(missing)} of {len(named)} weight files are missing: {_name(missing[0])}.",
                fix,
            )


def _weight_map(place: str) -> set[str]:
    try:
        content = read_limited(Path(place), _MOST_BYTES)
        return set(msgspec.json.decode(content, type=_Index).weight_map.values())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return set()


def _without_list(
    snapshot: Snapshot, sizes: Mapping[str, int], fix: str, alone: bool
) -> Iterator[Finding]:
    has_weights = weights_by_name(sizes).format is not WeightsFormat.NONE
    if snapshot.unfinished and (alone or not has_weights):
        yield _finding("unfinished", "Its download was broken off, or goes on.", fix)
        return
    if not has_weights:
        yield _warning("weights", "There are no weights in it.", fix)
    if not any(name in sizes for name in _CONFIGURATIONS):
        yield _warning("configuration", "There is no config.json: no engine may load it.", fix)


def _by_list(
    snapshot: Snapshot, sizes: Mapping[str, int], tree: Tree, fix: str
) -> Iterator[Finding]:
    if tree.keys() <= sizes.keys():
        return
    lost = [path for path in select_files(tree) if path not in sizes]
    with_weights = {PurePosixPath(p).parent for p in sizes if _is_weights(p)}
    unfinished = [path for path in lost if tree[path].blob in snapshot.unfinished]
    blocking = [
        path
        for path in lost
        if path in unfinished
        or path in _CONFIGURATIONS
        or (_is_weights(path) and PurePosixPath(path).parent not in with_weights)
    ]
    if blocking:
        why = "Its download was broken off, or goes on: " if unfinished else ""
        yield _finding("incomplete", f"{why}{_names(blocking)} missing.", fix)
    elif others := [path for path in lost if path.endswith(_NEEDED)]:
        yield _warning("partial", f"Not all of the repository is there: {_names(others)} missing.",
                       fix)  # fmt: skip


def _is_weights(path: str) -> bool:
    return weights_by_name((path,)).format is not WeightsFormat.NONE


def _names(paths: list[str]) -> str:
    first = _name(paths[0])
    return f"{first} is" if len(paths) == 1 else f"{first} and {len(paths) - 1} more are"


def _name(path: str) -> str:
    return one_line(path, 120)


def _finding(rule: str, message: str, fix: str) -> Finding:
    return Finding(rule=rule, level=Level.BLOCKER, message=message, fix=fix)


def _warning(rule: str, message: str, fix: str) -> Finding:
    return Finding(rule=rule, level=Level.WARNING, message=message, fix=fix)

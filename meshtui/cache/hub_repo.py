"""Repositories of models in the standard Hugging Face cache: their branches, tags and snapshots."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from meshtui.cache.hub_complete import Tree, look_for_gaps, read_tree
from meshtui.cache.hub_snapshot import SNAPSHOTS, Snapshot, SnapshotReader
from meshtui.domain.errors import InvalidInput
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line

_PREFIX = "models--"
_COMMIT = re.compile(r"[0-9A-Za-z]{1,64}")
_MOST_REFS = 1_000
_MOST_REF_BYTES = 200
_DEFAULT_BRANCH = "main"


class FoundSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot with the model that it is, or None where its folders name none; `shown` is what
    to call it then too. `findings` hold those of the snapshot."""

    ref: ModelRef | None
    shown: str
    commit: str
    refs: tuple[str, ...]
    snapshot: Snapshot
    tree: Tree | None
    findings: tuple[Finding, ...]


def hub_cache_folder() -> Path:
    """Where `huggingface_hub` keeps repositories, as its environment says (its `constants`)."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or str(Path(cache) / "huggingface")
    folder = (
        os.environ.get("HF_HUB_CACHE")
        or os.environ.get("HUGGINGFACE_HUB_CACHE")
        or str(Path(home) / "hub")
    )
    return Path(os.path.expandvars(folder)).expanduser()


class HubRepos:
    """The repositories below one root. Everything blocks."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self._reader = SnapshotReader(self._root)

    def all(self) -> Iterator[FoundSnapshot]:
        """Every snapshot of a model; what cannot be read is told of in its findings. Raises
        `OSError` where the root cannot be listed."""
        with os.scandir(self._root) as entries:
            for entry in entries:
                if entry.name.startswith(_PREFIX):
                    if entry.is_dir(follow_symlinks=False):
                        yield from self._repo(entry.name)
                    elif entry.is_symlink():
                        yield self._refused(entry.name, "", "Its folder is a link.")

    def one(self, folder: Path) -> FoundSnapshot | None:
        """The snapshot of that folder; None where it is none below this root."""
        try:
            repo, snapshots, _ = folder.relative_to(self._root).parts
        except ValueError:
            return None
        if snapshots != SNAPSHOTS or not repo.startswith(_PREFIX):
            return None
        return next((found for found in self._repo(repo) if found.snapshot.folder == str(folder)),
                    None)  # fmt: skip

    def _repo(self, name: str) -> Iterator[FoundSnapshot]:
        repo = f"{self._root}/{name}"
        snapshots = f"{repo}/{SNAPSHOTS}"
        try:
            if stat.S_ISLNK(os.lstat(snapshots).st_mode):
                yield self._refused(name, "", "Its folder of snapshots is a link.")
                return
            with os.scandir(snapshots) as entries:
                folders = [entry for entry in entries if not entry.is_file(follow_symlinks=False)]
            refs = _refs(f"{repo}/refs")
        except FileNotFoundError:
            # What a refused download leaves: a list of files, and none of them.
            return
        except OSError as error:
            yield self._refused(name, "", f"It cannot be read: {_why(error)}.")
            return
        for folder in folders:
            if not folder.is_dir(follow_symlinks=False) or not _COMMIT.fullmatch(folder.name):
                yield self._refused(name, folder.name, "Its folder is none that a snapshot has.")
                continue
            try:
                here = tuple(sorted(ref for ref, commit in refs.items() if commit == folder.name))
                yield self._snapshot(name, folder.name, here, alone=len(folders) == 1)
            except OSError as error:
                yield self._refused(name, folder.name, f"It cannot be read: {_why(error)}.")

    def _snapshot(
        self, repo: str, commit: str, refs: Sequence[str], *, alone: bool
    ) -> FoundSnapshot:
        ref, shown = _model(repo, commit, refs)
        place = f"{self._root}/{repo}"
        snapshot = self._reader.read(place, commit, shown)
        findings = list(snapshot.findings)
        tree = read_tree(place, commit)
        if ref is None:
            findings.append(_blocker(f"{shown} is not the name of a model."))
        elif not findings:
            findings += look_for_gaps(snapshot, tree, shown, alone=alone)
        return FoundSnapshot(
            ref=ref,
            shown=shown,
            commit=commit,
            refs=tuple(one_line(name, 120) for name in refs),
            snapshot=snapshot,
            tree=tree,
            findings=tuple(findings),
        )

    def _refused(self, repo: str, commit: str, why: str) -> FoundSnapshot:
        _, shown = _model(repo, commit, ())
        folder = f"{self._root}/{repo}" + (f"/{SNAPSHOTS}/{commit}" if commit else "")
        return FoundSnapshot(
            ref=None,
            shown=shown,
            commit=one_line(commit, 64),
            refs=(),
            snapshot=Snapshot(folder=folder),
            tree=None,
            findings=(_blocker(why),),
        )


def _model(repo: str, commit: str, refs: Sequence[str]) -> tuple[ModelRef | None, str]:
    """The model of a repository's folder, at the revision that a person would name: none for the
    default branch, else a tag or branch, else the commit."""
    model_id = repo.removeprefix(_PREFIX).replace("--", "/")
    if _DEFAULT_BRANCH in refs:
        candidates = [model_id]
    else:
        named = sorted(refs, key=lambda ref: (ref.startswith("refs/"), ref))
        candidates = [f"{model_id}@{revision}" for revision in (*named, commit) if revision]
    for candidate in candidates:
        try:
            return ModelRef.parse(candidate), candidate
        except InvalidInput:
            continue
    return None, one_line(candidates[-1] if candidates else model_id, 200)


def _refs(folder: str) -> dict[str, str]:
    """The commit of each branch and tag; names of pull requests have slashes."""
    found: dict[str, str] = {}
    pending = [""]
    while pending and len(found) < _MOST_REFS:
        prefix = pending.pop()
        try:
            with os.scandir(f"{folder}/{prefix}") as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{prefix}{entry.name}/")
                    elif len(found) < _MOST_REFS:
                        found[prefix + entry.name] = _line(entry.path)
        except OSError:
            # A snapshot is named by its commit then.
            continue
    return found


def _line(path: str) -> str:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(handle, _MOST_REF_BYTES).decode(errors="replace").strip()
    finally:
        os.close(handle)


def _why(error: OSError) -> str:
    return one_line(error.strerror or str(error))


def _blocker(message: str) -> Finding:
    return Finding(rule="repository", level=Level.BLOCKER, message=message)

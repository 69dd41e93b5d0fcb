"""The standard Hugging Face cache: which models are there, and what taking them over would cost.

Snapshots are read with a few system calls a file and without `huggingface_hub`, whose scan hides
a whole repository where one blob is missing.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from meshtui.cache.adopting import adopt as adopt
from meshtui.cache.adopting import find_snapshot
from meshtui.cache.disk_errors import explained
from meshtui.cache.hub_repo import FoundSnapshot, HubRepos, hub_cache_folder
from meshtui.cache.linking import How, Linker, may_link
from meshtui.cache.names import folder_name
from meshtui.cache.store import ModelStore
from meshtui.domain.errors import MeshtuiError, NotFound
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import HubCacheRepo
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line

_WAYS: tuple[How, ...] = ("link", "reflink", "copy")


def scan(root: Path | None) -> list[HubCacheRepo]:
    """Every snapshot of a model below `root` (None: where the environment says; it need not be
    there), by name. What keeps one from being adopted is a blocker among its findings. Raises
    `NotFound`, or `Unavailable` where the root cannot be read. Blocks."""
    place = root or hub_cache_folder()
    with explained("The Hugging Face cache cannot be read", place):
        if not place.is_dir():
            if root is None:
                return []
            raise NotFound(
                f"There is no folder {one_line(str(place), 300)}.",
                hint="Name the folder that holds models--org--name.",
            )
        found = [_repo(one) for one in HubRepos(place).all()]
    return sorted(found, key=lambda repo: (repo.model.lower(), repo.commit))


def snapshot(folder: Path) -> HubCacheRepo:
    """The snapshot in that folder. Raises `NotFound`, `InvalidInput` where it is none, or
    `Unavailable`. Blocks."""
    with explained("The snapshot cannot be read", folder):
        return _repo(find_snapshot(folder))


def plan_adopt(store: ModelStore, repos: Sequence[HubCacheRepo]) -> list[HubCacheRepo]:
    """The same, with whether each is in the cache already, and whether its files would be linked,
    share their blocks, or have to be copied. Blocks."""
    linker = Linker(store.root, store.sharing)
    try:
        names = set(os.listdir(store.root))  # noqa: PTH208 (names are all that is needed)
    except OSError:
        names = set()
    return [_planned(store, linker, names, repo) for repo in repos]


def _planned(
    store: ModelStore, linker: Linker, names: set[str], repo: HubCacheRepo
) -> HubCacheRepo:
    if any(finding.level is Level.BLOCKER for finding in repo.findings):
        return repo
    ref = ModelRef.parse(repo.model)
    if folder_name(ref) in names:
        findings = (*repo.findings, *_differences(store, ref, repo))
        return msgspec.structs.replace(repo, cached=True, findings=findings)
    return msgspec.structs.replace(repo, how=_how(linker, repo))


def _differences(store: ModelStore, ref: ModelRef, repo: HubCacheRepo) -> tuple[Finding, ...]:
    """Says where the entry in the cache is of another commit."""
    try:
        commit = store.get(ref).metadata.commit_hash
    except MeshtuiError:
        return ()
    if commit in (None, repo.commit):
        return ()
    message = f"The model cache holds commit {one_line(str(commit), 12)} of it."
    return (Finding(rule="other-commit", level=Level.WARNING, message=message),)


def _how(linker: Linker, repo: HubCacheRepo) -> How:
    """Usually told by one look at the folder; else each file is looked at."""
    try:
        device = os.stat(repo.folder).st_dev  # noqa: PTH116 (thousands of folders)
        if repo.how == "link" and linker.takes_all(repo.folder, device):
            return "link"
        files = find_snapshot(Path(repo.folder)).snapshot.files
        ways = {linker.how(file.place, file.found) for file in files}
    except (OSError, MeshtuiError):
        return repo.how
    return max(ways, key=_WAYS.index, default="link")


def _repo(found: FoundSnapshot) -> HubCacheRepo:
    files = found.snapshot.files
    own = all(may_link(file.place, file.found) for file in files)
    modified = max((file.found.st_mtime for file in files), default=None)
    return HubCacheRepo(
        model=found.shown,
        commit=found.commit,
        folder=_shown(found.snapshot.folder),
        files=len(files),
        size_bytes=sum(file.found.st_size for file in files),
        refs=found.refs,
        last_modified_at=modified,
        how="link" if own else "copy",
        findings=found.findings,
    )


def _shown(folder: str) -> str:
    """The path as it is, where it can be shown; what cannot is not adopted by it."""
    return folder if folder.isprintable() else one_line(folder, 4096)

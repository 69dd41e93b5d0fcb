"""Takes a snapshot of the standard Hugging Face cache over: its files get a second name in ours.

Nothing is read but what is small. The Hub's client names the content of large files by their
SHA-256 and that of others by the SHA-1 that git gives them: the first is taken as our checksum,
which `verify` holds the content against; the second is checked here.
"""

import hashlib
import re
import shutil
from pathlib import Path

from meshtui.cache.disk_errors import explained
from meshtui.cache.facts import read_entry_facts
from meshtui.cache.hub_complete import Tree
from meshtui.cache.hub_repo import FoundSnapshot, HubRepos
from meshtui.cache.hub_snapshot import SnapshotFile
from meshtui.cache.linking import Linker
from meshtui.cache.metadata import ModelMetadata, new_metadata
from meshtui.cache.store import ModelStore, Stage, current_user, now_ms
from meshtui.cache.work import Work
from meshtui.domain.amounts import size_of
from meshtui.domain.errors import Conflict, InvalidInput, NoRoom, NotFound
from meshtui.domain.finding import Level
from meshtui.domain.model_cache import HubCacheRepo
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line

_MARGIN_BYTES = 64_000_000
_BLOCK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


def adopt(
    repo: HubCacheRepo, store: ModelStore, work: Work, *, replace: bool, allow_copy: bool
) -> ModelRef:
    """Makes the snapshot of `repo` an entry. Its files are hard links (or share their blocks)
    where the disk can; else they are copied where `allow_copy` says so.

    Raises `NotFound` where it is not there any more, `InvalidInput` where it is not complete, is
    damaged or leads out of its cache, `Conflict` where an entry is there and not to be replaced or
    where it would have to be copied, `NoRoom`, `Unavailable`, or `Cancelled`.
    """
    folder = Path(repo.folder)
    with explained(f"{repo.model} cannot be adopted", folder):
        found = find_snapshot(folder)
    for finding in found.findings:
        if finding.level is Level.BLOCKER:
            raise InvalidInput(
                f"{found.shown} cannot be adopted. {finding.message}", hint=finding.fix or None
            )
    if found.ref is None or str(found.ref) != repo.model:
        raise Conflict(f"{repo.model} has become {found.shown}.", hint="Look again, then adopt it.")
    with store.holding(found.ref, work):
        if store.folder(found.ref).exists() and not replace:
            raise Conflict(
                f"{found.ref} is in the model cache already.", hint="Replace it, or delete it."
            )
        stage = store.stage(found.ref)
        try:
            with explained(f"{found.ref} cannot be stored", store.root):
                digests = _bring(stage, found, store, work, allow_copy=allow_copy)
                stage.commit(_metadata(found.ref, found.commit, stage.model_dir), digests)
        finally:
            store.abandon(stage)
    return found.ref


def find_snapshot(folder: Path) -> FoundSnapshot:
    """The snapshot in a folder of the standard layout. Raises `NotFound` or `InvalidInput`."""
    if not folder.is_dir():
        raise NotFound(f"There is no folder {one_line(str(folder), 300)}.")
    folder = folder.parent.resolve() / folder.name
    found = HubRepos(folder.parents[2]).one(folder) if len(folder.parents) > 2 else None
    if found is None:
        raise InvalidInput(
            f"{one_line(str(folder), 300)} is not a snapshot's folder in a Hugging Face cache.",
            hint="Name one as models--org--name/snapshots/COMMIT, or build an entry from it: "
            "meshtui cache build.",
        )
    return found


def _bring(
    stage: Stage, found: FoundSnapshot, store: ModelStore, work: Work, *, allow_copy: bool
) -> dict[str, str]:
    """Fills the stage; gives the SHA-256 of every file."""
    linker = Linker(store.root, store.sharing)
    files = found.snapshot.files
    to_copy = [file for file in files if linker.how(file.place, file.found) == "copy"]
    copied_bytes = sum(file.found.st_size for file in to_copy)
    free_bytes = shutil.disk_usage(store.root).free
    if allow_copy and to_copy and free_bytes < copied_bytes + _MARGIN_BYTES:
        raise NoRoom(
            f"Copying takes {size_of(copied_bytes)}; the cache has {size_of(free_bytes)} left.",
            hint="Free some space, or prune the cache.",
        )
    unknown = [file for file in files if _sha256(file, found.tree) is None and file not in to_copy]
    total = copied_bytes + sum(file.found.st_size for file in unknown)
    work.begin("Copying" if to_copy else "Linking", total)
    digests = {}
    for file in files:
        target = stage.model_dir / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = linker.bring(file.place, file.found, target, allow_copy=allow_copy, work=work)
        digests[file.path] = _checked(file, found.tree, target, digest, work)
        work.advance()
    return digests


def _metadata(ref: ModelRef, commit: str, model_dir: Path) -> ModelMetadata:
    """What the files tell; the Hub is not asked."""
    facts = read_entry_facts(model_dir)
    return new_metadata(
        ref,
        commit_hash=commit,
        library_name=facts.library,
        pipeline_name=facts.task,
        tagged_languages=facts.card.languages or None,
        tags=facts.tags or None,
        download_date=now_ms(),
        downloaded_by=current_user(),
    )


def _checked(
    file: SnapshotFile, tree: Tree | None, target: Path, copied: str | None, work: Work
) -> str:
    """The SHA-256 of what was brought; `copied` is that of a copy. Raises `InvalidInput` where
    the content is not what its name says."""
    known = _sha256(file, tree)
    if known is not None:
        found, wanted = copied or known, known
    else:
        sha256, sha1 = _hash(target, file.found.st_size, work)
        found, wanted = sha1, _git_sha1(file, tree) or sha1
        known = sha256
    if found != wanted:
        raise InvalidInput(
            f"{one_line(file.path, 120)} is damaged: its content is not what its name in the "
            "Hugging Face cache says.",
            hint="Fetch the model again.",
        )
    return known


def _sha256(file: SnapshotFile, tree: Tree | None) -> str | None:
    said = tree.get(file.path) if tree else None
    if said is not None and said.lfs_sha256 is not None:
        return said.lfs_sha256
    return file.blob if file.blob and _SHA256.fullmatch(file.blob) else None


def _git_sha1(file: SnapshotFile, tree: Tree | None) -> str | None:
    said = tree.get(file.path) if tree else None
    name = file.blob or (said.blob_id if said else "")
    return name if _SHA1.fullmatch(name) else None


def _hash(path: Path, size_bytes: int, work: Work) -> tuple[str, str]:
    sha256 = hashlib.sha256()
    sha1 = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            sha256.update(block)
            sha1.update(block)
            work.advance(len(block))
    return sha256.hexdigest(), sha1.hexdigest()

"""An entry from a plain folder of a model, or from a `git clone` of its repository.

What the metadata needs is read from the files; what they do not tell a person says. The source is
left as it is: files are copied (as reflinks where the file system can), never moved.
"""

import configparser
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from meshtui.cache.copying import copy_hashed
from meshtui.cache.disk_errors import explained
from meshtui.cache.facts import EntryFacts, read_entry_facts
from meshtui.cache.metadata import new_metadata
from meshtui.cache.store import ModelStore, current_user, now_ms
from meshtui.cache.work import Work
from meshtui.domain.amounts import size_of
from meshtui.domain.errors import Conflict, InvalidInput, NoRoom, NotFound
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import BuildPlan, BuildWishes, WeightsFormat
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line

_MARGIN_BYTES = 64_000_000
_MOST_FILES = 20_000
_SKIPPED = (".git", ".cache", "__pycache__", "__MACOSX")
_SKIPPED_FILES = (".DS_Store", "Thumbs.db")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
_MOST_POINTER_BYTES = 1024
_COMMIT = re.compile(r"[0-9a-f]{40}")


class _Source(msgspec.Struct, frozen=True):
    """What would go in: sizes by path, and what stands against it."""

    files: dict[str, int]
    findings: tuple[Finding, ...]


def plan_build(source: Path, store: ModelStore, wishes: BuildWishes, work: Work) -> BuildPlan:
    """What an entry from `source` would be; fields that are None must be said. Raises `NotFound`,
    `InvalidInput` (a name that is none) or `Unavailable`."""
    if not source.is_dir():
        raise NotFound(f"There is no folder {one_line(str(source))}.")
    work.begin("Reading the folder")
    with explained(f"{one_line(str(source))} cannot be read", source):
        found = _look(source, work)
        facts = read_entry_facts(source, found.files)
    ref = _ref(source, wishes)
    findings = [*found.findings, *_about(facts, found.files)]
    free_bytes = _free_bytes(store)
    size_bytes = sum(found.files.values())
    if free_bytes < size_bytes + _MARGIN_BYTES:
        findings.append(
            Finding(
                rule="space",
                level=Level.BLOCKER,
                message=f"It takes {size_of(size_bytes)}; the cache has "
                f"{size_of(free_bytes)} left.",
                fix="Free some space, or prune the cache.",
            )
        )
    card = facts.card
    return BuildPlan(
        source=one_line(str(source), 500),
        model=str(ref) if ref else None,
        commit=wishes.commit or _commit(source),
        task=wishes.task or facts.task,
        library=wishes.library or facts.library,
        languages=card.languages if wishes.languages is None else wishes.languages,
        tags=facts.tags if wishes.tags is None else wishes.tags,
        files=len(found.files),
        size_bytes=size_bytes,
        free_bytes=free_bytes,
        replaces=ref is not None and store.folder(ref).exists(),
        findings=tuple(findings),
    )


def build_entry(
    source: Path, store: ModelStore, wishes: BuildWishes, work: Work, *, replace: bool = False
) -> ModelRef:
    """Makes the entry, with checksums. Raises `InvalidInput` for what the plan has blockers for or
    where the model is not named, `Conflict` where the entry is there and not to be replaced,
    `NoRoom`, or `Cancelled`."""
    plan = plan_build(source, store, wishes, work)
    blockers = [finding for finding in plan.findings if finding.level is Level.BLOCKER]
    if blockers:
        kind = NoRoom if blockers[0].rule == "space" else InvalidInput
        raise kind(blockers[0].message, hint=blockers[0].fix or None)
    if plan.model is None:
        raise InvalidInput(
            "Which model this is cannot be read from the files.",
            hint="Say it: org/name, as on the Hub.",
        )
    ref = ModelRef.parse(plan.model)
    if plan.replaces and not replace:
        raise Conflict(f"{ref} is in the model cache already.", hint="Replace it, or delete it.")
    files = _look(source, work).files
    stage = store.stage(ref)
    try:
        with explained(f"{ref} cannot be stored", store.root):
            work.begin("Copying", sum(files.values()))
            digests = {
                path: copy_hashed(source / path, stage.model_dir / path, work) for path in files
            }
            metadata = new_metadata(
                ref,
                commit_hash=plan.commit,
                library_name=plan.library,
                pipeline_name=plan.task,
                tagged_languages=plan.languages or None,
                tags=plan.tags or None,
                download_date=now_ms(),
                downloaded_by=current_user(),
            )
            stage.commit(metadata, digests)
    finally:
        store.abandon(stage)
    return ref


def _look(source: Path, work: Work) -> _Source:
    """All files that would go in. Links are followed where they stay inside the folder, or inside
    the Hub's cache that the folder is a snapshot of."""
    root = source.resolve()
    allowed = [root]
    if root.parent.name == "snapshots":
        allowed += [root.parent.parent, root.parent.parent.parent / "blobs"]
    files: dict[str, int] = {}
    findings: list[Finding] = []
    pointers: list[str] = []
    for path in _walk(root, ""):
        work.advance()
        place = root / path
        target = place.resolve()
        if place.is_symlink() and not any(target.is_relative_to(folder) for folder in allowed):
            findings.append(_blocker("link", f"{_name(path)} is a link out of the folder."))
        elif not target.is_file():
            findings.append(_blocker("file", f"{_name(path)} is no regular file."))
        else:
            files[path] = target.stat().st_size
            if files[path] <= _MOST_POINTER_BYTES and _is_pointer(target):
                pointers.append(path)
        if len(files) > _MOST_FILES:
            findings.append(_blocker("count", f"It holds more than {_MOST_FILES:,} files."))
            break
    if pointers:
        findings.append(
            _blocker(
                "lfs-pointer",
                f"{len(pointers)} large files were not fetched by git: {_name(pointers[0])} is "
                "only a pointer.",
                "Run `git lfs pull` in the folder first.",
            )
        )
    return _Source(dict(sorted(files.items())), tuple(findings))


def _walk(root: Path, prefix: str) -> Iterator[str]:
    with os.scandir(root / prefix) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED:
                    yield from _walk(root, f"{path}/")
            elif entry.name not in _SKIPPED_FILES and not (entry.name == ".git" and not prefix):
                yield path


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def _about(facts: EntryFacts, files: Mapping[str, int]) -> Iterator[Finding]:
    if not files:
        yield _blocker("empty", "The folder holds no files.")
    elif facts.weights.format is WeightsFormat.NONE:
        yield _warning("weights", "There are no weights in it.")
    if files and not {"config.json", "model_index.json"} & files.keys():
        yield _warning("configuration", "There is no config.json: no engine may load it.")
    for path in facts.unsafe[:5]:
        kind = "Python code" if path.endswith(".py") else "a pickle"
        yield _warning("unsafe", f"{_name(path)} is {kind}: loading it can run code.")


def _ref(source: Path, wishes: BuildWishes) -> ModelRef | None:
    """The model's name: as it is said, else from the remote of a clone."""
    if wishes.model:
        return ModelRef.parse(wishes.model)
    for section in _git_config(source):
        # A repository of a model: two parts, whatever the host of the Hub or mirror is called.
        match = re.fullmatch(r"(?:https?://|ssh://|git@)[^/:]+[/:]([^/]+/[^/]+?)(?:\.git)?/?",
                             section)  # fmt: skip
        if match:
            try:
                return ModelRef.parse(match[1])
            except InvalidInput:
                continue
    return None


def _git_config(source: Path) -> list[str]:
    """The URLs of the remotes of a clone."""
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    try:
        parser.read_string((_git_folder(source) / "config").read_text(errors="replace"))
    except (OSError, configparser.Error):
        return []
    return [
        parser[section]["url"] or ""
        for section in parser.sections()
        if section.startswith("remote ") and "url" in parser[section]
    ]


def _git_folder(source: Path) -> Path:
    """`.git`, or where a file of that name points to (worktrees, submodules)."""
    folder = source / ".git"
    if folder.is_file():
        said = folder.read_text(errors="replace")[:4096].partition("gitdir:")[2].strip()
        return (source / said).resolve()
    return folder


def _commit(source: Path) -> str | None:
    """The commit that is checked out, without running git; that of a snapshot's folder."""
    if _COMMIT.fullmatch(source.resolve().name):
        return source.resolve().name
    try:
        folder = _git_folder(source)
        head = (folder / "HEAD").read_text(errors="replace")[:4096].strip()
        common = folder
        if (folder / "commondir").is_file():
            common = (folder / (folder / "commondir").read_text().strip()).resolve()
        if head.startswith("ref:"):
            name = head.removeprefix("ref:").strip()
            if ".." in name or name.startswith("/"):
                return None
            loose = common / name
            head = (
                loose.read_text(errors="replace").strip()
                if loose.is_file()
                else _packed(common, name)
            )
    except OSError:
        return None
    return head if _COMMIT.fullmatch(head) else None


def _packed(folder: Path, name: str) -> str:
    packed = folder / "packed-refs"
    if packed.is_file():
        for line in packed.read_text(errors="replace").splitlines():
            commit, _, ref = line.partition(" ")
            if ref == name:
                return commit
    return ""


def _free_bytes(store: ModelStore) -> int:
    place = next((p for p in (store.root, *store.root.parents) if p.is_dir()), store.root)
    return shutil.disk_usage(place).free


def _name(path: str) -> str:
    return one_line(path, 120)


def _blocker(rule: str, message: str, fix: str = "") -> Finding:
    return Finding(rule=rule, level=Level.BLOCKER, message=message, fix=fix)


def _warning(rule: str, message: str) -> Finding:
    return Finding(rule=rule, level=Level.WARNING, message=message)

"""Whether the files of an entry are what they were: by our checksums, offline too, or by those of
the Hub; and whether weights have a header that can be true.
"""

import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import msgspec

from meshtui.cache.checksums import read_checksums, write_checksums
from meshtui.cache.disk_errors import explained
from meshtui.cache.facts import PICKLES, files_below, json_file
from meshtui.cache.files import write_atomically
from meshtui.cache.pickles import foreign_imports
from meshtui.cache.store import CHECKSUMS, ModelStore
from meshtui.cache.work import Work
from meshtui.domain.errors import InvalidInput
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import Verification
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line
from meshtui.hub.model_files import HubFile
from meshtui.hub.safetensors_header import header_of

# Hashing is bound to one core a file; two of them are about what a disk feeds.
_AT_ONCE = 2
_BLOCK_BYTES = 1 << 20
_SHOWN_FILES = 20
_INDEX = "model.safetensors.index.json"


class _Digests(msgspec.Struct, frozen=True):
    """SHA-256, and the SHA-1 that git gives a file, where it was asked for."""

    sha256: str
    git_sha1: str | None = None


def verify(
    ref: ModelRef,
    store: ModelStore,
    work: Work,
    *,
    hub: Mapping[str, HubFile] | None = None,
) -> Verification:
    """Reads every file of the entry once. With `hub` (the files of its commit) they are compared
    with the Hub's hashes, else with `checksums.json`.

    What is wrong is a blocker among the findings; an entry without checksums is checked as far as
    possible and says so. Raises `NotFound`, `InvalidInput`, `Unavailable` or `Cancelled`.
    """
    entry = store.get(ref)
    with explained(f"The files of {ref} cannot be read", entry.folder):
        files = files_below(entry.model_dir)
        findings = [
            *header_findings(entry.model_dir, files),
            *shard_findings(entry.model_dir, files),
        ]
        known = read_checksums(entry.folder / CHECKSUMS)
        work.begin("Hashing", sum(files.values()))
        digests = _hash_all(entry.model_dir, files, work, with_git=hub is not None)
        if hub is not None:
            findings += _against_hub(digests, hub)
        elif known is not None:
            findings += _against_checksums(digests, known)
        else:
            findings.append(_no_checksums(ref))
        work.begin("Looking into pickles")
        findings += pickle_findings(entry.model_dir, files)
    return Verification(
        at=time.time(),
        against="hub" if hub is not None else "checksums",
        findings=tuple(findings) or (_all_well(len(files), hub is not None),),
    )


def add_checksums(ref: ModelRef, store: ModelStore, work: Work) -> int:
    """Writes `checksums.json` from the files as they are now; gives their number. Raises as
    `verify`."""
    entry = store.get(ref)
    with explained(f"The checksums of {ref} cannot be written", entry.folder):
        files = files_below(entry.model_dir)
        work.begin("Hashing", sum(files.values()))
        digests = _hash_all(entry.model_dir, files, work, with_git=False)
        content = write_checksums({path: found.sha256 for path, found in digests.items()})
        write_atomically(entry.folder / CHECKSUMS, content)
    return len(digests)


def _hash_all(
    model_dir: Path, files: Mapping[str, int], work: Work, *, with_git: bool
) -> dict[str, _Digests]:
    """The largest first, so that no thread is left with it at the end."""
    local = threading.local()

    def digests(path: str) -> tuple[str, _Digests]:
        if not hasattr(local, "buffer"):
            local.buffer = memoryview(bytearray(_BLOCK_BYTES))
        return path, _hash(model_dir / path, files[path], work, local.buffer, with_git)

    ordered = sorted(files, key=lambda path: -files[path])
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="verify") as pool:
        return dict(pool.map(digests, ordered))


def _hash(path: Path, size_bytes: int, work: Work, buffer: memoryview, with_git: bool) -> _Digests:
    sha256 = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False) if with_git else None
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            sha256.update(buffer[:count])
            if git is not None:
                git.update(buffer[:count])
            work.advance(count)
        # The pages were read once: others need the memory more.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_NOREUSE)
    return _Digests(sha256.hexdigest(), git.hexdigest() if git is not None else None)


def _against_checksums(
    digests: Mapping[str, _Digests], known: Mapping[str, str]
) -> Iterator[Finding]:
    yield from _listed("missing", "is missing", sorted(known.keys() - digests.keys()))
    yield from _listed("extra", "was not there at first", sorted(digests.keys() - known.keys()),
                       Level.WARNING)  # fmt: skip
    for path in sorted(known.keys() & digests.keys()):
        if known[path].lower() != digests[path].sha256:
            yield _changed(path, known[path], digests[path].sha256, "at first")


def _against_hub(digests: Mapping[str, _Digests], hub: Mapping[str, HubFile]) -> Iterator[Finding]:
    """Files that were never fetched are no damage: engines need only some of a repository."""
    yield from _listed("extra", "is not on the Hub", sorted(digests.keys() - hub.keys()),
                       Level.WARNING)  # fmt: skip
    for path in sorted(digests.keys() & hub.keys()):
        wanted, found = hub[path], digests[path]
        if wanted.sha256 and wanted.sha256 != found.sha256:
            yield _changed(path, wanted.sha256, found.sha256, "on the Hub")
        elif not wanted.sha256 and wanted.git_sha1 and wanted.git_sha1 != found.git_sha1:
            yield _changed(path, wanted.git_sha1, found.git_sha1 or "", "on the Hub")


def header_findings(model_dir: Path, files: Mapping[str, int]) -> Iterator[Finding]:
    """Weights whose header cannot be true."""
    for path in files:
        if path.endswith(".safetensors"):
            try:
                header_of(model_dir / path)
            except InvalidInput as error:
                yield Finding(
                    rule="header",
                    level=Level.BLOCKER,
                    message=f"{one_line(path, 120)}: {error.message}",
                    fix="Download the model again.",
                )


def shard_findings(model_dir: Path, files: Mapping[str, int]) -> Iterator[Finding]:
    """Every shard that the index names is there."""
    weight_map = json_file(model_dir / _INDEX).get("weight_map")
    if isinstance(weight_map, dict):
        named = {name for name in weight_map.values() if isinstance(name, str)}
        yield from _listed("shard", "is named by the index and missing", sorted(named - set(files)))


def pickle_findings(model_dir: Path, files: Mapping[str, int]) -> Iterator[Finding]:
    """Pickles that would import what weights do not need."""
    for path in files:
        if path.endswith(PICKLES) and (imports := foreign_imports(model_dir / path)):
            known = ["something hidden" if name == "?" else name for name in imports]
            shown = ", ".join(known[:5]) + (" …" if len(known) > 5 else "")
            yield Finding(
                rule="pickle",
                level=Level.WARNING,
                message=f"Loading {one_line(PurePosixPath(path).name, 100)} would import {shown}, "
                "which weights do not need.",
                fix="Do not load it unless you trust its authors; prefer safetensors.",
            )


def _listed(
    rule: str, what: str, paths: list[str], level: Level = Level.BLOCKER
) -> Iterator[Finding]:
    fix = "Download or import the model again." if level is Level.BLOCKER else ""
    for path in paths[:_SHOWN_FILES]:
        yield Finding(rule=rule, level=level, message=f"{one_line(path, 120)} {what}.", fix=fix)
    if len(paths) > _SHOWN_FILES:
        more = f"{len(paths) - _SHOWN_FILES} more files: each {what}."
        yield Finding(rule=rule, level=level, message=more, fix=fix)


def _changed(path: str, wanted: str, found: str, when: str) -> Finding:
    return Finding(
        rule="changed",
        level=Level.BLOCKER,
        message=f"{one_line(path, 120)} has changed: {found[:12]}… now, "
        f"{one_line(wanted[:12])}… {when}.",
        fix="Download or import the model again.",
    )


def _no_checksums(ref: ModelRef) -> Finding:
    return Finding(
        rule="no-checksums",
        level=Level.WARNING,
        message="There are no checksums to compare with; headers and shards were checked.",
        fix=f"meshtui cache verify {ref} --hub compares with the Hub.",
    )


def _all_well(count: int, hub: bool) -> Finding:
    with_what = "the Hub's hashes" if hub else "the checksums"
    return Finding(
        rule="verified", level=Level.OK, message=f"{count} files are as {with_what} say."
    )

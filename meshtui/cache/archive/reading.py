"""What an import would do, before it does anything."""

from pathlib import Path

from meshtui.cache.archive.containers import open_archive
from meshtui.cache.archive.disk import imported
from meshtui.cache.archive.findings import refusal
from meshtui.cache.archive.judging import (
    about_files,
    about_room,
    about_sums,
    free_for,
    known_sums,
)
from meshtui.cache.archive.sums import read_beside
from meshtui.cache.archive.survey import Survey, survey
from meshtui.cache.store import ModelStore
from meshtui.cache.work import Work
from meshtui.domain.errors import InvalidInput
from meshtui.domain.finding import Finding
from meshtui.domain.model_cache import ImportPlan
from meshtui.domain.text import one_line


def plan_import(path: Path, store: ModelStore, work: Work) -> ImportPlan:
    """What importing the archive (of a split one the first part) or entry's folder at `path`
    would bring in; what is wrong with it is among the findings.

    Changes nothing; a packed tar file is unpacked once for it, the others' lists are read. Raises
    `NotFound`, `InvalidInput` where it is no archive at all, `Unavailable`, or `Cancelled`.
    """
    with imported(path), open_archive(path) as archive:
        work.begin("Reading the list", archive.packed_bytes)
        found = survey(archive, work.advance)
        findings = [*found.findings, *findings_of(found, path, store)]
    metadata = found.metadata
    ref = metadata.ref if metadata else None
    return ImportPlan(
        source=str(path),
        container=archive.container,
        model=str(ref) if ref else None,
        files=len(found.files),
        size_bytes=found.size_bytes,
        replaces=ref is not None and store.folder(ref).exists(),
        free_bytes=free_for(store),
        task=_line(metadata.pipeline_name) if metadata else None,
        commit=_line(metadata.commit_hash) if metadata else None,
        findings=tuple(findings),
    )


def findings_of(found: Survey, path: Path, store: ModelStore) -> list[Finding]:
    """What is to be said of an archive whose list was read whole. Raises `OSError`."""
    if found.metadata is None or not found.files:
        return []
    try:
        beside = read_beside(path, found.root)
    except InvalidInput as error:
        return [refusal(error, "checksums")]
    return [
        *about_sums(known_sums(beside, found.sums), found.files),
        *about_files(found.metadata, found.files),
        *about_room(store, found.size_bytes),
    ]


def _line(text: str | None) -> str | None:
    return one_line(text, 100) if text else None

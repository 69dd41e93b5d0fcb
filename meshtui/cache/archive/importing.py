"""Imports archives and entries' folders: checked before, while and after they are unpacked."""

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from meshtui.cache.archive.containers import container_of, open_archive
from meshtui.cache.archive.disk import imported
from meshtui.cache.archive.judging import (
    about_files,
    about_others,
    about_pointers,
    about_room,
    about_sums,
    is_pointer,
    known_sums,
)
from meshtui.cache.archive.layout import Role, may_be, role_of
from meshtui.cache.archive.members import Archive, Member
from meshtui.cache.archive.names import Refused, shown
from meshtui.cache.archive.reading import findings_of
from meshtui.cache.archive.sums import Sums, read_beside, read_inside
from meshtui.cache.archive.survey import Admission, Survey, survey
from meshtui.cache.archive.volumes import VolumeReader, volume_of, volumes_from
from meshtui.cache.archive.zip_reader import ZipArchive
from meshtui.cache.checksums import MOST_BYTES
from meshtui.cache.disk_errors import explained
from meshtui.cache.files import read_limited
from meshtui.cache.store import METADATA, ModelStore, Stage
from meshtui.cache.verify import header_findings, pickle_findings, shard_findings
from meshtui.cache.work import Work
from meshtui.domain.errors import Conflict, InvalidInput, MeshtuiError, NoRoom
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line

_HASHED_AT_ONCE_BYTES = 1 << 20


def find_importable(path: Path) -> list[Path]:
    """The archives and entries' folders in a folder, by name; the folder itself where it is an
    entry's. Of split archives the first part counts, and of zip files those that hold an entry.
    Raises `Unavailable`."""
    if (path / METADATA).is_file():
        return [path]
    with imported(path):
        return [found for found in sorted(path.iterdir()) if _is_importable(found)]


def import_model(
    path: Path, store: ModelStore, work: Work, *, replace: bool
) -> tuple[ModelRef, tuple[Finding, ...]]:
    """Brings in the entry of an archive (of a split one the first part) or folder; gives its model
    and what is worth knowing of it.

    The entry appears complete and checked, or not at all. Raises `NotFound`, `InvalidInput` for
    what is damaged, hostile or no model, `Conflict` where it is in the cache and not to be
    replaced, `NoRoom`, `Unavailable`, or `Cancelled`.
    """
    with imported(path), open_archive(path) as archive:
        work.begin("Reading the list", archive.packed_bytes)
        found = survey(archive, work.advance, identity_only=archive.one_way)
        _raise(finding for finding in found.findings if _tells(finding, archive))
        if found.metadata is None:
            raise InvalidInput("It does not say which model it is.")
        ref = found.metadata.ref
        _refuse_existing(ref, store, replace)
        if not archive.one_way:
            _raise(findings_of(found, path, store))
        beside = read_beside(path, found.root)
        if beside is not None:
            _check_archive(path, beside, work)
        with store.holding(ref, work):
            _refuse_existing(ref, store, replace)
            return ref, _Import(archive, found, beside, store, work).run(ref)


class _Import:
    """One import, from what is known of the archive to the entry."""

    def __init__(
        self, archive: Archive, found: Survey, beside: Sums | None, store: ModelStore, work: Work
    ) -> None:
        self._archive = archive
        self._found = found
        self._beside = beside
        self._store = store
        self._work = work
        self._inside = found.sums
        self._digests: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._others: list[str] = []

    def run(self, ref: ModelRef) -> tuple[Finding, ...]:
        assert self._found.metadata is not None
        stage = self._store.stage(ref)
        try:
            with explained(f"{ref} cannot be stored", self._store.root):
                self._unpack(stage)
                self._work.begin("Checking")
                findings = self._judged(stage)
                stage.commit(self._found.metadata, self._digests)
        finally:
            self._store.abandon(stage)
        return findings

    def _unpack(self, stage: Stage) -> None:
        work = self._work
        one_way = self._archive.one_way
        work.begin("Unpacking", self._archive.packed_bytes if one_way else self._found.size_bytes)
        admission = Admission()
        for member in self._archive.members(work.advance):
            work.advance()
            parts = admission.admit(member)
            if parts is None:
                continue
            role, path = role_of(parts, self._found.root)
            if role is Role.MODEL:
                _raise(about_room(self._store, member.size_bytes))
                self._digests[path] = member.save(stage.model_dir / path, work)
                self._sizes[path] = member.size_bytes
                self._compare(path)
            elif role is Role.CHECKSUMS and one_way:
                self._inside = read_inside(_small(member))
            elif parts[: len(self._found.root)] != self._found.root:
                raise Refused("roots", f"{shown(member.name)} lies outside of its root folder.")
            elif role is Role.OTHER and one_way:
                self._others.append("/".join(parts))

    def _compare(self, path: str) -> None:
        for sums in known_sums(self._beside, self._inside):
            if path in sums and sums[path] != self._digests[path]:
                raise InvalidInput(
                    f"{shown(path)} is not what its checksum says: {self._digests[path][:12]}… "
                    f"instead of {one_line(sums[path][:12])}….",
                    hint="Copy the archive again.",
                )

    def _judged(self, stage: Stage) -> tuple[Finding, ...]:
        """Raises `InvalidInput` for blockers."""
        assert self._found.metadata is not None
        # Checksums inside may stand behind the files.
        for path in self._digests:
            self._compare(path)
        findings = [
            *(() if self._archive.one_way else self._found.findings),
            *about_others(self._others),
            *about_sums(known_sums(self._beside, self._inside), self._sizes),
            *about_files(self._found.metadata, self._sizes),
            *about_pointers(self._pointers(stage)),
            *header_findings(stage.model_dir, self._sizes),
            *shard_findings(stage.model_dir, self._sizes),
        ]
        _raise(findings)
        return (*findings, *pickle_findings(stage.model_dir, self._sizes))

    def _pointers(self, stage: Stage) -> list[str]:
        return [
            path
            for path, size in self._sizes.items()
            if path.endswith(".safetensors")
            and is_pointer(read_limited(stage.model_dir / path, 8), size)
        ]


def _small(member: Member) -> bytes:
    if member.size_bytes > MOST_BYTES:
        raise InvalidInput("The checksums in it are too many.")
    return member.read(MOST_BYTES)


def _tells(finding: Finding, archive: Archive) -> bool:
    """Whether a finding counts when the list was perhaps not read to its end."""
    return not archive.one_way or finding.rule != "model"


def _raise(findings: Iterable[Finding]) -> None:
    for finding in findings:
        if finding.level is Level.BLOCKER:
            kind = NoRoom if finding.rule == "space" else InvalidInput
            raise kind(finding.message, hint=finding.fix or None)


def _refuse_existing(ref: ModelRef, store: ModelStore, replace: bool) -> None:
    if not replace and store.folder(ref).exists():
        raise Conflict(f"{ref} is in the model cache already.", hint="Replace it, or delete it.")


def _check_archive(path: Path, sums: Sums, work: Work) -> None:
    """Against checksums of the archive's own files, where there are some."""
    if path.is_dir() or not sums.archives:
        return
    volumes = volumes_from(path)
    wanted: Mapping[str, list[Path]] = {volume.name: [volume] for volume in volumes}
    if named := volume_of(path.name):
        wanted = {**wanted, named[0]: volumes}
    for name, digest in sums.archives.items():
        if name in wanted:
            work.begin("Hashing the archive", sum(part.stat().st_size for part in wanted[name]))
            if _hash(wanted[name], work) != digest:
                raise InvalidInput(
                    f"{shown(name)} is not what its checksum says.", hint="Copy it again."
                )


def _hash(paths: list[Path], work: Work) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_HASHED_AT_ONCE_BYTES))
    file = VolumeReader(paths)
    try:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            work.advance(count)
    finally:
        file.close()
    return digest.hexdigest()


def _is_importable(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return (path / METADATA).is_file()
    named = volume_of(path.name)
    if named and named[1] != 1 and path.with_name(f"{named[0]}.001").exists():
        return False
    try:
        file = VolumeReader(volumes_from(path))
    except OSError:
        return False
    with contextlib.closing(file):
        container = container_of(file)
        return _holds_entry(file) if container == "zip" else container is not None


def _holds_entry(file: VolumeReader) -> bool:
    """Many other things are zip files, too. One that is damaged may have been an archive."""
    try:
        names = (member.name.split("/") for member in ZipArchive(file).members(lambda _: None))
        return any(may_be(tuple(parts), METADATA) for parts in names)
    except MeshtuiError:
        return True

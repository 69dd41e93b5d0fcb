"""Exports entries to archives and folders, with checksums made in the same pass."""

import hashlib
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from meshtui.cache.archive.disk import exported, is_full
from meshtui.cache.archive.findings import blocker, refusal, warning
from meshtui.cache.archive.folder_target import FolderTarget
from meshtui.cache.archive.names import Namespace, Refused, parts_of, shown
from meshtui.cache.archive.packing import Fill, Packer, TarPacker, Write, ZipPacker
from meshtui.cache.archive.sums import SUFFIX, write_beside
from meshtui.cache.archive.targets import Volumes, leftovers, write_file
from meshtui.cache.archive.volumes import volume_name
from meshtui.cache.checksums import read_checksums, write_checksums
from meshtui.cache.copying import hashed
from meshtui.cache.disk_errors import explained
from meshtui.cache.facts import files_below
from meshtui.cache.files import read_limited, tree_bytes
from meshtui.cache.metadata import MAX_BYTES
from meshtui.cache.names import folder_name
from meshtui.cache.store import CHECKSUMS, METADATA, MODEL, Entry, ModelStore
from meshtui.cache.work import Cancelled, Work
from meshtui.domain.amounts import size_of
from meshtui.domain.errors import Conflict, InvalidInput, NoRoom
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import ExportPlan, ExportWishes
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line

LEAST_VOLUME_BYTES = 100_000
_MOST_VOLUMES = 9999
_MARGIN_BYTES = 16_000_000
# Headers, their ends and the list of a container, a file.
_OVERHEAD_BYTES = 3072
_SUFFIXES = {"zip": ".zip", "tar": ".tar", "tar.zst": ".tar.zst", "folder": ""}
_FIRST_MOMENT_S = 315_532_800.0  # 1980: zip knows nothing before


class _Order(msgspec.Struct, frozen=True):
    """What goes where. `goal` is the archive's path, without the number of a part."""

    entry: Entry
    files: dict[str, int]
    goal: Path
    wishes: ExportWishes

    @property
    def size_bytes(self) -> int:
        return sum(self.files.values())

    @property
    def root(self) -> str:
        return folder_name(self.entry.ref)

    @property
    def sums(self) -> Path:
        return self.goal.with_name(f"{self.goal.name}{SUFFIX}")

    @property
    def volume_bytes(self) -> int | None:
        return None if self.wishes.container == "folder" else self.wishes.volume_bytes

    @property
    def first(self) -> Path:
        """What others are given the path of."""
        if self.volume_bytes is None:
            return self.goal
        return self.goal.with_name(volume_name(self.goal.name, 1))


def plan_export(ref: ModelRef, store: ModelStore, wishes: ExportWishes) -> ExportPlan:
    """What an export would write. The number of parts of a split archive is what it is at most,
    or at least the first of them where it is packed. Raises as `ModelStore.get`."""
    order = _order(ref, store, wishes)
    with exported(ref, order.goal.parent):
        paths = [*_parts(order), *([order.sums] if wishes.checksums == "beside" else [])]
        return _plan(order, paths, tuple(_findings(order)))


def export_model(ref: ModelRef, store: ModelStore, wishes: ExportWishes, work: Work) -> ExportPlan:
    """Writes the archive or folder; gives what was written.

    It has its name when it is complete. Where that was broken off, the next export of the same
    goes on. Raises `NotFound`, `Conflict` where it is there and not to be replaced, `InvalidInput`
    where the entry is damaged or cannot be exported, `NoRoom`, `Unavailable`, or `Cancelled`.
    """
    order = _order(ref, store, wishes)
    with exported(ref, order.goal.parent):
        findings = tuple(_findings(order))
        for finding in findings:
            if finding.level is Level.BLOCKER:
                kind = {"exists": Conflict, "space": NoRoom}.get(finding.rule, InvalidInput)
                raise kind(finding.message, hint=finding.fix or None)
        paths = _Export(order, work).run()
    return _plan(order, paths, findings)


class _Export:
    """One export, as it goes on."""

    def __init__(self, order: _Order, work: Work) -> None:
        self._order = order
        self._work = work
        self._known: Mapping[str, str] = {}
        self._digests: dict[str, str] = {}

    def run(self) -> list[Path]:
        order = self._order
        self._work.begin("Exporting", order.size_bytes)
        order.goal.parent.mkdir(parents=True, exist_ok=True)
        # By an open folder: an entry that is replaced meanwhile is not mixed with the new one.
        folder = os.open(order.entry.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._known = read_checksums(order.entry.folder / CHECKSUMS) or {}
            metadata = read_limited(order.entry.folder / METADATA, MAX_BYTES)
            packer = _packer(order)
            try:
                paths = self._pack(packer, folder, metadata)
            except (InvalidInput, Cancelled):
                packer.discard()
                raise
            except OSError as error:
                # A disk that went away may come back: the next attempt goes on there.
                if is_full(error):
                    packer.discard()
                raise
            finally:
                packer.close()
        finally:
            os.close(folder)
        if order.wishes.checksums == "beside":
            sum_ = hashlib.sha256(metadata).hexdigest()
            content = write_beside(order.goal.name, order.root, self._digests, sum_)
            write_file(order.sums, content)
            paths.append(order.sums)
        return paths

    def _pack(self, packer: Packer, folder: int, metadata: bytes) -> list[Path]:
        order = self._order
        prefix = "" if order.wishes.container == "folder" else f"{order.root}/"
        packer.add_bytes(f"{prefix}{METADATA}", metadata)
        for path, size in order.files.items():
            name = f"{MODEL}/{path}"
            source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                packer.add(f"{prefix}{name}", size, self._filling(path, source, size))
            finally:
                os.close(source)
        if order.wishes.checksums == "inside":
            packer.add_bytes(f"{prefix}{CHECKSUMS}", write_checksums(self._digests))
        self._work.begin("Finishing")
        packer.seal()
        # Never an archive with the checksums of another one.
        order.sums.unlink(missing_ok=True)
        return packer.publish()

    def _filling(self, path: str, source: int, size_bytes: int) -> Fill:
        def fill(write: Write) -> None:
            left = size_bytes

            def read_into(buffer: memoryview) -> int:
                nonlocal left
                count = os.readv(source, [buffer[:left]]) if left else 0
                left -= count
                return count

            digest = hashed(read_into, write, self._work.advance)
            known = self._known.get(path)
            if left or os.read(source, 1) or (known is not None and known.lower() != digest):
                raise InvalidInput(
                    f"{shown(path)} is not what it was when it was stored.",
                    hint=f"Look with: meshtui cache verify {self._order.entry.ref}",
                )
            self._digests[path] = digest

        return fill


def _order(ref: ModelRef, store: ModelStore, wishes: ExportWishes) -> _Order:
    entry = store.get(ref)
    with explained(f"{ref} cannot be read", entry.folder):
        files = files_below(entry.model_dir)
    goal = Path(wishes.folder) / f"{folder_name(ref)}{_SUFFIXES[wishes.container]}"
    return _Order(entry, files, goal, wishes)


def _packer(order: _Order) -> Packer:
    moment = order.entry.metadata.download_date
    time_s = _FIRST_MOMENT_S if moment is None else moment / 1000
    if order.wishes.container == "folder":
        names = {METADATA, CHECKSUMS, *(f"{MODEL}/{path}" for path in order.files)}
        if order.wishes.checksums != "inside":
            names.remove(CHECKSUMS)
        return FolderTarget(order.goal, names)
    volumes = Volumes(order.goal, order.volume_bytes)
    if order.wishes.container == "zip":
        return ZipPacker(volumes, time_s)
    return TarPacker(volumes, time_s, packed=order.wishes.container == "tar.zst")


def _plan(order: _Order, paths: list[Path], findings: tuple[Finding, ...]) -> ExportPlan:
    return ExportPlan(
        model=str(order.entry.ref),
        paths=tuple(str(path) for path in paths),
        files=len(order.files),
        size_bytes=order.size_bytes,
        free_bytes=_free_bytes(order.goal),
        findings=findings,
    )


def _findings(order: _Order) -> Iterator[Finding]:
    wishes = order.wishes
    names = Namespace()
    try:
        for path in order.files:
            names.add(parts_of(path), is_file=True)
    except Refused as error:
        yield refusal(error)
    if order.first.exists() and not wishes.replace:
        yield blocker(
            "exists",
            f"{one_line(str(order.first))} is there already.",
            "Replace it, or export to another folder.",
        )
    free_bytes, size_bytes = _free_bytes(order.goal), _most_bytes(order)
    there_bytes = sum(_bytes(path) for path in leftovers(order.goal))
    if free_bytes + there_bytes < size_bytes + _MARGIN_BYTES:
        yield blocker(
            "space",
            f"It takes {size_of(size_bytes)}; there are {size_of(free_bytes)} left in "
            f"{one_line(wishes.folder)}.",
            "Free some space, or export to another disk.",
        )
    if order.volume_bytes is not None:
        yield from _about_volumes(order, order.volume_bytes)
    if wishes.container != "folder":
        yield warning(
            "container",
            "Dataiku does not document which container it imports: not tried there.",
        )


def _about_volumes(order: _Order, volume_bytes: int) -> Iterator[Finding]:
    if volume_bytes < LEAST_VOLUME_BYTES:
        yield blocker(
            "volumes", f"Parts have at least {LEAST_VOLUME_BYTES:,} bytes.", "Ask for larger ones."
        )
    elif _most_bytes(order) > _MOST_VOLUMES * volume_bytes:
        yield blocker(
            "volumes", f"There would be more than {_MOST_VOLUMES:,} parts.", "Ask for larger ones."
        )
    else:
        name = one_line(order.goal.name)
        yield warning(
            "volumes",
            "Its parts are read as they are here and by 7-Zip; others need them joined.",
            f"cat {name}.* > {name}",
        )


def _parts(order: _Order) -> list[Path]:
    if order.volume_bytes is None:
        return [order.goal]
    count = 1
    if order.wishes.container != "tar.zst" and order.volume_bytes >= LEAST_VOLUME_BYTES:
        count = min(_MOST_VOLUMES, math.ceil(_most_bytes(order) / order.volume_bytes))
    return [order.goal.with_name(volume_name(order.goal.name, n + 1)) for n in range(count)]


def _most_bytes(order: _Order) -> int:
    return order.size_bytes + _OVERHEAD_BYTES * (len(order.files) + 2)


def _bytes(path: Path) -> int:
    return tree_bytes(path) if path.is_dir() else path.stat().st_size


def _free_bytes(goal: Path) -> int:
    place = next((path for path in goal.parents if path.is_dir()), Path("/"))
    return shutil.disk_usage(place).free

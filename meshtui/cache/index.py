"""The list of all entries, quickly and always as the disk has it now.

What an entry shows comes from its metadata, from the names in its `model` folder, from whether it
has checksums, and from a look into some files. All but the last are read whenever they have
changed: three `stat` calls an entry tell that, and nothing is taken on trust. A file that is
rewritten in place inside `model` under the same name and size is not seen by a list (`verify`
sees it).

The look into files costs too much for thousands of entries at once. `refine` does it for those
that lack it, a few at a time, and the index file remembers what was found.
"""

import builtins
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path

import msgspec

from meshtui.cache.facts import read_entry_facts, unsafe_files, weights_by_name
from meshtui.cache.files import tree_bytes, write_atomically
from meshtui.cache.metadata import MAX_BYTES, ModelMetadata, read_metadata
from meshtui.cache.names import called, folder_name, unescape
from meshtui.cache.store import METADATA, MODEL, ModelStore
from meshtui.domain.errors import InvalidInput, MeshtuiError, NotFound
from meshtui.domain.model_cache import CacheEntry, Verification
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line

# Another layout of the file: an older one is not read.
_FORMAT = 2
_MOST_FILE_BYTES = 256_000_000

# Time of change, size and number of a file, zeros where it is not there.
_FileState = tuple[int, int, int]
# Of the metadata, of the `model` folder (time of change and number), and of the checksums.
_Signature = tuple[_FileState, tuple[int, int], _FileState]
_NO_FILE: _FileState = (0, 0, 0)
_NO_FOLDER = (0, 0)
_NOTHING: _Signature = (_NO_FILE, _NO_FOLDER, _NO_FILE)

_file_state: Callable[[os.stat_result], _FileState]
_file_state = attrgetter("st_mtime_ns", "st_size", "st_ino")
_folder_state: Callable[[os.stat_result], tuple[int, int]] = attrgetter("st_mtime_ns", "st_ino")


class _Known(msgspec.Struct):
    """An entry as it was read last; `looked` says that its files were looked into."""

    signature: _Signature
    entry: CacheEntry
    looked: bool = False


class _File(msgspec.Struct):
    """The index on disk."""

    format: int
    root: str
    known: dict[str, _Known]


class CacheIndex:
    """Entries of a store. `file` keeps what is known between processes; None: nothing is kept.

    All methods block for as long as the disk does, and may be called from any thread.
    """

    def __init__(self, store: ModelStore, file: Path | None = None) -> None:
        self._store = store
        self._root = str(store.root)
        self._file = file
        self._lock = threading.Lock()
        self._known: dict[str, _Known] | None = None
        self._saved: object = None

    def list(self) -> builtins.list[CacheEntry]:
        """Every folder that could be an entry, by name; broken ones say why in `problem`."""
        with self._lock:
            known = self._read_known()
            names = self._names()
            for name, signature in zip(names, self._signatures(names), strict=True):
                before = known.get(name)
                if before is None or before.signature != signature:
                    known[name] = self._read(name, signature, before)
            if len(known) != len(names):
                present = set(names)
                self._known = known = {n: k for n, k in known.items() if n in present}
            return [known[name].entry for name in names]

    def get(self, ref: ModelRef) -> CacheEntry:
        """One entry, its files looked into. Raises `NotFound`."""
        name = folder_name(ref)
        with self._lock:
            known = self._read_known()
            [signature] = self._signatures([name])
            if signature[0] == _NO_FILE and not (self._store.root / name).is_dir():
                known.pop(name, None)
                raise NotFound(
                    f"{ref} is not in the model cache.", hint=f"Looked in {self._store.root}."
                )
            before = known.get(name)
            if before is None or before.signature != signature:
                known[name] = self._read(name, signature, before)
            if not known[name].looked:
                self._look_into(name, known[name])
            return known[name].entry

    def refine(self, most_s: float = 0.1) -> bool:
        """Looks into the files of entries that were only listed so far, for about that long.
        True if any is left."""
        until = time.monotonic() + most_s
        while True:
            with self._lock:
                known = self._read_known()
                waiting = next((item for item in known.items() if not item[1].looked), None)
                if waiting is None:
                    return False
                self._look_into(*waiting)
            if time.monotonic() > until:
                return True

    def note_verification(self, ref: ModelRef, found: Verification) -> None:
        """Remembers the newest check, for as long as the entry stays as it is."""
        with self._lock:
            known = self._read_known().get(folder_name(ref))
            if known is not None:
                known.entry = msgspec.structs.replace(known.entry, verification=found)
                self._saved = None

    def save(self) -> None:
        """Writes what is known to the file, if it changed. An index that cannot be written costs
        time only."""
        with self._lock:
            if self._file is None or self._known is None:
                return
            state = hash(tuple((name, *k.signature, k.looked) for name, k in self._known.items()))
            if state == self._saved:
                return
            # Names of other letters are no model's, and need not even be text.
            known = {name: one for name, one in self._known.items() if name.isascii()}
            document = _File(_FORMAT, str(self._store.root), known)
            with contextlib.suppress(OSError, UnicodeEncodeError):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._file, msgspec.msgpack.encode(document), 0o600)
                self._saved = state

    def _read_known(self) -> dict[str, _Known]:
        if self._known is None:
            self._known = {}
            if self._file is not None:
                with contextlib.suppress(OSError, msgspec.MsgspecError, RecursionError):
                    with self._file.open("rb") as file:
                        found = msgspec.msgpack.decode(file.read(_MOST_FILE_BYTES), type=_File)
                    if found.format == _FORMAT and found.root == str(self._store.root):
                        self._known = found.known
        return self._known

    def _names(self) -> builtins.list[str]:
        try:
            names = os.listdir(self._store.root)  # noqa: PTH208 (names are all that is needed)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if not name.startswith("."))

    def _signatures(self, names: Iterable[str]) -> builtins.list[_Signature]:
        """Relative to the root's descriptor: half the price of whole paths."""
        try:
            root = os.open(self._store.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return [_NOTHING for _ in names]
        try:
            return [_signature(root, os.fsencode(name)) for name in names]
        finally:
            os.close(root)

    def _read(self, name: str, signature: _Signature, before: _Known | None) -> _Known:
        folder = f"{self._root}/{name}"
        try:
            model = unescape(name)
            ref = ModelRef.parse(model)
        except InvalidInput:
            ref = None
        if ref is None or str(ref) != model:
            return _broken(folder, called(name), signature, "Its folder has no model's name.")
        try:
            metadata = read_metadata(_content(f"{folder}/{METADATA}", signature[0][1]))
            names = os.listdir(f"{folder}/{MODEL}")  # noqa: PTH208 (thousands of folders)
        except MeshtuiError as error:
            return _broken(folder, model, signature, one_line(error.message))
        except OSError as error:
            missing = METADATA if signature[0] == _NO_FILE else MODEL
            why = (
                f"{missing} is missing"
                if isinstance(error, FileNotFoundError)
                else (f"{one_line(error.strerror or 'it cannot be read')} ({missing})")
            )
            return _broken(folder, model, signature, f"{why}.")
        if metadata.ref != ref:
            other = f"Its metadata is that of {metadata.ref}."
            return _broken(folder, model, signature, other)
        has_checksums = signature[2] != _NO_FILE
        entry = _entry(folder, model, metadata, names, has_checksums=has_checksums)
        if before is not None and before.signature[1] == signature[1] and before.looked:
            # What the files tell still holds, and what they were checked against may.
            same_checksums = before.signature[2] == signature[2]
            entry = msgspec.structs.replace(
                entry,
                weights=before.entry.weights,
                unsafe=before.entry.unsafe,
                licence=entry.licence or before.entry.licence,
                task=entry.task or before.entry.task,
                size_bytes=entry.size_bytes or before.entry.size_bytes,
                verification=before.entry.verification if same_checksums else None,
            )
            return _Known(signature, entry, looked=True)
        return _Known(signature, entry)

    def _look_into(self, name: str, known: _Known) -> None:
        known.looked = True
        if known.entry.problem:
            return
        model_dir = self._store.root / name / MODEL
        with contextlib.suppress(OSError):
            facts = read_entry_facts(model_dir)
            known.entry = msgspec.structs.replace(
                known.entry,
                weights=facts.weights,
                unsafe=facts.unsafe,
                task=known.entry.task or facts.task,
                library=known.entry.library or facts.library,
                licence=known.entry.licence or facts.licence,
                size_bytes=known.entry.size_bytes or tree_bytes(model_dir),
            )


def _signature(root: int, name: bytes) -> _Signature:
    """Thousands of these are made at each look: it says everything at once."""
    try:
        metadata = _file_state(os.stat(name + b"/model_metadata.json", dir_fd=root))
    except OSError:
        metadata = _NO_FILE
    try:
        model = _folder_state(os.stat(name + b"/model", dir_fd=root))
    except OSError:
        model = _NO_FOLDER
    try:
        return metadata, model, _file_state(os.stat(name + b"/checksums.json", dir_fd=root))
    except OSError:
        return metadata, model, _NO_FILE


def _content(path: str, size_bytes: int) -> bytes:
    """Of a file that had that size just now; one byte more than the limit where it is longer."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Room for a megabyte would cost more than reading does.
        found = os.read(handle, min(size_bytes, MAX_BYTES) + 1)
        if len(found) > size_bytes:
            found += os.read(handle, MAX_BYTES)
        return found
    finally:
        os.close(handle)


def _broken(folder: str, model: str, signature: _Signature, problem: str) -> _Known:
    shown = os.fsencode(folder).decode("utf-8", "backslashreplace")
    entry = CacheEntry(model=model, folder=shown, problem=problem)
    return _Known(signature, entry, looked=True)


def _entry(
    folder: str, model: str, metadata: ModelMetadata, names: list[str], *, has_checksums: bool
) -> CacheEntry:
    tags = tuple(one_line(tag, 100) for tag in metadata.tags or ())
    licence = next((tag[8:] for tag in tags if tag.startswith("license:")), None)
    problem = None if names else "Its model folder is empty."
    return CacheEntry(
        model=model,
        folder=folder,
        problem=problem,
        size_bytes=metadata.size_in_bytes or 0,
        commit=_line(metadata.commit_hash),
        downloaded_at=_seconds(metadata.download_date),
        downloaded_by=_line(metadata.downloaded_by),
        last_used_at=_seconds(metadata.last_dss_usage),
        last_used_by=_line(metadata.last_used_by),
        last_modified=_line(metadata.last_modified),
        task=_line(metadata.pipeline_name),
        library=_line(metadata.library_name),
        licence=licence,
        languages=tuple(one_line(word, 40) for word in metadata.tagged_languages or ()),
        tags=tags,
        url=one_line(metadata.url, 500),
        weights=weights_by_name(names),
        unsafe=tuple(one_line(name) for name in unsafe_files(names)),
        has_checksums=has_checksums,
    )


def _line(text: str | None) -> str | None:
    return (one_line(text, 200) or None) if text is not None else None


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000

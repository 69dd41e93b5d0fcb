"""A model in a folder of this machine, and an entry of the managed cache."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from meshtui.cache.card import MOST_CARD_BYTES, Card, parse_card
from meshtui.cache.metadata import ModelMetadata
from meshtui.cache.names import unescape
from meshtui.cache.store import METADATA, MODEL, Entry
from meshtui.compat.configuration import MOST_BYTES
from meshtui.compat.subject import CARD, TEXTS, Subject, SubjectFile
from meshtui.domain.errors import InvalidInput
from meshtui.domain.text import one_line
from meshtui.hub.safetensors_header import SafetensorsHeader, header_of

_MOST_FILES = 20_000
_DEEPEST = 6
# Loading one of these would be loading weights, whatever their format.
WEIGHT_SUFFIXES = (
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".msgpack", ".h5",
)  # fmt: skip
# A snapshot in the standard Hugging Face cache.
_SNAPSHOT = re.compile(r"models--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})$")


class Signature(msgspec.Struct, frozen=True):
    """What changes when the files of a folder do: names, sizes and times of change."""

    files: tuple[tuple[str, int, int], ...]


def signature_of(folder: Path) -> Signature:
    """Raises `InvalidInput` where the folder cannot be listed."""
    return Signature(tuple(_files(folder)))


def subject_of_folder(
    folder: Path, *, name: str | None = None, with_headers: bool = True
) -> Subject:
    """The model in a folder; `name` where it is better known than by the folder's own. Headers of
    weights are read unless told otherwise.

    Raises `InvalidInput` where there is no such folder or it cannot be read; whatever is wrong
    with single files stands in the subject. Blocks.
    """
    listed = signature_of(folder)
    place = folder.resolve()
    snapshot = _SNAPSHOT.search(place.as_posix())
    card = _card(folder)
    return _with_files(
        folder,
        listed,
        Subject(
            name=name or _name(place),
            source="folder",
            texts={},
            commit=snapshot["commit"] if snapshot else None,
            pipeline=card.pipeline,
            library=card.library,
            licence=card.licence,
            tags=card.tags,
            relation=card.base_relation,
        ),
        with_headers,
    )


def subject_of_entry(entry: Entry) -> Subject:
    """The model of a cache entry. Raises as `subject_of_folder`; blocks."""
    card, said = _card(entry.model_dir), entry.metadata
    return _with_files(
        entry.model_dir,
        signature_of(entry.model_dir),
        Subject(
            name=str(entry.ref),
            source="cache",
            texts={},
            commit=said.commit_hash,
            pipeline=_pipeline(said, card),
            library=said.library_name or card.library,
            licence=card.licence,
            tags=said.tags if said.tags is not None else card.tags,
            relation=card.base_relation,
        ),
        with_headers=True,
    )


def _with_files(folder: Path, listed: Signature, subject: Subject, with_headers: bool) -> Subject:
    files = tuple(SubjectFile(path=path, size_bytes=size) for path, size, _ in listed.files)
    texts, unreadable = {}, {}
    sizes = {file.path: file.size_bytes for file in files}
    for name in TEXTS:
        if name not in sizes:
            continue
        if sizes[name] > MOST_BYTES:
            unreadable[name] = f"it is larger than {MOST_BYTES >> 20} MiB, which none is"
            continue
        try:
            with (folder / name).open("rb") as opened:
                texts[name] = opened.read(MOST_CARD_BYTES if name == CARD else MOST_BYTES + 1)
        except OSError as error:
            unreadable[name] = error.strerror or str(error)
    headers: dict[str, SafetensorsHeader] = {}
    wrong: dict[str, str] = {}
    if with_headers:
        for file in files:
            if file.path.endswith(".safetensors"):
                try:
                    headers[file.path] = header_of(folder / file.path)
                except InvalidInput as error:
                    wrong[file.path] = error.message
                except OSError as error:
                    wrong[file.path] = f"It cannot be read: {error.strerror}."
    has_weights = any(file.path.lower().endswith(WEIGHT_SUFFIXES) for file in files)
    return msgspec.structs.replace(
        subject,
        texts=texts,
        files=files,
        unreadable=unreadable,
        headers=headers,
        wrong_headers=wrong,
        source=subject.source if has_weights or subject.source != "folder" else "configuration",
    )


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of every file, in order. Links to files count as what they
    lead to (a snapshot of the Hub's cache consists of them), links to folders are passed over."""
    found: list[tuple[str, int, int]] = []
    pending = [""]
    while pending and len(found) < _MOST_FILES:
        prefix = pending.pop()
        try:
            with os.scandir(folder / prefix) as entries:
                for entry in entries:
                    path = f"{prefix}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        hidden = entry.name.startswith(".")
                        if not hidden and prefix.count("/") < _DEEPEST:
                            pending.append(f"{path}/")
                        continue
                    # Links may lead in circles or to nothing, and files go while one looks.
                    with contextlib.suppress(OSError):
                        seen = entry.stat()
                        if stat.S_ISREG(seen.st_mode):
                            found.append((path, seen.st_size, seen.st_mtime_ns))
        except OSError as error:
            if prefix:
                continue
            raise _no_folder(folder, error) from error
    yield from sorted(found)


def _no_folder(folder: Path, error: OSError) -> InvalidInput:
    shown = one_line(str(folder))
    if isinstance(error, FileNotFoundError):
        return InvalidInput(
            f"There is no model folder {shown}.",
            hint="Download the model again: it may have been deleted.",
        )
    return InvalidInput(
        f"The model folder {shown} cannot be read: {error.strerror}.",
        hint="Check that it is a folder, its owner and its permissions.",
    )


def _name(place: Path) -> str:
    """A name as on the Hub, where the place tells one."""
    if snapshot := _SNAPSHOT.search(place.as_posix()):
        return snapshot["name"].replace("--", "/", 1)
    if place.name == MODEL and (place.parent / METADATA).is_file():
        try:
            return unescape(place.parent.name)
        except InvalidInput:
            return place.parent.name
    return place.name or str(place)


def _card(folder: Path) -> Card:
    try:
        with (folder / CARD).open("rb") as file:
            return parse_card(file.read(MOST_CARD_BYTES))
    except OSError:
        return Card()


def _pipeline(said: ModelMetadata, card: Card) -> str | None:
    return said.pipeline_name or card.pipeline

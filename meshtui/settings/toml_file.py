"""TOML files that people and programs edit: read with the line of what is wrong, rewritten
atomically, with keys that we do not know left in."""

import hashlib
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from meshtui.domain.text import one_line

T = TypeVar("T")

# A file of settings beyond this is a mistake, and would stall whoever reads it.
MAX_FILE_BYTES = 4 * 1024 * 1024

KeyPath = tuple[str | int, ...]


class Wrong(Exception):
    """What is wrong in a file: the reason, and the place as a line or as a path of keys."""

    def __init__(self, reason: str, *, at: KeyPath = (), line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at
        self.line = line


class Parsed(msgspec.Struct, frozen=True):
    """A file's text and its keys and values."""

    text: str
    data: dict[str, Any]


def read(path: Path) -> Parsed:
    """Parses a file; raises `Wrong`, and `FileNotFoundError` where there is none."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(str(path)) from error
    except OSError as error:
        raise Wrong(f"cannot be read: {error.strerror or error}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise Wrong(f"is larger than {MAX_FILE_BYTES // 1024**2} MiB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise Wrong("is not UTF-8 text", line=line) from error
    return parsed(text)


def parsed(text: str) -> Parsed:
    """As `read`, of a text."""
    try:
        return Parsed(text, tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason, line_number = _toml_error(str(error), text)
        raise Wrong(reason, line=line_number) from error


def revision(path: Path) -> str | None:
    """What tells the file's content from any other; None where there is no file, or none that
    can be read."""
    try:
        with path.open("rb") as file:
            return hashlib.sha256(file.read(MAX_FILE_BYTES + 1)).hexdigest()[:16]
    except OSError:
        return None


def convert(found: Parsed, kind: type[T], check: Callable[[T], None]) -> T:
    """The value of `kind` that a file holds; raises `Wrong` with the line where it can be told.
    `check` raises `Wrong` for what the types let pass."""
    try:
        value: T = msgspec.convert(found.data, type=kind)
        check(value)
    except msgspec.ValidationError as error:
        reason, at = _validation_error(str(error))
        raise Wrong(placed(reason, at), at=at, line=line_of(found.text, at)) from error
    except Wrong as error:
        line = error.line or line_of(found.text, error.at)
        raise Wrong(placed(error.reason, error.at), at=error.at, line=line) from error
    return value


def write(path: Path, text: str, data: Mapping[str, Any]) -> None:
    """Replaces the file as a whole by `text` with `data` in it: whoever reads sees the old one or
    the new one, also after a power cut. Raises `OSError`, and `UnicodeEncodeError` for what is no
    text."""
    # Only who writes needs the library that knows of comments.
    from meshtui.settings.toml_text import rewritten

    content = rewritten(text, data).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    # A link to a file in a repository of dotfiles stays a link.
    target = path.resolve()
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            # A file that a team reads stays readable; a new one is the user's alone.
            os.fchmod(handle, _mode(target))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0o600


def merged(old: Mapping[str, Any], new: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """`new` (plain data of `kind`) with those keys of `old` kept that `kind` does not know, in
    nested objects too; objects in lists are matched by their first field."""
    hints = get_type_hints(kind)
    result = {key: value for key, value in old.items() if key not in kind.__struct_fields__}
    for key in old.keys() & hints.keys() - new.keys():
        # What is at its defaults now is not written, but what we do not know in it is.
        inner = _struct_in(hints[key])
        if (
            inner is not None
            and isinstance(old[key], dict)
            and (rest := merged(old[key], {}, inner))
        ):
            result[key] = rest
    for key, value in new.items():
        if value is None:
            continue
        before, inner = old.get(key), _struct_in(hints.get(key))
        if inner is not None and isinstance(value, dict) and isinstance(before, dict):
            value = merged(before, value, inner)
        elif inner is not None and isinstance(value, list | tuple) and isinstance(before, list):
            identity = inner.__struct_fields__[0]
            known = {item.get(identity): item for item in before if isinstance(item, dict)}
            value = [merged(known.get(item.get(identity), {}), item, inner) for item in value]
        result[key] = value
    return result


def line_of(text: str, at: KeyPath) -> int | None:
    """The line where the value at `at` stands, or that of the nearest table around it."""
    best: tuple[int, int | None] = (0, None)
    table: KeyPath = ()
    counts: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            names = _keys(header["array"] or header["table"])
            if header["array"]:
                counts[names] = counts.get(names, -1) + 1
            table = _indexed(names, counts)
            here = table
        elif assignment := _ASSIGNMENT.match(line):
            here = (*table, *_keys(assignment["key"]))
        else:
            continue
        if at[: len(here)] == here and len(here) > best[0]:
            best = (len(here), number)
    return best[1]


_HEADER = re.compile(r"\s*(?:\[\[(?P<array>[^\]]+)\]\]|\[(?P<table>[^\]]+)\])")
_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_ASSIGNMENT = re.compile(rf"\s*(?P<key>{_KEY}(?:\s*\.\s*{_KEY})*)\s*=")


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(key.strip("\"'") for key in re.findall(_KEY, dotted))


def _indexed(names: tuple[str, ...], counts: Mapping[tuple[str, ...], int]) -> KeyPath:
    path: list[str | int] = []
    for end, name in enumerate(names, 1):
        path.append(name)
        if names[:end] in counts:
            path.append(counts[names[:end]])
    return tuple(path)


def _toml_error(message: str, text: str) -> tuple[str, int | None]:
    if found := re.search(r"\s*\(at line (\d+), column \d+\)", message):
        return message.replace(found[0], ""), int(found[1])
    if message.endswith("(at end of document)"):
        return message, text.count("\n") + 1
    return message, None


def _validation_error(message: str) -> tuple[str, KeyPath]:
    reason, _, place = message.partition(" - at `")
    at: list[str | int] = []
    for key, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", place):
        at.append(int(index) if index else key)
    return reason.replace("`", ""), tuple(at)


def placed(reason: str, at: KeyPath) -> str:
    """`enabled_models[1].max_tokens: Expected int, got str`, counted from 1 as people do."""
    place = "".join(f"[{key + 1}]" if isinstance(key, int) else f".{key}" for key in at)
    return one_line(f"{place.lstrip('.')}: {reason}" if place else reason)


def _struct_in(hint: Any) -> Any:
    """The Struct that a field holds, directly, optionally or in a tuple or list."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint
    return next((found for inner in get_args(hint) if (found := _struct_in(inner))), None)

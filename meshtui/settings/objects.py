"""A folder of objects, one TOML file each, which people edit while we run."""

import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from meshtui.domain.connection import BrokenObject
from meshtui.domain.errors import BrokenFile, InvalidInput, NoRoom, NotFound, Unavailable
from meshtui.settings import toml_file
from meshtui.settings.toml_file import Parsed, Wrong

T = TypeVar("T", bound=msgspec.Struct)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

# What tells that a file is another one: its inode (a rename over it), change time and size.
Fingerprint = tuple[int, int, int]


def check_name(name: str) -> None:
    """Raises `InvalidInput` for what cannot be the name of an object, hence of its file."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise InvalidInput(
            f"{name!r} cannot be a name.",
            hint="Use letters, digits, dots, dashes and underscores, at most 63 of them.",
        )


class _File(Generic[T]):
    """A file as it was last read: its last good value, and what is wrong with it now."""

    def __init__(self) -> None:
        self.fingerprint: Fingerprint | None = None
        self.good: T | None = None
        self.broken: BrokenObject | None = None


class ObjectFolder(Generic[T]):
    """All objects of one kind. The file's name is the object's name.

    A file that does not parse or validate is in `broken` and is never written over; its last
    good version stays in force while this process lives. `adjust` may fill in what the file
    leaves open; `check` raises `Wrong` for what the types let pass.
    """

    def __init__(
        self,
        folder: Path,
        kind: type[T],
        *,
        check: Callable[[T], None] = lambda _: None,
        adjust: Callable[[T, dict[str, Any]], T] = lambda value, _: value,
    ) -> None:
        self.folder = folder
        self._kind = kind
        self._check = check
        self._adjust = adjust
        self._files: dict[str, _File[T]] = {}

    @property
    def objects(self) -> dict[str, T]:
        return {name: f.good for name, f in sorted(self._files.items()) if f.good is not None}

    @property
    def broken(self) -> tuple[BrokenObject, ...]:
        return tuple(f.broken for _, f in sorted(self._files.items()) if f.broken is not None)

    def refresh(self) -> bool:
        """Reads what changed since the last time; True if anything did. One `scandir` and one
        `stat` a file where nothing changed."""
        found = self._scan()
        changed = bool(self._files.keys() - found.keys())
        # Another thread may be reading: it sees the files of before or those of now.
        files = {name: self._files.get(name) or _File[T]() for name in found}
        for name, fingerprint in found.items():
            file = files[name]
            if file.fingerprint != fingerprint:
                changed = True
                file.fingerprint = fingerprint
                self._load(name, file)
        self._files = files
        return changed

    def reload(self) -> None:
        """Reads every file again, because something that `adjust` depends on has changed."""
        for file in self._files.values():
            file.fingerprint = None
        self.refresh()

    def save(self, name: str, value: T) -> None:
        """Writes an object; keys in its file that we do not know stay. Raises `InvalidInput`,
        `BrokenFile` where the present file does not parse, `NoRoom` or
        `Unavailable` where it cannot be written."""
        check_name(name)
        path = self._path(name)
        try:
            self._check(value)
            old = toml_file.read(path).data
        except FileNotFoundError:
            old = {}
        except Wrong as error:
            if error.at:
                raise InvalidInput(f"{error.reason}.") from error
            raise BrokenFile(
                f"{path} is broken and was not written over: {error.reason}.",
                hint="Repair or delete it first.",
            ) from error
        plain = msgspec.to_builtins(value)
        plain.pop("name", None)
        try:
            toml_file.write(path, toml_file.merged(old, plain, self._kind))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = NoRoom if full else Unavailable
            raise kind(f"{path} could not be written: {error.strerror}.") from error
        self.refresh()

    def delete(self, name: str) -> None:
        """Deletes an object's file; raises `NotFound`."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            raise NotFound(f"There is no {self._path(name)}.") from None
        self.refresh()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.toml"

    def _scan(self) -> dict[str, Fingerprint]:
        found: dict[str, Fingerprint] = {}
        try:
            paths = list(self.folder.iterdir())
        except OSError:
            return found
        for path in paths:
            # Names with a leading dot are editors' and our own temporary files.
            if path.suffix == ".toml" and not path.name.startswith("."):
                try:
                    stat = path.stat()
                except OSError:
                    continue
                found[path.stem] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        return found

    def _load(self, name: str, file: _File[T]) -> None:
        try:
            check_name(name)
            parsed = toml_file.read(self._path(name))
            if parsed.data.get("name", name) != name:
                raise Wrong(
                    f"name: the file's name is the object's name, {name!r}",
                    line=toml_file.line_of(parsed.text, ("name",)),
                )
            named = Parsed(parsed.text, {**parsed.data, "name": name})
            value = toml_file.convert(named, self._kind, self._check)
            file.good, file.broken = self._adjust(value, parsed.data), None
        except FileNotFoundError:
            file.fingerprint = None
        except Wrong as error:
            file.broken = self._broken(name, error.line, error.reason)
        except InvalidInput as error:
            file.broken = self._broken(name, None, str(error))

    def _broken(self, name: str, line: int | None, reason: str) -> BrokenObject:
        return BrokenObject(path=str(self._path(name)), line=line, reason=reason)

"""A folder of objects, one TOML file each, which people edit while we run."""

import errno
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from meshtui.domain.codec import to_plain
from meshtui.domain.connection import BrokenObject
from meshtui.domain.editing import ANY_REVISION
from meshtui.domain.errors import (
    BrokenFile,
    Conflict,
    FileChanged,
    InvalidInput,
    MeshtuiError,
    NoRoom,
    NotFound,
    Unavailable,
)
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
    leaves open, and `plain` what is written of a value over the file's present data; `check`
    raises `Wrong` for what the types let pass.

    A revision tells a file's content from any other: whoever changes an object says which one was
    seen (None: there was no file), and is refused with `FileChanged` where it is another one now.
    """

    def __init__(
        self,
        folder: Path,
        kind: type[T],
        *,
        check: Callable[[T], None] = lambda _: None,
        adjust: Callable[[T, dict[str, Any]], T] = lambda value, _: value,
        plain: Callable[[T, dict[str, Any]], dict[str, Any]] = lambda value, _: to_plain(value),
    ) -> None:
        self.folder = folder
        self._kind = kind
        self._check = check
        self._adjust = adjust
        self._plain = plain
        self._files: dict[str, _File[T]] = {}
        # Whoever saves looks first whether the file is still the one that was seen.
        self._lock = threading.RLock()

    @property
    def objects(self) -> dict[str, T]:
        return {name: f.good for name, f in sorted(self._files.items()) if f.good is not None}

    @property
    def broken(self) -> tuple[BrokenObject, ...]:
        return tuple(f.broken for _, f in sorted(self._files.items()) if f.broken is not None)

    def refresh(self) -> bool:
        """Reads what changed since the last time; True if anything did. One `scandir` and one
        `stat` a file where nothing changed."""
        with self._lock:
            return self._refresh()

    def _refresh(self) -> bool:
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
        with self._lock:
            for file in self._files.values():
                file.fingerprint = None
            self._refresh()

    def path(self, name: str) -> Path:
        """Where the object's file is, or would be."""
        return self.folder / f"{name}.toml"

    def revision(self, name: str) -> str | None:
        """That of the object's file as it is now; None where there is none."""
        return toml_file.revision(self.path(name))

    def save(
        self, name: str, value: T, *, over: str | None = ANY_REVISION, template: str = ""
    ) -> None:
        """Writes an object over the revision `over`; comments and keys in its file that we do not
        know stay. `template` is the text to begin with where there is no file. Raises
        `InvalidInput`, `FileChanged`, `BrokenFile` where the present file does not parse, `NoRoom`
        or `Unavailable` where it cannot be written."""
        check_name(name)
        path = self.path(name)
        with self._lock:
            try:
                self._check(value)
            except Wrong as error:
                said = toml_file.placed(error.reason, error.at)
                raise InvalidInput(f"{said.rstrip('.')}.") from error
            self._check_revision(name, over)
            try:
                old = toml_file.read(path)
            except FileNotFoundError:
                old = toml_file.parsed(template)
            except Wrong as error:
                raise BrokenFile(
                    f"{path} is broken and was not written over: {error.reason}.",
                    hint="Repair or delete it first.",
                ) from error
            plain = self._plain(value, old.data)
            plain.pop("name", None)
            try:
                toml_file.write(path, old.text, toml_file.merged(old.data, plain, self._kind))
            except OSError as error:
                raise _not_written(path, error) from error
            except UnicodeEncodeError as error:
                raise InvalidInput("It holds half of a character, which no file can.") from error
            self._reread(name)

    def rename(self, name: str, new: str, *, over: str | None = ANY_REVISION) -> None:
        """Gives an object's file another name. Raises as `save`, and `Conflict` where there is
        such a file already."""
        check_name(new)
        with self._lock:
            self._check_revision(name, over)
            if name not in self.objects:
                raise NotFound(f"There is no {self.path(name)}.")
            if self.revision(new) is not None:
                raise Conflict(f"There is a file {self.path(new)} already.")
            # The file may say its name, which would be wrong in the new one.
            self.save(name, self.objects[name])
            try:
                self.path(name).rename(self.path(new))
            except OSError as error:
                raise _not_written(self.path(new), error) from error
            self._reread(new)

    def delete(self, name: str, *, over: str | None = ANY_REVISION) -> None:
        """Deletes an object's file; raises `NotFound`, `FileChanged` or `Unavailable`."""
        with self._lock:
            if self.revision(name) is not None:
                self._check_revision(name, over)
            try:
                self.path(name).unlink()
            except FileNotFoundError:
                raise NotFound(f"There is no {self.path(name)}.") from None
            except OSError as error:
                raise _not_written(self.path(name), error, "deleted") from error
            self._refresh()

    def _check_revision(self, name: str, seen: str | None) -> None:
        now = self.revision(name)
        if seen in (ANY_REVISION, now):
            return
        if seen is None:
            raise Conflict(f"There is a file {self.path(name)} already.", hint="Take another name.")
        what = "was deleted" if now is None else "was changed"
        raise FileChanged(
            f"{self.path(name)} {what} by somebody else meanwhile.",
            hint="Nothing was written. Look at it as it is now, and make your change again.",
        )

    def _reread(self, name: str) -> None:
        # A file that was just written may look like the one before: its inode is used again.
        if name in self._files:
            self._files[name].fingerprint = None
        self._refresh()

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
            parsed = toml_file.read(self.path(name))
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
        return BrokenObject(path=str(self.path(name)), line=line, reason=reason)


def _not_written(path: Path, error: OSError, what: str = "written") -> MeshtuiError:
    reason = f"{path} could not be {what}: {error.strerror or error}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom(reason)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return Unavailable(
            reason, hint=f"You may not write in {path.parent}. XDG_CONFIG_HOME names another place."
        )
    return Unavailable(reason)

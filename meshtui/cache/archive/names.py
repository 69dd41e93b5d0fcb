"""Which paths an archive may hold: it comes from strangers, and unpacks into our folders."""

import re
import unicodedata

from meshtui.domain.errors import InvalidInput
from meshtui.domain.text import one_line

MOST_ENTRIES = 20_000
MOST_PART_BYTES = 255
MOST_PATH_BYTES = 1024
# Controls, invisible format characters (bidirectional overrides among them), halves of surrogate
# pairs, line and paragraph separators.
_FORBIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_DRIVE = re.compile(r"[A-Za-z]:")

Parts = tuple[str, ...]


class Refused(InvalidInput):
    """Something that an archive may not hold. `rule` is the name that its finding gets."""

    def __init__(self, rule: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.rule = rule


def shown(name: str) -> str:
    """A name for messages; what cannot be seen in it becomes U+FFFD."""
    line = one_line(name, 120)
    visible = "".join("\ufffd" if _is_hidden(char) else char for char in line)
    return visible or "(a nameless file)"


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in _FORBIDDEN


def parts_of(name: str) -> Parts:
    """The parts of a member's path, in Unicode's composed form (NFC). A leading `./`, which `tar`
    writes, counts as nothing; so `.` alone has no parts. Raises `Refused`."""
    if any(map(_is_hidden, name)):
        raise Refused("name", f"{shown(name)} has characters in its name that cannot be seen.")
    name = unicodedata.normalize("NFC", name)
    while name.startswith("./"):
        name = name[2:]
    if "\\" in name or _DRIVE.match(name):
        raise Refused("name", f"{shown(name)} is a path of Windows.")
    if name.startswith("/"):
        raise Refused("name", f"{shown(name)} is an absolute path.")
    if name in ("", "."):
        return ()
    parts = tuple(name.removesuffix("/").split("/"))
    if any(part in (".", "..") for part in parts):
        raise Refused("name", f"{shown(name)} leads out of its folder.")
    if not all(parts):
        raise Refused("name", f"{shown(name)} has a part without a name.")
    if any(len(part.encode()) > MOST_PART_BYTES for part in parts):
        raise Refused("name", f"{shown(name)} has an overlong name.")
    if len(name.encode()) > MOST_PATH_BYTES:
        raise Refused("name", f"{shown(name)} is an overlong path.")
    return parts


class Namespace:
    """The paths seen so far; no two may be one on a disk that takes large for small letters."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, bool]] = {}
        self._count = 0

    def add(self, parts: Parts, *, is_file: bool) -> None:
        """Raises `Refused` where the path collides with another one, or where there are too
        many."""
        self._count += 1
        if self._count > MOST_ENTRIES:
            raise Refused("count", f"It holds more than {MOST_ENTRIES:,} files.")
        for length in range(1, len(parts)):
            self._add("/".join(parts[:length]), is_file=False)
        self._add("/".join(parts), is_file=is_file)

    def _add(self, path: str, *, is_file: bool) -> None:
        key = _folded(path)
        if key not in self._seen:
            self._seen[key] = path, is_file
            return
        known, known_is_file = self._seen[key]
        if known != path:
            raise Refused(
                "duplicate", f"{shown(path)} and {shown(known)} are one name to some disks."
            )
        if is_file and known_is_file:
            raise Refused("duplicate", f"{shown(path)} is there twice.")
        if is_file or known_is_file:
            raise Refused("duplicate", f"{shown(path)} is a file and a folder.")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())

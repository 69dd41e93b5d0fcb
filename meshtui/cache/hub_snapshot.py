"""The files of one snapshot in the standard Hugging Face cache, as they are on disk.

    ROOT/models--org--name/refs/main                      the commit of a branch or tag
    ROOT/models--org--name/snapshots/COMMIT/config.json   a link to
    ROOT/models--org--name/blobs/ETAG                     the content, or (Xet) a link to
    ROOT/blobs/XX/HASH                                    content that repositories share

Where a file system has no links, the content itself is in `snapshots`. (huggingface_hub 2.4,
`file_download` and `utils/_shared_blobs`.) What leads out of ROOT is refused: the cache may have
come from elsewhere, and what a link names would be taken into ours.
"""

import os
import re
import stat
from collections.abc import Iterator

import msgspec

from meshtui.domain.finding import Finding, Level
from meshtui.domain.text import one_line
from meshtui.hub.selection import is_safe

SNAPSHOTS = "snapshots"
BLOBS = "blobs"
_MOST_FILES = 20_000
_MOST_DEPTH = 32
_UNFINISHED = ".incomplete"
_UPWARD = ("", ".", "..")
_TO_SHARED = re.compile(r"\.\./\.\./blobs/(?P<prefix>[0-9a-f]{2})/(?P<name>[0-9a-f]{64})")
_AGAIN = "Fetch it again: hf download {model}, or meshtui cache download {model}."

_SAYS = {
    "missing": ("The content of {names} is missing from the cache.", _AGAIN),
    "link": ("{names} leads out of the Hugging Face cache.", ""),
    "file": ("{names} is no regular file.", ""),
    "name": ("{names} is a name that no model's file has.", ""),
    "unreadable": ("{names} cannot be read by you.", "Ask its owner, or whoever looks after it."),
}


class SnapshotFile(msgspec.Struct, frozen=True):
    """A file below a snapshot's folder: where its content is, and the `lstat` of that. `blob` is
    the name that its repository has for the content, None where it has no other name."""

    path: str
    place: str
    blob: str | None
    found: os.stat_result


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What can be read of a snapshot, and what is wrong with its files. `unfinished` are the names
    of its repository's blobs that were not fetched to their end."""

    folder: str
    files: tuple[SnapshotFile, ...] = ()
    unfinished: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


class _Refused(Exception):
    """A file that is not taken; the argument is a key of `_SAYS`."""


class SnapshotReader:
    """Reads snapshots below one root, which is a real path."""

    def __init__(self, root: str) -> None:
        self._root = root
        # Folders of the root that were looked at: whether they are real ones.
        self._real: dict[str, bool] = {}

    def read(self, repo: str, name: str, model: str) -> Snapshot:
        """The snapshot `name` of the repository's folder `repo`. Links are followed, by the two
        steps that the Hub's client makes or where they stay inside the root. `model` is for what
        is said. Raises `OSError` where a folder cannot be listed."""
        blobs = os.path.join(repo, BLOBS)  # noqa: PTH118 (thousands of repositories)
        folder = os.path.join(repo, SNAPSHOTS, name)  # noqa: PTH118
        files: list[SnapshotFile] = []
        refused: dict[str, list[str]] = {}
        for number, (path, place, is_link) in enumerate(_walk(folder)):
            if number == _MOST_FILES:
                message = f"It holds more than {_MOST_FILES:,} files."
                return Snapshot(folder=folder, findings=(_blocker("count", message),))
            try:
                files.append(self._file(path, place, is_link, blobs))
            except _Refused as error:
                refused.setdefault(str(error), []).append(path)
        findings = [_finding(rule, paths, model) for rule, paths in refused.items()]
        if not files and not refused:
            findings.append(_blocker("empty", "There are no files in it.", _fix(_AGAIN, model)))
        return Snapshot(
            folder=folder,
            files=tuple(sorted(files, key=lambda file: file.path)),
            unfinished=_unfinished(blobs),
            findings=tuple(findings),
        )

    def _file(self, path: str, place: str, is_link: bool, blobs: str) -> SnapshotFile:
        # Letters and digits, the usual case, are safe; asking costs much over thousands of files.
        if not (path.isascii() and path.isprintable() and "\\" not in path) and not is_safe(path):
            raise _Refused("name")
        blob = None
        try:
            if is_link:
                blob, place = self._follow(path, place, blobs)
            found = os.lstat(place)
            if stat.S_ISLNK(found.st_mode) and blob is not None:
                place = self._follow_shared(place)
                found = os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            raise _Refused("missing") from None
        except OSError:
            raise _Refused("unreadable") from None
        if not stat.S_ISREG(found.st_mode):
            raise _Refused("file")
        if not found.st_mode & stat.S_IROTH and not os.access(place, os.R_OK, effective_ids=True):
            raise _Refused("unreadable")
        return SnapshotFile(path, place, blob, found)

    def _follow(self, path: str, place: str, blobs: str) -> tuple[str | None, str]:
        """The blob's name, where it is one of the repository's, and where a link leads."""
        up, _, name = os.readlink(place).rpartition("/")  # noqa: PTH115 (thousands of files)
        said = f"{'../' * (2 + path.count('/'))}{BLOBS}"
        if up == said and name not in _UPWARD and self._is_real(blobs):
            return name, f"{blobs}/{name}"
        return None, self._inside(place)

    def _follow_shared(self, place: str) -> str:
        match = _TO_SHARED.fullmatch(os.readlink(place))  # noqa: PTH115
        if match:
            shared = f"{self._root}/{BLOBS}"
            folder = f"{shared}/{match['prefix']}"
            if self._is_real(shared) and self._is_real(folder):
                return f"{folder}/{match['name']}"
        return self._inside(place)

    def _inside(self, place: str) -> str:
        """Where a link of any other kind leads. Raises `_Refused` or `OSError`."""
        target = os.path.realpath(place, strict=True)
        if not target.startswith(f"{self._root}/"):
            raise _Refused("link")
        return target

    def _is_real(self, folder: str) -> bool:
        if folder not in self._real:
            try:
                self._real[folder] = stat.S_ISDIR(os.lstat(folder).st_mode)
            except OSError:
                self._real[folder] = False
        return self._real[folder]


def _walk(folder: str) -> Iterator[tuple[str, str, bool]]:
    """Path, place and whether it is a link, of all that is no folder."""
    pending = [("", folder)]
    while pending:
        prefix, place = pending.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                path = prefix + entry.name
                if entry.is_symlink():
                    yield path, entry.path, True
                elif entry.is_dir() and path.count("/") < _MOST_DEPTH:
                    pending.append((f"{path}/", entry.path))
                else:
                    yield path, entry.path, False


def _unfinished(blobs: str) -> tuple[str, ...]:
    """`ETAG` of each `ETAG.incomplete` or `ETAG.RANDOM.incomplete` whose content never came."""
    try:
        names = os.listdir(blobs)  # noqa: PTH208 (names are all that is needed)
    except OSError:
        return ()
    begun = {name.partition(".")[0] for name in names if name.endswith(_UNFINISHED)}
    return tuple(sorted(begun.difference(names))) if begun else ()


def _finding(rule: str, paths: list[str], model: str) -> Finding:
    message, fix = _SAYS[rule]
    names = one_line(min(paths), 120)
    if len(paths) > 1:
        names += f" (and {len(paths) - 1} more)"
    return _blocker(rule, message.format(names=names), _fix(fix, model))


def _fix(text: str, model: str) -> str:
    return text.format(model=model)


def _blocker(rule: str, message: str, fix: str = "") -> Finding:
    return Finding(rule=rule, level=Level.BLOCKER, message=message, fix=fix)

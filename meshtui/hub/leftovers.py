"""Where a download grows, and what an earlier attempt at it left there."""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from meshtui.hub.model_files import HubFile, HubModel

_NOTES = "done.jsonl"


class DownloadFolder:
    """`model/` holds finished files, `done.jsonl` their identities and SHA-256, and `parts/` those
    that are not finished. Its methods block."""

    def __init__(self, folder: Path, model: HubModel) -> None:
        self.folder = folder
        self._commit = model.commit

    def part(self, file: HubFile) -> Path:
        return self.folder / "parts" / self._identity(file)

    def target(self, file: HubFile) -> Path:
        return self.folder / "model" / file.path

    def present_bytes(self, files: Sequence[HubFile]) -> int:
        """How much of these files is there."""
        done = self._notes()
        total = 0
        for file in files:
            with contextlib.suppress(OSError):
                if self._finished(file, done):
                    total += file.size_bytes
                else:
                    total += min(self.part(file).stat().st_size, file.size_bytes)
        return total

    def prepare(self, files: Sequence[HubFile]) -> dict[str, str]:
        """Keeps what was finished (it was checked then) or begun and is still wanted, and removes
        the rest; gives the SHA-256 of finished files by their path. Raises `OSError`."""
        done = self._notes()
        kept = {file.path: digest for file in files if (digest := self._finished(file, done))}
        wanted = {self._identity(file) for file in files}
        for path in self.folder.glob("parts/*"):
            if path.name not in wanted:
                path.unlink()
        model_dir = self.folder / "model"
        for path in model_dir.glob("**/*"):
            if not path.is_dir() and path.relative_to(model_dir).as_posix() not in kept:
                path.unlink()
        for place in ("parts", "model"):
            (self.folder / place).mkdir(exist_ok=True)
        return kept

    def note(self, file: HubFile, digest: str) -> None:
        """Remembers that the file is finished, on a line of its own: one that a full disk tears
        costs that file only. Raises `OSError`."""
        line = msgspec.json.encode({file.path: f"{self._identity(file)} {digest}"})
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        handle = os.open(self.folder / _NOTES, flags, 0o666)
        try:
            os.write(handle, b"\n" + line + b"\n")
        finally:
            os.close(handle)

    def _identity(self, file: HubFile) -> str:
        """Named for the content, so that a changed file never goes on from the old one's part, and
        for the path, since two files may have the same content."""
        path = hashlib.sha256(file.path.encode()).hexdigest()[:12]
        return f"{file.sha256 or file.git_sha1 or f'at-{self._commit}'}-{path}.part"

    def _finished(self, file: HubFile, done: dict[str, str]) -> str:
        """The SHA-256 of the file where it is there, else nothing."""
        identity, _, digest = done.get(file.path, "").partition(" ")
        try:
            is_whole = self.target(file).stat().st_size == file.size_bytes
        except OSError:
            return ""
        return digest if is_whole and identity == self._identity(file) else ""

    def _notes(self) -> dict[str, str]:
        notes: dict[str, str] = {}
        with contextlib.suppress(OSError):
            for line in (self.folder / _NOTES).read_bytes().splitlines():
                with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                    notes.update(msgspec.json.decode(line, type=dict[str, str]))
        return notes

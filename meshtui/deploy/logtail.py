"""Reads an engine's log as it grows, and its end."""

import os
import re
from io import FileIO
from pathlib import Path

from meshtui.deploy.local import LOG_NAME, OLDER_LOG_NAME

# Progress bars rewrite their line with \r.
_LINE_END = re.compile(rb"[\r\n]+")
_READ_BYTES = 1 << 20
# A longer line tells nothing about a start; it is cut so that it cannot fill memory.
_MAX_LINE_BYTES = 64 * 1024


class LogTail:
    """The lines of one start's log, from its beginning, across rotation. All of it blocks."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG_NAME
        self._older: Path | None = folder / OLDER_LOG_NAME
        self._file: FileIO | None = None
        self._held = b""

    def read(self) -> list[str]:
        """The complete lines that were added since the last call, at most about 1 MB of them."""
        data = self._read_bytes()
        *lines, self._held = _LINE_END.split(self._held + data)
        self._held = self._held[:_MAX_LINE_BYTES]
        return [line.decode("utf-8", "replace") for line in lines if line]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_bytes(self) -> bytes:
        if self._file is None:
            self._file = self._open()
        while self._file is not None:
            # Looked at before reading: what is written between goes to the file that is open.
            rotated = self._is_rotated(self._file)
            if data := self._file.read(_READ_BYTES):
                return data
            if not rotated:
                return b""
            self._file.close()
            self._file = self._open()
        return b""

    def _open(self) -> FileIO | None:
        older, self._older = self._older, None
        for path in (older, self._path):
            if path is not None:
                try:
                    return FileIO(path)
                except FileNotFoundError:
                    continue
        self._older = older
        return None

    def _is_rotated(self, file: FileIO) -> bool:
        try:
            return not os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


def log_end(folder: Path, limit_bytes: int = 64 * 1024) -> str:
    """The last part of a start's log. Blocks."""
    end = b""
    for name in (LOG_NAME, OLDER_LOG_NAME):
        try:
            with (folder / name).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - (limit_bytes - len(end))))
                end = file.read() + end
        except FileNotFoundError:
            continue
        if len(end) >= limit_bytes:
            break
    return end[-limit_bytes:].decode("utf-8", "replace")

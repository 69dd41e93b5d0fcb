"""A file that grows while it is fetched, and the hashes of what it holds."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from meshtui.hub.errors import BrokenDownload
from meshtui.hub.model_files import HubFile

BLOCK_BYTES = 1 << 20


class PartFile:
    """What has come of `file`, at `path`; what an earlier attempt left there is hashed, not
    fetched again. Its methods block.

    A cancelled transfer may leave a `write` running in its thread while it closes the part: a
    lock keeps them apart.
    """

    def __init__(
        self, path: Path, file: HubFile, on_hashed: Callable[[int], None] = lambda size_bytes: None
    ) -> None:
        """`on_hashed` hears how much of what is there was hashed, and ends it by raising. Raises
        `OSError`."""
        self._path = path
        self._file = file
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: BinaryIO = path.open("r+b" if path.exists() else "w+b")
        try:
            self._begin()
            if os.fstat(self._stream.fileno()).st_size > file.size_bytes:
                self._stream.truncate(0)
            while block := self._stream.read(BLOCK_BYTES):
                self._take(block)
                on_hashed(self.size_bytes)
        except BaseException:
            self._stream.close()
            raise

    def _begin(self) -> None:
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % self._file.size_bytes, usedforsecurity=False)

    def _take(self, block: bytes) -> None:
        self.size_bytes += len(block)
        self._sha256.update(block)
        if self._file.git_sha1:
            self._git.update(block)

    @property
    def is_complete(self) -> bool:
        return self.size_bytes >= self._file.size_bytes

    def write(self, block: bytes) -> None:
        """Raises `BrokenDownload` where more comes than was promised."""
        with self._lock:
            if self._stream.closed:
                return
            if self.size_bytes + len(block) > self._file.size_bytes:
                raise BrokenDownload(f"{self._file.path} is longer than the Hub said.")
            self._stream.write(block)
            # So that it outlives this process, however that ends.
            self._stream.flush()
            self._take(block)

    def restart(self) -> None:
        """Forgets what has come."""
        self._stream.seek(0)
        self._stream.truncate(0)
        self._begin()

    def finish(self) -> str:
        """The SHA-256, with everything on disk; raises `BrokenDownload`."""
        wanted = self._file.sha256 or self._file.git_sha1
        found = self._sha256.hexdigest() if self._file.sha256 else self._git.hexdigest()
        if wanted and wanted != found:
            raise BrokenDownload(
                f"{self._file.path} arrived damaged: its hash is not the one the Hub gives.",
                hint="Try again; if it stays, a proxy or mirror on the way changes files.",
            )
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return self._sha256.hexdigest()

    def close(self) -> None:
        with self._lock:
            self._stream.close()

    def place(self, target: Path) -> None:
        """Moves it to where the finished file belongs."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._path.replace(target)

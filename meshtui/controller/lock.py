"""One controller a user: a lock that the kernel lets go of, however its holder ends."""

import fcntl
import os
from pathlib import Path
from typing import Self

import msgspec

from meshtui.settings.paths import state_dir


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock, as written in its file."""

    pid: int
    socket: str


class ControllerLock:
    """Held while the process lives. It stands in the state folder, because that is what must not
    have two owners; it tells where the holder listens, because a login without a runtime folder
    looks for the socket in another place than one with it."""

    def __init__(self) -> None:
        self._path = state_dir() / "controller.lock"
        self._handle: int | None = None

    def acquire(self, socket: Path) -> Self | None:
        """The lock, or None if another process holds it. Raises `OSError`."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        self._handle = handle
        os.ftruncate(handle, 0)
        os.pwrite(handle, msgspec.json.encode(Holder(os.getpid(), str(socket))), 0)
        return self

    def holder(self) -> Holder | None:
        """Who holds it; None while that is being written."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Holder)
        except (OSError, msgspec.MsgspecError):
            return None

    def live_holder(self) -> Holder | None:
        """Who holds it now: its file alone may tell of one that is dead. None where nobody does."""
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self.holder()
        finally:
            os.close(handle)
        return None

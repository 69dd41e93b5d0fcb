"""The Unix socket that the controller listens on."""

import asyncio
import contextlib
import logging
import os
import socket
import stat
from pathlib import Path

from aiohttp import web

from meshtui.domain.errors import Conflict, Unavailable

_LOGGER = logging.getLogger(__name__)
_BACKLOG = 128
_LOOK_EVERY_S = 2.0


class Listener:
    """Listens on `path`, and again when the socket was taken away under it: some systems empty a
    user's runtime folder at the end of a login while the processes go on."""

    def __init__(self, runner: web.AppRunner, path: Path) -> None:
        self._runner = runner
        self._path = path
        self._site: web.SockSite | None = None
        self._inode: int | None = None
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises `Conflict` where somebody answers on the socket, `Unavailable` where it cannot be
        made. A socket that a dead controller left is replaced. Call it with the lock held."""
        await self._listen()
        self._watch = asyncio.create_task(self._stay(), name="socket")

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        if self._inode is not None and self._inode == _inode(self._path):
            with contextlib.suppress(OSError):
                self._path.unlink()

    async def _listen(self) -> None:
        if await asyncio.to_thread(_answers, self._path):
            raise Conflict(f"Another program answers on {self._path}.")
        try:
            sock = await asyncio.to_thread(_bound, self._path)
        except OSError as error:
            raise Unavailable(
                f"Cannot listen on {self._path}: {error.strerror or error}.",
                hint="Set XDG_RUNTIME_DIR to a folder of your own with a short name.",
            ) from None
        site = web.SockSite(self._runner, sock, backlog=_BACKLOG)
        await site.start()
        before, self._site = self._site, site
        self._inode = _inode(self._path)
        if before is not None:
            await before.stop()

    async def _stay(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if _inode(self._path) != self._inode:
                _LOGGER.warning("the socket %s is gone: listening anew", self._path)
                try:
                    self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    await self._listen()
                except (OSError, Conflict, Unavailable) as error:
                    _LOGGER.warning("%s", error)


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _bound(path: Path) -> socket.socket:
    """A socket bound to `path`, mode 0600 from the first moment: bound under another name, and
    renamed when it is private."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(17, "a file that is no socket stands there")
    sock = socket.socket(socket.AF_UNIX)
    fresh = path.with_name(f".{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        sock.bind(str(fresh))
        fresh.chmod(0o600)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        fresh.replace(path)
    except BaseException:
        sock.close()
        raise
    return sock

"""Where transfers are remembered between controllers: one small JSON file."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from meshtui.cache.files import write_atomically
from meshtui.controller.transfer_requests import Request
from meshtui.domain.model_cache import Transfer

_LOGGER = logging.getLogger(__name__)


class SavedTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, and how far it came."""

    request: Request
    transfer: Transfer


class TransfersFile:
    """The file at `path`. Where it cannot be written, transfers work all the same; only the next
    controller will not know of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: Sequence[SavedTransfer] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def read(self) -> list[SavedTransfer]:
        return await asyncio.to_thread(self._read)

    async def write(self, transfers: Sequence[SavedTransfer]) -> None:
        """Returns when these, or newer ones, are on disk. Whoever comes while another writes
        shares the next write with all who wait. Cancelling ends the waiting, not the write: two
        writes at once might leave the older state."""
        self._waiting = transfers
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="transfers file")
        await asyncio.shield(self._writer)

    async def close(self) -> None:
        if self._writer is not None:
            await asyncio.wait([self._writer])

    async def _write_all(self) -> None:
        while self._waiting is not None:
            newest, self._waiting = self._waiting, None
            await asyncio.to_thread(self._write, newest)

    def _read(self) -> list[SavedTransfer]:
        try:
            saved = msgspec.json.decode(self._path.read_bytes(), type=list[msgspec.Raw])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            _LOGGER.warning("%s cannot be read: %s", self._path, error)
            return []
        found = []
        for one in saved:
            try:
                found.append(msgspec.json.decode(one, type=SavedTransfer))
            except msgspec.MsgspecError as error:
                _LOGGER.warning("a transfer in %s cannot be read: %s", self._path, error)
        return found

    def _write(self, transfers: Sequence[SavedTransfer]) -> None:
        try:
            write_atomically(self._path, msgspec.json.encode(transfers), mode=0o600)
        except OSError as error:
            _LOGGER.warning("%s cannot be written: %s", self._path, error)

"""What goes on with the model cache: queued, watched, cancelled, and remembered over restarts."""

import asyncio
import builtins
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from meshtui.controller.explain import internal_error
from meshtui.controller.transfer_item import Item, Perform, again, taken_up
from meshtui.controller.transfer_queue import TransferQueue
from meshtui.controller.transfer_requests import DownloadRequest, Request
from meshtui.controller.transfers_file import SavedTransfer, TransfersFile
from meshtui.domain.errors import (
    Conflict,
    ErrorInfo,
    MeshtuiError,
    NotFound,
    Unavailable,
    error_from_info,
)
from meshtui.domain.model_cache import Transfer, TransferState
from meshtui.domain.text import one_line

_LOGGER = logging.getLogger(__name__)
# Whoever watches hears something every tenth of a second, late timers included.
TELL_EVERY_S = 0.08
# What is not waited for is written down so often.
_SAVE_EVERY_S = 1.0


class Transfers:
    """All transfers. `perform` does one; `changed` and `removed` tell of them; `ended` hears of
    each that is over. `file` remembers them: with the next controller, downloads that were not
    over go on, and everything else that was not over has failed."""

    def __init__(
        self,
        file: Path,
        *,
        perform: Perform,
        changed: Callable[[Transfer], None],
        removed: Callable[[str], None],
        ended: Callable[[Transfer], None] = lambda transfer: None,
    ) -> None:
        self._file = TransfersFile(file)
        self._perform = perform
        self._changed = changed
        self._removed = removed
        self._ended = ended
        self._queue = TransferQueue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tickers: list[asyncio.Task[None]] = []
        self._unsaved = False
        self._closing = False

    # -- opening and closing

    async def open(self) -> None:
        for saved in await self._file.read():
            transfer = saved.transfer
            if not transfer.state.is_over:
                transfer = taken_up(transfer)
            item = Item(saved.request, transfer, wanted=True)
            self._queue.add(item)
            if transfer.state.is_over:
                item.over.set()
        self._tickers = [
            asyncio.create_task(self._tell(), name="transfers"),
            asyncio.create_task(self._keep(), name="transfers to disk"),
        ]
        self._pump()
        await self._save()

    async def close(self) -> None:
        """Ends what runs. What is remembered is that it ran."""
        self._closing = True
        for ticker in self._tickers:
            ticker.cancel()
        for item in self._queue.running:
            _cancel(item)
        await asyncio.gather(*self._tickers, *self._tasks, return_exceptions=True)
        if self._unsaved:
            await self._save()
        await self._file.close()

    # -- asking

    def list(self) -> builtins.list[Transfer]:
        """Oldest first."""
        return [item.read() for item in self._queue]

    def get(self, transfer_id: str) -> Transfer:
        """Raises `NotFound`."""
        return self._item(transfer_id).read()

    def request(self, transfer_id: str) -> Request:
        """What was asked for; raises `NotFound`."""
        return self._item(transfer_id).request

    @property
    def live(self) -> builtins.list[Transfer]:
        """Those that wait or run."""
        return [item.read() for item in self._queue.live]

    # -- doing

    async def submit(self, request: Request) -> Transfer:
        """Queues it, and gives its transfer, or that of the same thing that is under way. When
        this returns, a download is remembered; everything else would not go on anyway."""
        item = self._queue.same(request)
        if item is None:
            item = self._add(request, wanted=True)
            self._pump()
        else:
            item.wanted = True
        await self._remember(item)
        return item.read()

    async def join(self, request: DownloadRequest, on_change: Callable[[Transfer], None]) -> None:
        """Returns when the download is done; raises what it fails with. It does not wait in the
        queue: a server waits for it. When the last who joined is cancelled, so is a download
        that nobody else asked for."""
        item = self._queue.same(request)
        if item is None:
            item = self._add(request, wanted=False)
        if item.transfer.state is TransferState.QUEUED:
            self._begin(item)
        item.joined.append(on_change)
        on_change(item.read())
        try:
            await self._save()
            await item.over.wait()
        finally:
            item.joined.remove(on_change)
            unwanted = not item.wanted and not item.joined and not item.over.is_set()
            if unwanted and not self._closing:
                await self._end(item)
        if item.transfer.error is not None:
            raise error_from_info(item.transfer.error)
        if item.transfer.state is not TransferState.DONE:
            raise Unavailable(
                f"The download of {request.model} was cancelled.", hint="Start it again."
            )

    async def cancel(self, transfer_id: str) -> Transfer:
        """Returns when it is over. Raises `Conflict` where it was over before."""
        item = self._item(transfer_id)
        if item.is_over:
            raise Conflict(f"This {item.transfer.kind} is over already.")
        await self._end(item)
        return item.read()

    async def retry(self, transfer_id: str) -> Transfer:
        """Queues one again that failed or was cancelled."""
        item = self._item(transfer_id)
        if not item.is_over:
            return item.read()
        if item.transfer.state is TransferState.DONE:
            raise Conflict(f"This {item.transfer.kind} is done: there is nothing to repeat.")
        if other := self._queue.same(item.request):
            return other.read()
        fresh = Item(item.request, again(item.transfer), wanted=True)
        self._queue.add(fresh)
        self._changed(fresh.transfer)
        self._pump()
        await self._remember(fresh)
        return fresh.read()

    async def remove(self, transfer_id: str) -> None:
        item = self._item(transfer_id)
        if not item.is_over:
            raise Conflict(f"This {item.transfer.kind} is not over.", hint="Cancel it first.")
        self._forget(transfer_id)
        await self._save()

    # -- inside

    def _item(self, transfer_id: str) -> Item:
        item = self._queue.get(transfer_id)
        if item is None:
            raise NotFound(f"There is no transfer {transfer_id!r}.")
        return item

    def _add(self, request: Request, *, wanted: bool) -> Item:
        transfer = Transfer(
            id=secrets.token_hex(4),
            kind=request.kind,
            state=TransferState.QUEUED,
            model=request.named,
            place=request.place,
            created_at=time.time(),
        )
        item = Item(request, transfer, wanted=wanted)
        self._queue.add(item)
        self._changed(transfer)
        return item

    def _pump(self) -> None:
        """Begins those whose turn it is."""
        while item := self._queue.next():
            self._begin(item)

    def _begin(self, item: Item) -> None:
        self._queue.begun(item)
        self._set(item, state=TransferState.RUNNING, started_at=time.time(), error=None)
        item.task = asyncio.create_task(self._run(item), name=f"transfer {item.transfer.id}")
        self._tasks.add(item.task)

        def over(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not item.is_over and not self._closing:
                # Cancelled before its first turn.
                self._finish(item, TransferState.CANCELLED)

        item.task.add_done_callback(over)

    async def _run(self, item: Item) -> None:
        try:
            outcome = await self._perform(item.request, item.gauge)
        except asyncio.CancelledError:
            if self._closing:
                raise
            self._finish(item, TransferState.CANCELLED)
        except MeshtuiError as error:
            self._finish(item, TransferState.FAILED, error=_told(error.info()))
        except Exception as error:
            _LOGGER.exception("the transfer %s failed", item.transfer.id)
            self._finish(item, TransferState.FAILED, error=internal_error(error))
        else:
            model = outcome.model or item.transfer.model
            self._finish(item, TransferState.DONE, model=model, findings=outcome.findings)
        await self._remember(item)

    async def _end(self, item: Item) -> None:
        if item.task is None:
            self._finish(item, TransferState.CANCELLED)
            await self._remember(item)
            return
        _cancel(item)
        await item.over.wait()

    def _finish(self, item: Item, state: TransferState, **changes: object) -> None:
        """The last event holds the last count, so nobody is left at 99 %."""
        item.transfer = item.read()
        item.task = None
        self._set(item, state=state, ended_at=time.time(), rate_bytes_s=0.0, **changes)
        item.over.set()
        self._ended(item.transfer)
        for old in self._queue.ended(item):
            self._forget(old)
        if not self._closing:
            self._pump()

    def _forget(self, transfer_id: str) -> None:
        self._queue.remove(transfer_id)
        self._removed(transfer_id)

    def _set(self, item: Item, **changes: object) -> None:
        item.transfer = msgspec.structs.replace(item.transfer, **changes)
        self._show(item)

    def _show(self, item: Item) -> None:
        self._changed(item.transfer)
        for on_change in tuple(item.joined):
            on_change(item.transfer)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            for item in self._queue.running:
                now = item.read()
                if now != item.transfer:
                    item.transfer = now
                    self._show(item)

    async def _remember(self, item: Item) -> None:
        """Of thousands of checks, each would write down all others."""
        if item.is_download:
            await self._save()
        else:
            self._unsaved = True

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY_S)
            if self._unsaved:
                await self._save()

    async def _save(self) -> None:
        self._unsaved = False
        await self._file.write(
            [SavedTransfer(request=item.request, transfer=item.transfer) for item in self._queue]
        )


def _cancel(item: Item) -> None:
    """Once: a second time would break off the cleaning up."""
    if item.task is not None and not item.task.cancelling():
        item.task.cancel()


def _told(info: ErrorInfo) -> ErrorInfo:
    hint = None if info.hint is None else one_line(info.hint, 2000)
    return ErrorInfo(code=info.code, message=one_line(info.message, 2000), hint=hint)

"""The model cache as the controller runs it: what is asked of it, planned and done."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from meshtui.cache.build import plan_build
from meshtui.cache.details import details
from meshtui.cache.fetch import plan_download, usable
from meshtui.cache.hub_cache import plan_adopt, scan
from meshtui.cache.index import CacheIndex
from meshtui.cache.store import ModelStore, current_user
from meshtui.cache.work import Work
from meshtui.controller.cache_entries import Entries
from meshtui.controller.cache_removal import Removal
from meshtui.controller.cache_steps import DOWNLOADING, Steps
from meshtui.controller.threads import Threads
from meshtui.controller.transfer_queue import ON_DISK_AT_ONCE
from meshtui.controller.transfer_requests import DownloadRequest, Request
from meshtui.controller.transfers import Transfers
from meshtui.deploy.install_progress import format_bytes
from meshtui.domain.connection import Connection
from meshtui.domain.controller import ControllerEvent, TransferChanged, TransferRemoved
from meshtui.domain.errors import Conflict
from meshtui.domain.model_cache import (
    BuildPlan,
    BuildWishes,
    CacheDetails,
    DownloadPlan,
    ExportPlan,
    ExportWishes,
    HubCacheRepo,
    ImportPlan,
    Transfer,
)
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.server import ServerStatus
from meshtui.settings.config import UsersConfig
from meshtui.settings.downloads import check_download, connection_for

# Plans read lists of archives and folders; more of them at once would only wait for the disk.
_PLANS_AT_ONCE = 4


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache needs to know of the rest of the controller, as it is now."""

    connections: Callable[[], Mapping[str, Connection]]
    users: Callable[[], UsersConfig]
    servers: Callable[[], list[ServerStatus]]
    verdict: Callable[[str], Awaitable[str]]
    publish: Callable[[ControllerEvent], None]
    is_heard: Callable[[], bool]


class ModelCache:
    """Everything that the routes of the cache need."""

    def __init__(
        self, store: ModelStore, transfers_file: Path, index_file: Path, around: Around
    ) -> None:
        self._store = store
        self._around = around
        self._threads = Threads(ON_DISK_AT_ONCE + _PLANS_AT_ONCE)
        self._index = CacheIndex(store, index_file)
        self._steps = Steps(store, self._index, self._threads, around.connections)
        self.entries = Entries(
            store,
            self._index,
            connections=around.connections,
            servers=around.servers,
            publish=around.publish,
            is_heard=around.is_heard,
        )
        self.transfers = Transfers(
            transfers_file,
            perform=self._steps.perform,
            changed=lambda transfer: around.publish(TransferChanged(transfer)),
            removed=lambda transfer_id: around.publish(TransferRemoved(transfer_id)),
            ended=lambda transfer: self.entries.look_soon(),
        )
        self.removal = Removal(store, self._threads, self.entries, self.transfers)

    async def open(self) -> None:
        await self.transfers.open()
        self.entries.open()

    async def close(self) -> None:
        """Ends transfers: downloads go on with the next controller."""
        await self.transfers.close()
        await self.entries.close()
        await asyncio.to_thread(self._threads.close)

    async def details(self, model: str) -> CacheDetails:
        """Raises `NotFound`."""
        ref = ModelRef.parse(model)
        found = await asyncio.to_thread(details, self._store, ref, self._index)
        entry = self.entries.with_users(found.entry)
        said = await self._around.verdict(entry.model)
        return msgspec.structs.replace(found, entry=entry, verdict=said)

    # -- plans

    async def plan_download(self, model: str, connection: str | None) -> DownloadPlan:
        self._check(model, connection)
        reach = await self._steps.reach(model, connection)
        return await plan_download(ModelRef.parse(model), self._store, reach)

    async def plan_import(self, path: Path) -> list[ImportPlan]:
        """Of the archive or entry's folder at `path`, or of each of those in it."""
        work = Work()

        def plan() -> list[ImportPlan]:
            # The libraries of archives are loaded at the first need.
            from meshtui.cache.archive.importing import find_importable
            from meshtui.cache.archive.reading import plan_import

            several = find_importable(path) if path.is_dir() else []
            return [plan_import(one, self._store, work) for one in several or [path]]

        return await self._threads.run(work, plan)

    async def plan_build(self, path: Path, wishes: BuildWishes) -> BuildPlan:
        work = Work()
        step = functools.partial(plan_build, path, self._store, wishes, work)
        return await self._threads.run(work, step)

    async def plan_export(self, model: str, wishes: ExportWishes) -> ExportPlan:
        def plan() -> ExportPlan:
            from meshtui.cache.archive.exporting import plan_export

            return plan_export(ModelRef.parse(model), self._store, wishes)

        return await asyncio.to_thread(plan)

    async def hub_cache(self, root: Path | None) -> list[HubCacheRepo]:
        return await asyncio.to_thread(lambda: plan_adopt(self._store, scan(root)))

    # -- doing

    async def submit(self, request: Request) -> Transfer:
        """Raises `NotAllowed` for a download that this person may not make, `NotFound` for one
        through a connection that there is not, and `Conflict` where the model is there already."""
        if isinstance(request, DownloadRequest):
            self._check(request.model, request.connection)
            connection_for(self._around.connections(), request.model, request.connection)
            await self._refuse_existing(request)
        return await self.transfers.submit(request)

    async def _refuse_existing(self, request: DownloadRequest) -> None:
        ref = ModelRef.parse(request.model)
        if request.replace or any(t.model == request.model for t in self.transfers.live):
            return
        if await asyncio.to_thread(usable, self._store, ref) is not None:
            raise Conflict(
                f"{ref} is in the model cache already.",
                hint="Verify it, or fetch it anew and replace it.",
            )

    async def join_download(
        self,
        ref: ModelRef,
        connection: Connection,
        on_progress: Callable[[float | None, str], None],
    ) -> None:
        """Returns when the model has come from the Hub; one that is under way is joined."""
        request = DownloadRequest(model=str(ref), connection=connection.name)
        await self.transfers.join(request, lambda now: on_progress(now.fraction, _message(now)))

    async def retry(self, transfer_id: str) -> Transfer:
        request = self.transfers.request(transfer_id)
        if isinstance(request, DownloadRequest):
            self._check(request.model, request.connection)
        return await self.transfers.retry(transfer_id)

    def _check(self, model: str, connection: str | None) -> None:
        check_download(
            current_user(),
            model,
            connection,
            users=self._around.users(),
            connections=self._around.connections().values(),
        )


def _message(transfer: Transfer) -> str:
    """How far it is, in words for who waits for a server."""
    if transfer.total_bytes is None or transfer.step != DOWNLOADING:
        return transfer.step
    done, total = format_bytes(transfer.done_bytes), format_bytes(transfer.total_bytes)
    said = f"{done} of {total} at {format_bytes(transfer.rate_bytes_s)}/s"
    if not transfer.left_s:
        return said
    minutes, seconds = divmod(round(transfer.left_s), 60)
    return f"{said}, {minutes}:{seconds:02} left"

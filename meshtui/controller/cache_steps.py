"""Does what a transfer was asked to do, with the libraries of the cache and the Hub."""

import asyncio
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from meshtui.cache.adopting import adopt
from meshtui.cache.build import build_entry
from meshtui.cache.fetch import fetch
from meshtui.cache.hub_cache import snapshot
from meshtui.cache.index import CacheIndex
from meshtui.cache.store import ModelStore
from meshtui.cache.verify import verify
from meshtui.controller.gauge import Gauge, Reading
from meshtui.controller.threads import Threads
from meshtui.controller.transfer_item import Outcome
from meshtui.controller.transfer_requests import (
    AdoptRequest,
    BuildRequest,
    DownloadRequest,
    ExportRequest,
    ImportRequest,
    Request,
    VerifyRequest,
)
from meshtui.domain.connection import Connection
from meshtui.domain.finding import Finding
from meshtui.domain.model_cache import Verification
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.meter import DownloadProgress
from meshtui.hub.model_files import HubFile, look_up
from meshtui.hub.reach import Reach, reach_of
from meshtui.settings.downloads import connection_for

DOWNLOADING = "Downloading"


class Steps:
    """`perform` of the queue of transfers."""

    def __init__(
        self,
        store: ModelStore,
        index: CacheIndex,
        threads: Threads,
        connections: Callable[[], Mapping[str, Connection]],
    ) -> None:
        self._store = store
        self._index = index
        self._threads = threads
        self._connections = connections

    async def perform(self, request: Request, gauge: Gauge) -> Outcome:
        match request:
            case DownloadRequest():
                return await self._download(request, gauge)
            case ImportRequest():
                return await self._import(request, gauge)
            case BuildRequest():
                return await self._build(request, gauge)
            case AdoptRequest():
                return await self._adopt(request, gauge)
            case ExportRequest():
                return await self._export(request, gauge)
            case VerifyRequest():
                return await self._verify(request, gauge)

    async def reach(self, model: str, connection: str | None) -> Reach:
        """How the Hub is asked for a model: as the named connection says, else as the first one
        that enables the model, else as the environment does."""
        return await asyncio.to_thread(
            reach_of, connection_for(self._connections(), model, connection)
        )

    async def _download(self, request: DownloadRequest, gauge: Gauge) -> Outcome:
        def show(progress: DownloadProgress) -> None:
            gauge.show(
                Reading(
                    step=progress.note or DOWNLOADING,
                    done_bytes=progress.done_bytes,
                    total_bytes=progress.total_bytes,
                    rate_bytes_s=progress.rate_bytes_s,
                )
            )

        gauge.show(Reading(step="Asking the Hub"))
        reach = await self.reach(request.model, request.connection)
        ref = ModelRef.parse(request.model)
        await fetch(
            ref,
            self._store,
            reach,
            files=request.files,
            replace=request.replace,
            on_progress=show,
            on_wait=lambda: gauge.show(Reading(step="Waiting for another process")),
        )
        return Outcome(model=request.model)

    async def _import(self, request: ImportRequest, gauge: Gauge) -> Outcome:
        def step() -> tuple[ModelRef, tuple[Finding, ...]]:
            # The libraries of archives are loaded at the first need.
            from meshtui.cache.archive.importing import import_model

            path = Path(request.path)
            return import_model(path, self._store, gauge.work, replace=request.replace)

        ref, findings = await self._threads.run(gauge.work, step)
        return Outcome(model=str(ref), findings=findings)

    async def _build(self, request: BuildRequest, gauge: Gauge) -> Outcome:
        step = functools.partial(
            build_entry,
            Path(request.path),
            self._store,
            request.wishes,
            gauge.work,
            replace=request.replace,
        )
        return Outcome(model=str(await self._threads.run(gauge.work, step)))

    async def _adopt(self, request: AdoptRequest, gauge: Gauge) -> Outcome:
        def step() -> ModelRef:
            repo = snapshot(Path(request.folder))
            gauge.model = repo.model
            return adopt(
                repo,
                self._store,
                gauge.work,
                replace=request.replace,
                allow_copy=request.allow_copy,
            )

        return Outcome(model=str(await self._threads.run(gauge.work, step)))

    async def _export(self, request: ExportRequest, gauge: Gauge) -> Outcome:
        def step() -> None:
            from meshtui.cache.archive.exporting import export_model

            ref = ModelRef.parse(request.model)
            export_model(ref, self._store, request.wishes, gauge.work)

        await self._threads.run(gauge.work, step)
        # What is to be known of it was said by the plan.
        return Outcome(model=request.model)

    async def _verify(self, request: VerifyRequest, gauge: Gauge) -> Outcome:
        ref = ModelRef.parse(request.model)
        hub: dict[str, HubFile] | None = None
        if request.against_hub:
            gauge.show(Reading(step="Asking the Hub"))
            entry = await asyncio.to_thread(self._store.get, ref)
            reach = await self.reach(request.model, request.connection)
            revision = entry.metadata.commit_hash or ref.revision
            known = await look_up(ModelRef(ref.model_id, revision), reach)
            hub = {file.path: file for file in known.files}
            gauge.show(None)

        def step() -> Verification:
            found = verify(ref, self._store, gauge.work, hub=hub)
            # It is kept with an entry that the index knows.
            self._index.get(ref)
            self._index.note_verification(ref, found)
            return found

        found = await self._threads.run(gauge.work, step)
        return Outcome(model=request.model, findings=found.findings)

"""Wires the parts together: who tells whom, and in which order they open and close."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp
import msgspec

import meshtui
from meshtui.cache.store import ModelStore
from meshtui.controller.before_start import BeforeStart
from meshtui.controller.cache import Around as AroundCache
from meshtui.controller.cache import ModelCache
from meshtui.controller.catalogue import Catalogue
from meshtui.controller.checks import Around, Checks
from meshtui.controller.editing import Editing
from meshtui.controller.endpoint import Endpoint
from meshtui.controller.events import EventHub
from meshtui.controller.gateway import Gateway
from meshtui.controller.images import Images
from meshtui.controller.model_search import ModelSearch
from meshtui.controller.notices import Notices
from meshtui.controller.parts import MakeManagers, Runtimes, Servers
from meshtui.controller.pooling import Pooling
from meshtui.controller.runs import Runs
from meshtui.domain.connection import Connection
from meshtui.domain.controller import (
    ConnectionsChanged,
    ControllerInfo,
    EndpointChanged,
    EndpointStatus,
    ModelOption,
    Overview,
    RunRecorded,
    RuntimeChanged,
    ServerChanged,
    ServerRemoved,
)
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.generation import Run
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import BuildPhase, RuntimeStatus
from meshtui.domain.server import Explanation, Phase, ServerStatus
from meshtui.settings.store import Settings
from meshtui.studio.history import History

_LOGGER = logging.getLogger(__name__)
_LOOK_AT_SETTINGS_EVERY_S = 2.0
# How long a server that broke off an answer may take to say that it died, and of what.
_LAST_WORDS_TIMEOUT_S = 3.0


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where this controller listens and keeps its state."""

    socket: Path
    log: Path
    history: Path
    endpoint: Path
    models: Path
    transfers: Path
    cache_index: Path


class Core:
    """Everything that the routes need. Attributes are the parts; methods put views of them
    together."""

    def __init__(self, places: Places, settings: Settings, make_managers: MakeManagers) -> None:
        self._places = places
        self.settings = settings
        self._started_at = time.time()
        self._session: aiohttp.ClientSession | None = None
        self._watch: asyncio.Task[None] | None = None
        self.stopping = asyncio.Event()
        self.hub = EventHub(self.overview)
        self.notices = Notices()
        managers = make_managers(settings, self)
        self._shelf = managers.models
        self.servers: Servers = managers.servers
        self.runtimes: Runtimes = managers.runtimes
        self.catalogue = Catalogue(lambda: self.connections, lambda: settings.broken)
        self.checks = Checks(
            ModelStore(places.models),
            Around(
                connections=lambda: self.connections,
                runtimes=lambda: self.runtimes.list(),
                definitions=lambda: settings.runtime_definitions,
                executions=lambda: settings.executions.objects,
                machine=managers.machine,
            ),
        )
        self.before_start = BeforeStart(self.catalogue, self.servers, self.checks)
        self.search = ModelSearch(lambda: self.connections)
        self.editing = Editing(
            settings,
            servers=lambda: self.servers.list(),
            changed=self._settings_changed,
        )
        self.cache = ModelCache(
            ModelStore(places.models),
            places.transfers,
            places.cache_index,
            AroundCache(
                connections=lambda: self.connections,
                users=lambda: settings.config.users,
                servers=lambda: self.servers.list(),
                verdict=self.checks.where,
                publish=self.hub.publish,
                is_heard=lambda: self.hub.is_heard,
            ),
        )
        self.history = History(places.history, self.notices.add, self.notices.remove)
        self.runs = Runs(
            catalogue=self.catalogue,
            servers=self.servers,
            history=self.history,
            session=self.session,
            recorded=self._run_recorded,
            crash_explanation=self._last_words,
        )
        self.images = Images(catalogue=self.catalogue, servers=self.servers, session=self.session)
        self.pooling = Pooling(
            catalogue=self.catalogue,
            servers=self.servers,
            session=self.session,
            crash_explanation=self._last_words,
        )
        self.gateway = Gateway(
            catalogue=self.catalogue,
            servers=self.servers,
            session=self.session,
            started_at=self._started_at,
        )
        self.endpoint = Endpoint(
            places.endpoint,
            config=lambda: settings.config.endpoint,
            add_routes=self.gateway.add_routes,
            changed=self._endpoint_changed,
        )

    async def open(self) -> None:
        await asyncio.to_thread(self.settings.refresh)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        await self.history.open()
        await self._shelf.open()
        await self.cache.open()
        await self.runtimes.open()
        await self.servers.open()
        try:
            await self.endpoint.open()
        except MeshtuiError as error:
            self.notices.add(f"The endpoint for programs is off. {error}")
        self.notices.changed = lambda: self.hub.publish(self.overview())
        self._watch = asyncio.create_task(self._watch_settings(), name="settings")

    async def end_streams(self) -> None:
        """Lets every listener and every prompt know that this is the end."""
        self.hub.close()
        await self.runs.close()

    async def close(self) -> None:
        """Ends what runs here; servers live on. Nobody may be asking any more."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await self.endpoint.close()
        await self.checks.close()
        await self.servers.close()
        await self._shelf.close()
        await self.cache.close()
        await self.runtimes.close()
        await self.history.close()
        if self._session is not None:
            await self._session.close()

    def stop(self) -> None:
        """Asks the process to end."""
        self.stopping.set()

    def session(self) -> aiohttp.ClientSession:
        """The session to engines."""
        assert self._session is not None, "open() first"
        return self._session

    @property
    def connections(self) -> Mapping[str, Connection]:
        return self.settings.connections.all

    def models(self) -> list[ModelOption]:
        return [
            ModelOption(
                connection=choice.connection.name,
                enabled=choice.enabled,
                server=self.servers.find(choice.connection.name, choice.enabled.model),
            )
            for choice in self.catalogue.all()
        ]

    def info(self) -> ControllerInfo:
        return ControllerInfo(
            version=meshtui.__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            socket=str(self._places.socket),
            log=str(self._places.log),
            memory_bytes=_resident_bytes(),
            busy=tuple(self._busy()),
            notices=self.notices.all,
            locked=self.settings.locked,
        )

    def _busy(self) -> list[str]:
        busy = []
        streams = sum(part.active for part in (self.runs, self.gateway, self.pooling, self.images))
        if streams:
            busy.append("1 answer is streaming" if streams == 1 else f"{streams} answers stream")
        for runtime in self.runtimes.list():
            if runtime.phase is BuildPhase.BUILDING:
                busy.append(f"the runtime {runtime.name} is being built")
        for server in self.servers.list():
            if server.phase in (Phase.QUEUED, Phase.FETCHING_MODEL):
                busy.append(f"{server.model} is being fetched")
        for transfer in self.cache.transfers.live:
            about = transfer.model or transfer.place or "a model"
            busy.append(f"the {transfer.kind} of {about} goes on")
        return busy

    def overview(self) -> Overview:
        return Overview(
            controller=self.info(),
            connections=tuple(self.connections.values()),
            broken=self.settings.broken,
            models=tuple(self.models()),
            servers=tuple(self.servers.list()),
            runtimes=tuple(self.runtimes.list()),
            endpoint=self.endpoint.status(),
            transfers=tuple(self.cache.transfers.list()),
            cache=self.cache.entries.usage,
        )

    # What the parts tell

    def server_changed(self, status: ServerStatus) -> None:
        self.hub.publish(ServerChanged(status))
        self.cache.entries.users_changed()
        if status.place is None:  # what a cluster's GPUs hold says nothing of those here
            self.checks.measured.note(status, lambda: self.servers.log_path(status.id))

    def server_removed(self, server_id: str) -> None:
        self.hub.publish(ServerRemoved(server_id))
        self.checks.measured.forget(server_id)
        self.cache.entries.users_changed()

    def runtime_changed(self, status: RuntimeStatus) -> None:
        self.hub.publish(RuntimeChanged(status))

    async def download_model(
        self,
        ref: ModelRef,
        connection: Connection,
        on_progress: Callable[[float | None, str], None],
    ) -> None:
        """For a server that is to start."""
        await self.cache.join_download(ref, connection, on_progress)

    def _run_recorded(self, run: Run) -> None:
        self.hub.publish(RunRecorded(run))

    def _endpoint_changed(self, status: EndpointStatus) -> None:
        self.hub.publish(EndpointChanged(status))

    async def _last_words(self, server_id: str) -> Explanation | None:
        """Why a server died that was answering a moment ago; None if it lives."""
        with contextlib.suppress(TimeoutError, MeshtuiError):
            async with (
                asyncio.timeout(_LAST_WORDS_TIMEOUT_S),
                contextlib.aclosing(self.hub.subscribe(_LAST_WORDS_TIMEOUT_S)) as changes,
            ):
                async for _ in changes:
                    status = self.servers.get(server_id)
                    if status.phase.is_over:
                        return status.explanation
        return None

    def _settings_changed(self) -> None:
        self.hub.publish(
            ConnectionsChanged(
                connections=tuple(self.connections.values()),
                broken=self.settings.broken,
                models=tuple(self.models()),
            )
        )
        self.cache.entries.users_changed()

    async def _watch_settings(self) -> None:
        """Polling costs a handful of `stat` calls every two seconds, works on every file system
        (network folders send no notifications) and cannot miss a change."""
        while True:
            await asyncio.sleep(_LOOK_AT_SETTINGS_EVERY_S)
            try:
                if await asyncio.to_thread(self.settings.refresh):
                    self._settings_changed()
            except Exception:
                _LOGGER.exception("the settings could not be read")


def _resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")

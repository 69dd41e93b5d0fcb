"""The servers of this machine: started once, watched, shared, stopped when idle, adopted again."""

import asyncio
import contextlib
import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import msgspec

from meshtui.deploy.adoption import Adoption, adopt, end_unknown
from meshtui.deploy.life import Life
from meshtui.deploy.local import LOG_NAME
from meshtui.deploy.memory_watch import MemoryWatch
from meshtui.deploy.records import RecordSaver, ServerRecord, load_record
from meshtui.deploy.runtime_types import RuntimeProvider
from meshtui.deploy.server import Server
from meshtui.deploy.starting import ChooseEngine, Explain, ModelProvider, Starter, base_url
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import Conflict, NotFound, Unavailable
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.server import Phase, ServerStatus
from meshtui.domain.task import Engine
from meshtui.engines.base import EngineAdapter, Machine
from meshtui.engines.failures import explain_exit
from meshtui.engines.machine import detect
from meshtui.engines.registry import adapter as shipped_adapter
from meshtui.engines.select import choose_engine as shipped_choice

_MAX_SLUG_CHARS = 40


class ReadyServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server that answers, and how it is asked. `model` is the name that it serves."""

    server_id: str
    base_url: str
    api_key: str
    engine: Engine
    model: str
    model_dir: Path
    context_length: int | None


def server_id(connection: str, model: str) -> str:
    """The server's name: the same for the same model of the same connection, and fit to be a
    name in Kubernetes (RFC 1035 label)."""
    name = re.sub(r"[^a-z0-9]+", "-", ModelRef.parse(model).name.lower())
    slug = name.strip("-")[:_MAX_SLUG_CHARS].strip("-")
    if not slug[:1].isalpha():
        slug = f"m-{slug}".strip("-")
    both = f"{connection}\0{model}".encode()
    return f"{slug}-{hashlib.sha256(both).hexdigest()[:6]}"


class ServerManager:
    """Owns the servers whose folders lie in `servers_dir`. `open` it first, `close` it last."""

    def __init__(
        self,
        *,
        servers_dir: Path,
        runtimes: RuntimeProvider,
        models: ModelProvider,
        on_change: Callable[[ServerStatus], None],
        on_removed: Callable[[str], None],
        adapter: Callable[[Engine], EngineAdapter] = shipped_adapter,
        choose_engine: ChooseEngine = shipped_choice,
        machine: Callable[[], Machine] = detect,
        explain: Explain = explain_exit,
    ) -> None:
        self._folder = servers_dir
        self._on_change = on_change
        self._on_removed = on_removed
        self._explain = explain
        self._starter = Starter(
            runtimes=runtimes,
            models=models,
            adapter=adapter,
            choose_engine=choose_engine,
            machine=machine,
            explain=explain,
        )
        self._lives: dict[str, Life] = {}
        self._saver = RecordSaver()
        self._memory = MemoryWatch(lambda: [life.server for life in self._lives.values()])
        self._session: aiohttp.ClientSession | None = None

    # -- opening and closing

    async def open(self) -> None:
        """Takes over what an earlier controller left: live servers are adopted, starts go on,
        the dead are marked and what is left of them is killed."""
        self._session = aiohttp.ClientSession(trust_env=False)
        found = await asyncio.to_thread(_load_all, self._folder)
        await asyncio.gather(*(self._take_over(*one) for one in found))
        if self._lives:
            self._memory.start()

    async def _take_over(self, folder: Path, record: ServerRecord | None) -> None:
        if record is None:
            await end_unknown(folder)
            return
        life = self._add(folder, record)
        match await adopt(life.server, self._explain):
            case Adoption.STARTING:
                life.take_up(self._starter.resume)
            case Adoption.READY:
                life.take_up(self._starter.recheck)
            case Adoption.STOPPING:
                life.stop()
            case Adoption.OVER:
                pass

    async def close(self) -> None:
        """Cancels what runs here. Servers, also those that are starting, live on."""
        await self._memory.close()
        await asyncio.gather(*(life.close() for life in self._lives.values()))
        await self._saver.flush()
        if self._session is not None:
            await self._session.close()
            self._session = None

    # -- looking

    def list(self) -> "list[ServerStatus]":
        """All servers that were ever started and not removed, by name."""
        return [self._lives[key].server.status for key in sorted(self._lives)]

    def get(self, server_id: str) -> ServerStatus:
        """Raises `NotFound`."""
        return self._life(server_id).server.status

    def find(self, connection: str, model: str) -> ServerStatus | None:
        """The server of an enabled model, if there ever was one."""
        life = self._lives.get(server_id(connection, model))
        return life.server.status if life else None

    def log_path(self, server_id: str) -> Path:
        """The log of its newest start; beside it lies `engine.previous.log`."""
        return self._life(server_id).server.folder / LOG_NAME

    def reading(self, server_id: str) -> AbstractAsyncContextManager[None]:
        """While somebody reads that log, which grows by itself."""
        return contextlib.nullcontext()

    def _life(self, server_id: str) -> Life:
        life = self._lives.get(server_id)
        if life is None:
            raise NotFound(f"There is no server {server_id}.", hint="See `meshtui server list`.")
        return life

    # -- starting and using

    async def start(self, connection: Connection, enabled: EnabledModel) -> ServerStatus:
        """Starts it unless it is alive, and returns at once. One that is still stopping starts
        when that is over."""
        return self._started(connection, enabled).server.status

    async def ready(
        self,
        connection: Connection,
        enabled: EnabledModel,
        on_status: Callable[[ServerStatus], None],
    ) -> ReadyServer:
        """Waits until it answers, starting it where needed. Until then `on_status` gets its
        state, now and whenever it changes. Raises `StartFailed` with an explanation. Cancelling
        this does not stop the server."""
        life = self._started(connection, enabled)
        server = life.server
        if not life.is_ready:
            on_status(server.status)
            unsubscribe = server.subscribe(on_status)
            try:
                await life.wait_ready()
            finally:
                unsubscribe()
        server.touch()  # a whole idle timeout for whoever asked
        assert server.record.engine is not None
        return ReadyServer(
            server_id=server.status.id,
            base_url=base_url(server),
            api_key=server.key,
            engine=server.record.engine,
            model=server.record.enabled.model,
            model_dir=Path(server.record.model_dir),
            context_length=server.status.context_length,
        )

    def _started(self, connection: Connection, enabled: EnabledModel) -> Life:
        """Its life, begun where needed. Nothing is awaited, so two callers share one start."""
        if self._session is None:
            raise Unavailable("The controller is not open.")
        key = server_id(connection.name, enabled.model)
        life = self._lives.get(key)
        if life is None:
            status = ServerStatus(
                id=key,
                model=enabled.model,
                connection=connection.name,
                phase=Phase.QUEUED,
                created_at=time.time(),
            )
            record = ServerRecord(status=status, connection=connection, enabled=enabled)
            life = self._add(self._folder / key, record)
        if not life.is_lived:
            life.start(connection, enabled)
            self._memory.start()
        return life

    def _add(self, folder: Path, record: ServerRecord) -> Life:
        assert self._session is not None
        server = Server(
            folder,
            record,
            saver=self._saver,
            on_change=self._changed,
            on_idle=self._stop_idle,
        )
        life = self._lives[record.status.id] = Life(server, self._starter, self._session)
        return life

    def _changed(self, status: ServerStatus) -> None:
        if status.phase is Phase.READY and status.memory_bytes is None:
            self._memory.start()
        self._on_change(status)

    @contextlib.contextmanager
    def lease(self, server_id: str) -> Iterator[None]:
        """Around a request: counts it, and defers the idle stop while it lasts."""
        server = self._life(server_id).server
        server.acquire()
        try:
            yield
        finally:
            server.release()

    # -- stopping

    async def stop(self, server_id: str) -> ServerStatus:
        """Stops it, or its start, and returns when nothing is left of it."""
        life = self._life(server_id)
        if (stopping := life.stop()) is not None:
            await asyncio.shield(stopping)
        return life.server.status

    async def remove(self, server_id: str) -> None:
        """Forgets a server and its logs; raises `Conflict` unless it is over."""
        life = self._life(server_id)
        if life.is_lived or not life.server.phase.is_over:
            raise Conflict(f"{server_id} is not stopped.", hint="Stop it first.")
        del self._lives[server_id]
        await life.close()
        self._saver.forget(life.server.folder)
        await self._saver.flush()
        await asyncio.to_thread(shutil.rmtree, life.server.folder, ignore_errors=True)
        self._on_removed(server_id)

    def _stop_idle(self, server: Server) -> None:
        minutes = server.record.enabled.idle_timeout_s / 60
        self._lives[server.status.id].stop(f"Nobody used it for {minutes:g} min")


def _load_all(servers_dir: Path) -> "list[tuple[Path, ServerRecord | None]]":
    servers_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folders = sorted(path for path in servers_dir.iterdir() if path.is_dir())
    return [(folder, load_record(folder)) for folder in folders]

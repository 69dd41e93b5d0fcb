"""The servers that this machine started on clusters, and those that others did where we look."""

import asyncio
import builtins
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path

import aiohttp
import msgspec

from meshtui.deploy.kubernetes.api import Json
from meshtui.deploy.kubernetes.client import Spec, delete, is_awake, read_spec
from meshtui.deploy.kubernetes.marks import last_used
from meshtui.deploy.kubernetes.pod_life import PodLife
from meshtui.deploy.kubernetes.pod_start import Deliver, object_name
from meshtui.deploy.kubernetes.spaces import Space, Spaces
from meshtui.deploy.local import LOG_NAME
from meshtui.deploy.records import RecordSaver, ServerRecord, load_record
from meshtui.deploy.server import Server
from meshtui.deploy.servers import ReadyServer, server_id
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import Conflict, NotFound, StartFailed, Unavailable
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.server import Phase, ServerStatus
from meshtui.domain.task import Engine
from meshtui.settings.shipped import toml_data

# How often it is looked whether the settings name another namespace. Only a cluster that did not
# let us look is asked then.
_LOOK_AROUND_S = 60.0
# How long past its grace a pod may take to be gone.
_END_MARGIN_S = 30.0
_ATTEMPTS = 3


class PodManager:
    """As `ServerManager`, for clusters. `connections` and `executions` are those of the settings
    now. `open` it first, `close` it last."""

    def __init__(
        self,
        *,
        pods_dir: Path,
        connections: Callable[[], Mapping[str, Connection]],
        executions: Callable[[], Mapping[str, KubernetesExecution]],
        deliver: Deliver,
        on_change: Callable[[ServerStatus], None],
        on_removed: Callable[[str], None],
    ) -> None:
        self._folder = pods_dir
        self._connections = connections
        self._executions = executions
        self._deliver = deliver
        self._on_change = on_change
        self._on_removed = on_removed
        self._lives: dict[str, PodLife] = {}
        self._retired: list[PodLife] = []
        self._removed: set[str] = set()
        self._forgetting: set[asyncio.Task[None]] = set()
        self._saver = RecordSaver()
        self._spaces = Spaces(changed=self._seen, troubled=self._troubled)
        self._session: aiohttp.ClientSession | None = None
        self._looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begins to look, in the background, at what an earlier controller and others left."""
        self._session = aiohttp.ClientSession(trust_env=False)
        for folder, record in await asyncio.to_thread(_load_all, self._folder):
            if record.pod is not None:
                self._add(folder, record, record.pod.execution).take_up()
        self._looking = asyncio.create_task(self._look_around(), name="clusters")

    async def close(self) -> None:
        """Ends what runs here. Servers, also those that are starting, live on."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        await self._spaces.stop()
        if self._forgetting:
            await asyncio.wait(self._forgetting)
        lives = [*self._lives.values(), *self._retired]
        await asyncio.gather(*(life.close() for life in lives))
        await self._spaces.close()
        await self._saver.flush()
        if self._session is not None:
            await self._session.close()
            self._session = None

    # -- looking

    def list(self) -> builtins.list[ServerStatus]:
        """All servers that are known, by name."""
        return [self._lives[key].server.status for key in sorted(self._lives)]

    def get(self, server_id: str) -> ServerStatus:
        """Raises `NotFound`."""
        return self._life(server_id).server.status

    def find(self, connection: str, model: str) -> ServerStatus | None:
        """The server of an enabled model, if it is known."""
        life = self._lives.get(server_id(connection, model))
        return life.server.status if life else None

    def log_path(self, server_id: str) -> Path:
        """The log of its newest run, which is kept up while somebody is `reading`; beside it lies
        `engine.previous.log`."""
        return self._life(server_id).server.folder / LOG_NAME

    @contextlib.asynccontextmanager
    async def reading(self, server_id: str) -> AsyncIterator[None]:
        """While somebody reads its log."""
        async with self._life(server_id).logs.reading():
            yield

    def _life(self, server_id: str) -> PodLife:
        life = self._lives.get(server_id)
        if life is None:
            raise NotFound(f"There is no server {server_id}.", hint="See `meshtui server list`.")
        return life

    # -- starting and using

    async def start(self, connection: Connection, enabled: EnabledModel) -> ServerStatus:
        """Starts it unless it is alive, and returns at once. Raises `NotFound` where there is no
        such execution config."""
        return self._started(connection, enabled).server.status

    async def ready(
        self,
        connection: Connection,
        enabled: EnabledModel,
        on_status: Callable[[ServerStatus], None],
    ) -> ReadyServer:
        """As `ServerManager.ready`. Raises `ClusterError`, too."""
        for _ in range(_ATTEMPTS):
            life = self._started(connection, enabled)
            server = life.server
            if not life.is_ready:
                on_status(server.status)
                unsubscribe = server.subscribe(on_status)
                try:
                    await life.wait_ready()
                finally:
                    unsubscribe()
            base_url = await self._way_to(life)
            if base_url is None:
                continue
            assert server.record.engine is not None
            return ReadyServer(
                server_id=server.status.id,
                base_url=base_url,
                api_key=server.key,
                engine=server.record.engine,
                model=server.record.enabled.model,
                model_dir=Path(server.record.model_dir),
                context_length=server.status.context_length,
            )
        raise StartFailed(
            "Another controller puts the server to rest again and again.",
            hint="Let both have the same idle timeout for the model.",
        )

    async def _way_to(self, life: PodLife) -> str | None:
        """Where a ready server answers. None: another controller put it to rest just now."""
        assert self._session is not None
        life.server.acquire()  # it does not rest while the way is made; a whole timeout after that
        try:
            found = await life.use.tell()
            if found is not None and not is_awake(found):
                life.was_put_to_rest()
                return None
            return await life.way.open(self._session)
        finally:
            life.server.release()

    def _started(self, connection: Connection, enabled: EnabledModel) -> PodLife:
        """Its life, begun where needed. Nothing is awaited, so two callers share one start."""
        if self._session is None:
            raise Unavailable("The controller is not open.")
        execution = self._execution(connection)
        key = server_id(connection.name, enabled.model)
        life = self._lives.get(key)
        if life is not None and not life.is_lived and life.space is not self._spaces.of(execution):
            self._retired.append(life)  # the settings name another place by now
            life = None
        if life is None:
            status = _new_status(key, connection.name, enabled)
            record = ServerRecord(status=status, connection=connection, enabled=enabled)
            life = self._add(self._folder / key, record, execution)
        self._removed.discard(object_name(key))
        life.start(connection, enabled, execution)
        return life

    def _execution(self, connection: Connection) -> KubernetesExecution:
        found = self._executions().get(connection.execution)
        if found is None:
            raise NotFound(
                f"There is no execution config {connection.execution!r}, which the connection "
                f"{connection.name} names.",
                hint="See the settings of the connection.",
            )
        return found

    def _add(self, folder: Path, record: ServerRecord, execution: KubernetesExecution) -> PodLife:
        server = Server(
            folder,
            record,
            saver=self._saver,
            on_change=self._on_change,
            on_idle=self._stop_idle,
        )
        life = PodLife(server, self._spaces.of(execution), self._deliver)
        self._lives[record.status.id] = life
        return life

    @contextlib.contextmanager
    def lease(self, server_id: str) -> Iterator[None]:
        """Around a request: counts it, and defers the idle stop of all controllers."""
        life = self._life(server_id)
        life.server.acquire()
        life.use.goes_on()
        try:
            yield
        finally:
            life.server.release()

    # -- stopping

    async def stop(self, server_id: str) -> ServerStatus:
        """Puts it to rest, or breaks off its start, and returns when its pod is gone. Its objects
        stay, and cost nothing. Raises `ClusterError`."""
        life = self._life(server_id)
        if (stopping := life.stop()) is not None:
            await asyncio.shield(stopping)
            grace_s = toml_data("kubernetes/defaults.toml")["pod"]["grace_s"]
            await life.over(grace_s + _END_MARGIN_S)
        return life.server.status

    async def remove(self, server_id: str) -> None:
        """Deletes all of it from the cluster but the volume with models, and forgets it. Raises
        `Conflict` unless it is over, and `ClusterError`."""
        life = self._life(server_id)
        if life.is_lived or not life.server.phase.is_over:
            raise Conflict(f"{server_id} is not stopped.", hint="Stop it first.")
        # What the watch still shows of it is not to be found again.
        self._removed.add(life.name)
        try:
            await delete(await life.space.cluster(), life.space.namespace, life.name)
        except BaseException:
            self._removed.discard(life.name)
            raise
        await self._forget(life)

    async def _forget(self, life: PodLife) -> None:
        server_id = life.server.status.id
        if self._lives.get(server_id) is not life:
            return
        del self._lives[server_id]
        await life.close()
        self._saver.forget(life.server.folder)
        await self._saver.flush()
        await asyncio.to_thread(shutil.rmtree, life.server.folder, ignore_errors=True)
        self._on_removed(server_id)

    def _stop_idle(self, server: Server) -> None:
        timeout_s = server.record.enabled.idle_timeout_s

        def is_used(found: Json) -> bool:
            return (last_used(found) or 0.0) + timeout_s > time.time()

        life = self._lives[server.status.id]
        life.stop(f"Nobody used it for {timeout_s / 60:g} min", unless=is_used)

    # -- what the clusters show

    async def _look_around(self) -> None:
        """Watches all namespaces that connections name. One that could not be watched is tried
        again."""
        while True:
            for space in self._wanted():
                space.look()
            await asyncio.sleep(_LOOK_AROUND_S)

    def _wanted(self) -> Iterable[Space]:
        executions = self._executions()
        for connection in self._connections().values():
            if execution := executions.get(connection.execution):
                yield self._spaces.of(execution)
        for life in self._lives.values():
            if life.is_lived:
                yield life.space

    def _seen(self, space: Space, name: str) -> None:
        life = self._life_of(space, name)
        if life is None:
            return
        life.look()
        if self._is_only_seen(life) and space.deployment(name) is None:
            task = asyncio.create_task(self._forget(life), name=f"forget {name}")
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)

    def _is_only_seen(self, life: PodLife) -> bool:
        """Whether it was never ours, and is no more."""
        status = life.server.status
        is_known = self._lives.get(status.id) is life
        return is_known and status.phase.is_over and status.connection not in self._connections()

    def _troubled(self, space: Space) -> None:
        for life in self._lives.values():
            if life.space is space:
                life.troubled()
                life.look()

    def _life_of(self, space: Space, name: str) -> PodLife | None:
        """The life of the objects of that name; a new one where another controller made them."""
        key = name.removeprefix(object_name(""))
        life = self._lives.get(key)
        if life is not None:
            return life if life.space is space else None
        found = space.deployment(name)
        if found is None:
            self._removed.discard(name)
            return None
        spec = read_spec(found)
        if spec is None or name in self._removed:
            return None
        if server_id(spec.connection, spec.enabled.model) != key:
            return None  # a copy of ours under another name, which nobody here could ask for
        return self._adopt(key, space, spec)

    def _adopt(self, key: str, space: Space, spec: Spec) -> PodLife:
        connection = self._connections().get(spec.connection) or Connection(
            name=spec.connection, execution=spec.execution.name, enabled_models=(spec.enabled,)
        )
        record = ServerRecord(
            status=_new_status(key, connection.name, spec.enabled),
            connection=connection,
            enabled=spec.enabled,
            engine=Engine.VLLM,
        )
        # The context is our own: another workstation may have another name for the cluster.
        execution = msgspec.structs.replace(
            spec.execution, context=space.context, namespace=space.namespace
        )
        life = self._add(self._folder / key, record, execution)
        life.adopt(execution)
        return life


def _new_status(key: str, connection: str, enabled: EnabledModel) -> ServerStatus:
    return ServerStatus(
        id=key,
        model=enabled.model,
        connection=connection,
        task=enabled.task,
        phase=Phase.QUEUED,
        created_at=time.time(),
    )


def _load_all(pods_dir: Path) -> list[tuple[Path, ServerRecord]]:
    pods_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folders = sorted(path for path in pods_dir.iterdir() if path.is_dir())
    found = [(folder, load_record(folder)) for folder in folders]
    return [(folder, record) for folder, record in found if record is not None]

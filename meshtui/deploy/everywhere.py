"""All servers, wherever they run: each call goes to whoever runs the connection's models."""

import builtins
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path

from meshtui.deploy.kubernetes.pod_manager import PodManager
from meshtui.deploy.servers import ReadyServer, ServerManager, server_id
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import Conflict, NotFound
from meshtui.domain.execution import LOCAL
from meshtui.domain.server import ServerStatus


class AllServers:
    """Processes of this machine and pods of clusters. A connection that was moved to the other
    place has the same names there: of two servers of a name, the one that is not over counts."""

    def __init__(self, here: ServerManager, pods: PodManager) -> None:
        self._here = here
        self._pods = pods

    async def open(self) -> None:
        await self._here.open()
        await self._pods.open()

    async def close(self) -> None:
        await self._pods.close()
        await self._here.close()

    def list(self) -> builtins.list[ServerStatus]:
        """All servers that are known, by name."""
        found = {status.id: status for status in [*self._here.list(), *self._pods.list()]}
        return [self._of(key).get(key) for key in sorted(found)]

    def get(self, server_id: str) -> ServerStatus:
        """Raises `NotFound`."""
        return self._of(server_id).get(server_id)

    def find(self, connection: str, model: str) -> ServerStatus | None:
        """The server of an enabled model, if there ever was one."""
        try:
            return self.get(server_id(connection, model))
        except NotFound:
            return None

    async def start(self, connection: Connection, enabled: EnabledModel) -> ServerStatus:
        """Starts it unless it is alive, and returns at once."""
        return await self._for(connection, enabled).start(connection, enabled)

    async def ready(
        self,
        connection: Connection,
        enabled: EnabledModel,
        on_status: Callable[[ServerStatus], None],
    ) -> ReadyServer:
        """Waits until it answers, starting it where needed. Raises `MeshtuiError`."""
        return await self._for(connection, enabled).ready(connection, enabled, on_status)

    async def stop(self, server_id: str) -> ServerStatus:
        """Returns when nothing of it runs. Raises `MeshtuiError`."""
        return await self._of(server_id).stop(server_id)

    async def remove(self, server_id: str) -> None:
        """Forgets it and its logs, and deletes what it has on a cluster; raises `Conflict` unless
        it is over."""
        await self._of(server_id).remove(server_id)

    def lease(self, server_id: str) -> AbstractContextManager[None]:
        """Around a request."""
        return self._of(server_id).lease(server_id)

    def log_path(self, server_id: str) -> Path:
        """The log of its newest start."""
        return self._of(server_id).log_path(server_id)

    @contextlib.asynccontextmanager
    async def reading(self, server_id: str) -> AsyncIterator[None]:
        """While somebody reads that log."""
        async with self._of(server_id).reading(server_id):
            yield

    def _for(self, connection: Connection, enabled: EnabledModel) -> ServerManager | PodManager:
        """Who is to run it. Raises `Conflict` while it runs at the other place."""
        here = connection.execution == LOCAL
        chosen, other = (self._here, self._pods) if here else (self._pods, self._here)
        there = other.find(connection.name, enabled.model)
        if there is not None and not there.phase.is_over:
            place = "on a cluster" if here else "on this machine"
            raise Conflict(
                f"{enabled.model} of {connection.name} still runs {place}.", hint="Stop it first."
            )
        return chosen

    def _of(self, server_id: str) -> ServerManager | PodManager:
        """Who has it; raises `NotFound`."""
        known: builtins.list[tuple[ServerManager | PodManager, ServerStatus]] = []
        for manager in (self._pods, self._here):
            with contextlib.suppress(NotFound):
                known.append((manager, manager.get(server_id)))
        for manager, status in known:
            if not status.phase.is_over:
                return manager
        if not known:
            raise NotFound(f"There is no server {server_id}.", hint="See `meshtui server list`.")
        return known[0][0]

"""Changing connections: what must hold before a file is written, and who is told afterwards."""

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from meshtui.cache.store import current_user
from meshtui.domain.connection import Connection
from meshtui.domain.editing import ANY_REVISION, EditableConnection, Fault
from meshtui.domain.errors import Conflict, InvalidInput, NotAllowed, NotFound
from meshtui.domain.server import ServerStatus
from meshtui.domain.text import one_line
from meshtui.settings.connections import faults
from meshtui.settings.downloads import is_admin
from meshtui.settings.objects import check_name
from meshtui.settings.store import Settings
from meshtui.settings.toml_file import placed


class Editing:
    """Files are read and written in threads. What is refused says what stands in the way."""

    def __init__(
        self,
        settings: Settings,
        *,
        servers: Callable[[], Iterable[ServerStatus]],
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._servers = servers
        self._changed = changed

    async def look(self, name: str) -> EditableConnection:
        """The connection as its file is now; raises `NotFound`."""
        await asyncio.to_thread(self._settings.refresh)
        return await asyncio.to_thread(self._look, name)

    def _look(self, name: str) -> EditableConnection:
        connections = self._settings.connections
        connection = connections.all.get(name)
        if connection is None:
            raise NotFound(f"There is no connection {one_line(name, 100)!r}.")
        return EditableConnection(
            connection=connection,
            revision=connections.revision(name),
            shipped=connections.is_shipped(name),
            path=str(connections.path(name)),
            default_idle_timeout_s=self._settings.config.servers.idle_timeout_s,
            locked=self._locked(),
        )

    def _locked(self) -> str:
        """Why this user may not change connections; empty where that is allowed."""
        user = current_user()
        if is_admin(user, self._settings.config.users):
            return ""
        return f"{user} is no administrator of meshtui here, and may not change connections."

    def _check_admin(self) -> None:
        if locked := self._locked():
            admins = ", ".join(self._settings.config.users.admins)
            raise NotAllowed(locked, hint=f"Ask one of them: {admins}.")

    async def faults(self, connection: Connection, name: str | None) -> tuple[Fault, ...]:
        """All that is wrong with a connection that would take the place of `name` (None: a new
        one)."""
        await asyncio.to_thread(self._settings.refresh)
        found: list[Fault] = []
        try:
            check_name(connection.name)
        except InvalidInput as error:
            found.append(Fault(("name",), error.hint or error.message))
        else:
            if connection.name != name and connection.name in self._settings.connections.all:
                found.append(Fault(("name",), "there is a connection of this name"))
        runtimes = self._settings.runtime_definitions
        if connection.runtime is not None and connection.runtime not in runtimes:
            known = ", ".join(sorted(runtimes))
            found.append(Fault(("runtime",), f"there is no such runtime (there is: {known})"))
        for wrong in faults(connection, self._settings.executions.objects):
            found.append(Fault(wrong.at, wrong.reason))
        return tuple(found)

    async def create(self, connection: Connection) -> EditableConnection:
        """A new one; raises `InvalidInput` or `Conflict`."""
        await self._check(connection, None)
        self._check_admin()
        await asyncio.to_thread(self._settings.connections.save, connection, over=None)
        return await self._done(connection.name)

    async def save(
        self, name: str, connection: Connection, revision: str | None
    ) -> EditableConnection:
        """The connection `name` as it is to be, and its new name, over the revision that was seen.
        Raises `InvalidInput`, `FileChanged`, and `Conflict` where a server runs that would belong
        nowhere."""
        before = (await self.look(name)).connection
        await self._check(connection, name)
        self._check_admin()
        staying = {enabled.model for enabled in connection.enabled_models}
        if connection.name != name:
            self._check_idle(name, None, f"be renamed to {connection.name}")
            if self._settings.connections.is_shipped(name):
                raise Conflict(
                    f"The connection {name} comes with meshtui and keeps its name.",
                    hint="Duplicate it under the name that you want.",
                )
        gone = {enabled.model for enabled in before.enabled_models} - staying
        self._check_idle(name, gone, f"lose {', '.join(sorted(gone))}")
        await asyncio.to_thread(self._save, name, connection, revision)
        return await self._done(connection.name)

    def _save(self, name: str, connection: Connection, revision: str | None) -> None:
        connections = self._settings.connections
        connections.save(msgspec.structs.replace(connection, name=name), over=revision)
        if connection.name != name:
            connections.rename(name, connection.name)

    async def duplicate(self, name: str, new: str) -> EditableConnection:
        """A copy under another name; raises `NotFound`, `InvalidInput` or `Conflict`."""
        await self.look(name)
        self._check_admin()
        await asyncio.to_thread(self._settings.connections.duplicate, name, new)
        return await self._done(new)

    async def delete(self, name: str, revision: str | None = ANY_REVISION) -> None:
        """Deletes the user's file. Raises `NotFound`, `FileChanged`, and `Conflict` where servers
        of it run, or where it is one that comes with meshtui."""
        seen = await self.look(name)
        self._check_admin()
        if seen.revision is None:
            raise Conflict(
                f"The connection {name} comes with meshtui and cannot be deleted.",
                hint="Disable its models instead.",
            )
        back = self._settings.connections.shipped_models(name)
        gone = {enabled.model for enabled in seen.connection.enabled_models} - back
        self._check_idle(name, gone, "be deleted")
        await asyncio.to_thread(self._settings.connections.delete, name, over=revision)
        self._changed()

    def _check_idle(self, name: str, models: set[str] | None, wish: str) -> None:
        """Raises `Conflict` with the list of the servers of these models (None: of all)."""
        alive = [
            server
            for server in self._servers()
            if server.connection == name
            and not server.phase.is_over
            and (models is None or server.model in models)
        ]
        if alive:
            listed = ", ".join(f"{server.model} ({server.phase.value})" for server in alive)
            raise Conflict(
                f"The connection {name} cannot {wish}: it has servers that run: {listed}.",
                hint="Stop them first: meshtui server stop",
            )

    async def _check(self, connection: Connection, name: str | None) -> None:
        found = await self.faults(connection, name)
        if found:
            lines = "; ".join(placed(fault.reason, fault.at).rstrip(".") for fault in found)
            taken = any(fault.at == ("name",) for fault in found) and (
                connection.name in self._settings.connections.all and connection.name != name
            )
            raise (Conflict if taken else InvalidInput)(f"{lines}.")

    async def _done(self, name: str) -> EditableConnection:
        self._changed()
        return await self.look(name)

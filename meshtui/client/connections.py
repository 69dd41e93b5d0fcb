"""What can be asked of the controller about connections, and how they are changed."""

from abc import ABC, abstractmethod
from urllib.parse import quote

from meshtui.client.channel import Channel
from meshtui.domain.check import CheckWishes
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.editing import ANY_REVISION, EditableConnection, Fault, TokenOwner
from meshtui.domain.finding import Finding

# A cluster that answers slowly, and a Hub that does.
_TEST_TIMEOUT_S = 120.0


class ConnectionQuestions(ABC):
    """The part of `ControllerClient` that is about connections.

    What an answer says of a connection is as it stands in its file, so that nothing is lost when
    it is saved again: whoever shows it cleans it.
    """

    @abstractmethod
    async def _open(self) -> Channel: ...

    async def connections(self) -> list[Connection]:
        return await (await self._open()).call(list[Connection], "GET", "/connections")

    async def connection(self, name: str) -> Connection:
        return await (await self._open()).call(Connection, "GET", _path(name))

    async def editable_connection(self, name: str) -> EditableConnection:
        """The connection as its file is now, with the revision to save over."""
        channel = await self._open()
        return await channel.call(EditableConnection, "GET", _path(name, "/editable"), raw=True)

    async def execution_names(self) -> list[str]:
        """Where servers can run: `local`, and the execution configs of clusters."""
        return await (await self._open()).call(list[str], "GET", "/executions")

    async def connection_faults(
        self, connection: Connection, name: str | None = None
    ) -> list[Fault]:
        """All that is wrong with it where it is to take the place of `name` (None: a new one)."""
        channel = await self._open()
        body = {"connection": connection, "name": name}
        return await channel.call(list[Fault], "POST", "/connection-faults", body=body)

    async def create_connection(self, connection: Connection) -> EditableConnection:
        """Raises `InvalidInput`, and `Conflict` where there is one of that name."""
        channel = await self._open()
        return await channel.call(
            EditableConnection, "POST", "/connections", body=connection, raw=True
        )

    async def save_connection(
        self, name: str, connection: Connection, revision: str | None
    ) -> EditableConnection:
        """Saves what `name` is to be, under its new name where that differs. Raises `FileChanged`
        where its file is not the one of `revision` any more, and `Conflict` where servers run that
        would belong nowhere."""
        channel = await self._open()
        body = {"connection": connection, "revision": revision}
        return await channel.call(EditableConnection, "PUT", _path(name), body=body, raw=True)

    async def duplicate_connection(self, name: str, new: str) -> EditableConnection:
        """Copies it with its comments and unknown keys. Raises `NotFound` or `Conflict`."""
        channel = await self._open()
        return await channel.call(
            EditableConnection, "POST", _path(name, "/copy"), body={"name": new}, raw=True
        )

    async def delete_connection(self, name: str, revision: str = ANY_REVISION) -> None:
        """Deletes its file. Raises `Conflict` with the list where servers of it run."""
        channel = await self._open()
        await channel.send("DELETE", _path(name), params={"revision": revision})

    async def test_connection(self, connection: Connection) -> list[Finding]:
        """Whether what it names is there and answers: cluster, runtime, Hub, access token. It need
        not be saved. What fails is a finding."""
        channel = await self._open()
        return await channel.call(
            list[Finding],
            "POST",
            "/connection-test",
            body=connection,
            timeout_s=_TEST_TIMEOUT_S,
        )

    async def token_owner(self, reference: str, connection: Connection | None = None) -> TokenOwner:
        """Whose the access token is that `reference` (`env:...`) names, at the Hub of
        `connection`. Raises `InvalidInput`, `NotFound` where there is none, `BadToken`, or
        `Unavailable`."""
        channel = await self._open()
        body = {"reference": reference, "connection": connection}
        return await channel.call(TokenOwner, "POST", "/token-owner", body=body)


def _path(name: str, more: str = "") -> str:
    return f"/connections/{quote(name, safe='')}{more}"


def wishes_for(connection: Connection, enabled: EnabledModel) -> CheckWishes:
    """What the checker is asked, so that it judges what is about to be enabled."""
    gpus = enabled.tensor_parallel_size
    return CheckWishes(
        connection=connection.name,
        engine=enabled.engine,
        task=enabled.task,
        tensor_parallel_size=gpus if gpus > 1 else None,
        max_tokens=enabled.max_tokens,
        quantization=enabled.quantization,
        trust_remote_code=enabled.trust_remote_code,
    )

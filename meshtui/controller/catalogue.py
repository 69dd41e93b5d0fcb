"""Which models can be prompted: finding the enabled model that a request means."""

from collections.abc import Callable, Mapping

import msgspec

from meshtui.domain.connection import BrokenObject, Connection, EnabledModel
from meshtui.domain.errors import Conflict, NotFound


class Choice(msgspec.Struct, frozen=True):
    """An enabled model and the connection that it is enabled on."""

    connection: Connection
    enabled: EnabledModel


class Catalogue:
    """Enabled models of all connections of now. `broken` are files that may have held more."""

    def __init__(
        self,
        connections: Callable[[], Mapping[str, Connection]],
        broken: Callable[[], tuple[BrokenObject, ...]],
    ) -> None:
        self._connections = connections
        self._broken = broken

    def all(self) -> list[Choice]:
        return [
            Choice(connection, enabled)
            for connection in self._connections().values()
            for enabled in connection.enabled_models
        ]

    def connection(self, name: str) -> Connection:
        """Raises `NotFound`."""
        connections = self._connections()
        if name not in connections:
            known = ", ".join(connections) or "none"
            raise NotFound(
                f"There is no connection {name!r}.", hint=self._or_broken(f"There are: {known}.")
            )
        return connections[name]

    def find(self, model: str, connection: str | None = None) -> Choice:
        """The enabled model; raises `NotFound`, or `Conflict` where several connections enable
        it and none is named."""
        if connection is not None:
            where = self.connection(connection)
            for enabled in where.enabled_models:
                if enabled.model == model:
                    return Choice(where, enabled)
            enabled_there = ", ".join(e.model for e in where.enabled_models) or "none"
            raise NotFound(
                f"{model} is not enabled on the connection {connection}.",
                hint=self._or_broken(f"Enabled there: {enabled_there}."),
            )
        found = [choice for choice in self.all() if choice.enabled.model == model]
        if not found:
            known = ", ".join(sorted({choice.enabled.model for choice in self.all()})) or "none"
            raise NotFound(
                f"The model {model} is not enabled on any connection.",
                hint=self._or_broken(f"Enabled models: {known}."),
            )
        if len(found) > 1:
            names = ", ".join(choice.connection.name for choice in found)
            raise Conflict(
                f"The model {model} is enabled on several connections: {names}.",
                hint="Say which one.",
            )
        return found[0]

    def _or_broken(self, hint: str) -> str:
        """What is missing may stand in a file that cannot be read."""
        return " ".join([hint, *(f"Broken: {item}" for item in self._broken())])

    def find_by_id(self, text: str) -> Choice:
        """The enabled model that a program means: `org/name[@revision]`, with the connection
        and a slash before it where several connections enable it."""
        connection, slash, model = text.partition("/")
        if slash and connection in self._connections():
            named = self._connections()[connection]
            if any(enabled.model == model for enabled in named.enabled_models):
                return self.find(model, connection)
        try:
            return self.find(text)
        except Conflict as error:
            ids = [
                public for public, choice in self.by_id().items() if choice.enabled.model == text
            ]
            raise Conflict(error.message, hint=f"Use one of: {', '.join(ids)}.") from None

    def by_id(self) -> dict[str, Choice]:
        """Every enabled model under the shortest id that means it alone."""
        choices = self.all()
        names = [choice.enabled.model for choice in choices]
        return {
            choice.enabled.model
            if names.count(choice.enabled.model) == 1
            else f"{choice.connection.name}/{choice.enabled.model}": choice
            for choice in choices
        }

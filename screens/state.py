"""What the screens show: a plain copy of the controller's state, kept up by its events."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from meshtui.domain.connection import BrokenObject, Connection
from meshtui.domain.controller import (
    CacheEntryChanged,
    CacheEntryRemoved,
    CacheUsageChanged,
    ConnectionsChanged,
    ControllerEvent,
    ControllerInfo,
    EndpointChanged,
    EndpointStatus,
    ModelOption,
    Overview,
    RuntimeChanged,
    ServerChanged,
    ServerRemoved,
    TransferChanged,
    TransferRemoved,
)
from meshtui.domain.model_cache import CacheEntry, CacheUsage, Transfer, TransferState
from meshtui.domain.runtime import BuildPhase, RuntimeStatus
from meshtui.domain.server import Phase, ServerStatus
from meshtui.domain.text import one_line


class Link(Enum):
    """How the app stands with the controller."""

    STARTING = "starting"
    CONNECTED = "connected"
    LOST = "lost"


@dataclass
class State:
    """Everything that is known. Screens read it; only `apply` and the link change it."""

    link: Link = Link.STARTING
    link_problem: str = ""
    failed_tries: int = 0
    controller: ControllerInfo | None = None
    connections: tuple[Connection, ...] = ()
    broken: tuple[BrokenObject, ...] = ()
    models: tuple[ModelOption, ...] = ()
    servers: dict[str, ServerStatus] = field(default_factory=dict)
    runtimes: dict[str, RuntimeStatus] = field(default_factory=dict)
    endpoint: EndpointStatus = field(default_factory=lambda: EndpointStatus(on=False))
    theme_problems: tuple[str, ...] = ()
    cache: CacheUsage | None = None
    transfers: dict[str, Transfer] = field(default_factory=dict)
    # There may be thousands, so they are asked for when a screen first needs them, and again
    # after each overview; None: they never were.
    entries: dict[str, CacheEntry] | None = None
    entries_are_old: bool = True
    # What was told of entries since they were asked for; None: nobody waits for them.
    _told: list[CacheEntryChanged | CacheEntryRemoved] | None = None

    def apply(self, event: ControllerEvent) -> None:
        """Takes in one event."""
        match event:
            case Overview():
                self.controller = event.controller
                self.connections, self.broken = event.connections, event.broken
                self.models, self.endpoint = event.models, event.endpoint
                self.servers = {server.id: server for server in event.servers}
                self.runtimes = {runtime.name: runtime for runtime in event.runtimes}
                self.transfers = {transfer.id: transfer for transfer in event.transfers}
                self.cache = event.cache
                self.entries_are_old, self._told = True, None
            case ServerChanged(server):
                self.servers[server.id] = server
            case ServerRemoved(server_id):
                self.servers.pop(server_id, None)
            case RuntimeChanged(runtime):
                self.runtimes[runtime.name] = runtime
            case ConnectionsChanged(connections, broken, models):
                self.connections, self.broken, self.models = connections, broken, models
            case EndpointChanged(endpoint):
                self.endpoint = endpoint
            case CacheUsageChanged(usage):
                self.cache = usage
            case CacheEntryChanged() | CacheEntryRemoved():
                if self._told is not None:
                    self._told.append(event)
                self._apply_to_entries(event)
            case TransferChanged(transfer):
                self.transfers[transfer.id] = transfer
            case TransferRemoved(transfer_id):
                self.transfers.pop(transfer_id, None)
            case _:
                pass

    def await_entries(self) -> None:
        """The entries were asked for: what is told from now on may be newer than the answer."""
        self._told = []

    def take_entries(self, entries: Iterable[CacheEntry]) -> None:
        """Takes in the answer. One that an overview has overtaken is only the best there is."""
        told, self._told = self._told, None
        self.entries = {entry.model: entry for entry in entries}
        self.entries_are_old = told is None
        for event in told or ():
            self._apply_to_entries(event)

    def _apply_to_entries(self, event: CacheEntryChanged | CacheEntryRemoved) -> None:
        if self.entries is None:
            return
        match event:
            case CacheEntryChanged(entry):
                self.entries[entry.model] = entry
            case CacheEntryRemoved(model):
                self.entries.pop(model, None)

    def server_of(self, connection: str, model: str) -> ServerStatus | None:
        """The server of an enabled model, as it is now."""
        for server in self.servers.values():
            if server.connection == connection and server.model == model:
                return server
        return None

    def option(self, connection: str | None, model: str) -> ModelOption | None:
        """The enabled model of that name; any connection's when none is given."""
        for option in self.models:
            if option.enabled.model == model and connection in (None, option.connection):
                return option
        return None

    def count(self, *phases: Phase) -> int:
        return sum(server.phase in phases for server in self.servers.values())

    @property
    def controller_stays_away(self) -> bool:
        """It does not come back at once, as it does after a crash: someone has to know why."""
        return self.link is Link.LOST and (self.failed_tries > 1 or self.controller is None)

    @property
    def starting(self) -> int:
        return sum(server.phase.is_starting for server in self.servers.values())

    @property
    def alive(self) -> list[ServerStatus]:
        return [server for server in self.servers.values() if not server.phase.is_over]

    @property
    def live_transfers(self) -> list[Transfer]:
        """What goes on with the cache, and what waits for its turn."""
        return [transfer for transfer in self.transfers.values() if not transfer.state.is_over]

    @property
    def running_transfers(self) -> list[Transfer]:
        return [t for t in self.transfers.values() if t.state is TransferState.RUNNING]

    @property
    def builds(self) -> list[RuntimeStatus]:
        return [r for r in self.runtimes.values() if r.phase is BuildPhase.BUILDING]

    @property
    def problems(self) -> list[str]:
        """What is wrong outside of any server, one line each."""
        lines = [
            f"{item.path}{f', line {item.line}' if item.line else ''}: {item.reason}"
            for item in self.broken
        ]
        lines += [
            f"Runtime {runtime.name} could not be built: {runtime.explanation.cause} "
            f"{runtime.explanation.fix}"
            for runtime in self.runtimes.values()
            if runtime.phase is BuildPhase.FAILED and runtime.explanation
        ]
        if self.cache and self.cache.problem:
            lines.append(f"{self.cache.root}: {self.cache.problem}")
        return [one_line(line) for line in (*lines, *self.theme_problems)]

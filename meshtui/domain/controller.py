"""What the controller says of itself and of everything that changes."""

import msgspec

from meshtui.domain.connection import BrokenObject, Connection, EnabledModel
from meshtui.domain.generation import Run
from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.server import ServerStatus


class ControllerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The running controller. `busy` says, in words, what would be interrupted by a restart
    (servers are not: they live on); empty means idle. `notices` say what does not work as it
    should."""

    version: str
    pid: int
    started_at: float
    socket: str
    log: str
    memory_bytes: int | None = None
    busy: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class ModelOption(msgspec.Struct, frozen=True, kw_only=True):
    """An enabled model as the studio's picker shows it: where it is enabled, and its server
    if one was ever started."""

    connection: str
    enabled: EnabledModel
    server: ServerStatus | None = None

    @property
    def label(self) -> str:
        return self.enabled.display_name or self.enabled.model.rpartition("/")[2]


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The OpenAI-compatible endpoint on 127.0.0.1. `api_key` is filled in only when asked for."""

    on: bool
    base_url: str | None = None
    api_key: str | None = None


class Overview(msgspec.Struct, frozen=True, kw_only=True, tag="overview"):
    """Everything that a screen needs to paint: the first event of the stream."""

    controller: ControllerInfo
    connections: tuple[Connection, ...] = ()
    broken: tuple[BrokenObject, ...] = ()
    models: tuple[ModelOption, ...] = ()
    servers: tuple[ServerStatus, ...] = ()
    runtimes: tuple[RuntimeStatus, ...] = ()
    endpoint: EndpointStatus = EndpointStatus(on=False)


class ServerChanged(msgspec.Struct, frozen=True, tag="server"):
    """A server is new or has changed."""

    server: ServerStatus


class ServerRemoved(msgspec.Struct, frozen=True, tag="server-removed"):
    """A server and its logs are gone."""

    server_id: str


class RuntimeChanged(msgspec.Struct, frozen=True, tag="runtime"):
    """A runtime is new or has changed."""

    runtime: RuntimeStatus


class ConnectionsChanged(msgspec.Struct, frozen=True, tag="connections"):
    """Connections were edited; these are all of them, and what can be prompted now."""

    connections: tuple[Connection, ...]
    broken: tuple[BrokenObject, ...]
    models: tuple[ModelOption, ...]


class EndpointChanged(msgspec.Struct, frozen=True, tag="endpoint"):
    """The endpoint was switched."""

    endpoint: EndpointStatus


class RunRecorded(msgspec.Struct, frozen=True, tag="run"):
    """A run ended (here or in another client) and is in the history."""

    run: Run


ControllerEvent = (
    Overview
    | ServerChanged
    | ServerRemoved
    | RuntimeChanged
    | ConnectionsChanged
    | EndpointChanged
    | RunRecorded
)

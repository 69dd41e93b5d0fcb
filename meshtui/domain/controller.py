"""What the controller says of itself and of everything that changes."""

import msgspec

from meshtui.domain.connection import BrokenObject, Connection, EnabledModel
from meshtui.domain.generation import Run
from meshtui.domain.model_cache import CacheEntry, CacheUsage, Transfer
from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.server import ServerStatus


class ControllerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The running controller. `busy` says, in words, what would be interrupted by a restart
    (servers are not: they live on); empty means idle. `notices` say what does not work as it
    should; `locked` names the settings that the machine's administrators have settled."""

    version: str
    pid: int
    started_at: float
    socket: str
    log: str
    memory_bytes: int | None = None
    busy: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()


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
    """Everything that a screen needs to paint: the first event of the stream. Not in it are the
    entries of the model cache, of which there may be thousands: ask for them after each overview.
    `cache` is None until the cache was looked at."""

    controller: ControllerInfo
    connections: tuple[Connection, ...] = ()
    broken: tuple[BrokenObject, ...] = ()
    models: tuple[ModelOption, ...] = ()
    servers: tuple[ServerStatus, ...] = ()
    runtimes: tuple[RuntimeStatus, ...] = ()
    endpoint: EndpointStatus = EndpointStatus(on=False)
    transfers: tuple[Transfer, ...] = ()
    cache: CacheUsage | None = None


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


class CacheEntryChanged(msgspec.Struct, frozen=True, tag="cache-entry"):
    """An entry of the model cache is new or has changed."""

    entry: CacheEntry


class CacheEntryRemoved(msgspec.Struct, frozen=True, tag="cache-entry-removed"):
    """An entry of the model cache is gone; `model` is its name as the entry had it."""

    model: str


class CacheUsageChanged(msgspec.Struct, frozen=True, tag="cache-usage"):
    """The cache or its disk is fuller or emptier."""

    usage: CacheUsage


class TransferChanged(msgspec.Struct, frozen=True, tag="transfer"):
    """A transfer is new or has moved on; while it runs, up to ten times a second."""

    transfer: Transfer


class TransferRemoved(msgspec.Struct, frozen=True, tag="transfer-removed"):
    """A transfer that was over is forgotten."""

    transfer_id: str


ControllerEvent = (
    Overview
    | ServerChanged
    | ServerRemoved
    | RuntimeChanged
    | ConnectionsChanged
    | EndpointChanged
    | RunRecorded
    | CacheEntryChanged
    | CacheEntryRemoved
    | CacheUsageChanged
    | TransferChanged
    | TransferRemoved
)

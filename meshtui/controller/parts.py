"""What the controller needs of the parts that it wires together."""

import builtins
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.server import ServerStatus
from meshtui.domain.task import Engine
from meshtui.engines.base import Machine
from meshtui.settings.store import Settings


class ReadyServer(Protocol):
    """Where a ready server answers, and with which key."""

    @property
    def server_id(self) -> str: ...
    @property
    def base_url(self) -> str: ...
    @property
    def api_key(self) -> str: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def model(self) -> str: ...
    @property
    def model_dir(self) -> Path: ...
    @property
    def context_length(self) -> int | None: ...


class Servers(Protocol):
    """Runs servers: `meshtui.deploy.everywhere.AllServers`."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    def list(self) -> builtins.list[ServerStatus]: ...
    def get(self, server_id: str) -> ServerStatus: ...
    def find(self, connection: str, model: str) -> ServerStatus | None: ...
    async def start(self, connection: Connection, enabled: EnabledModel) -> ServerStatus: ...
    async def ready(
        self,
        connection: Connection,
        enabled: EnabledModel,
        on_status: Callable[[ServerStatus], None],
    ) -> ReadyServer: ...
    async def stop(self, server_id: str) -> ServerStatus: ...
    async def remove(self, server_id: str) -> None: ...
    def lease(self, server_id: str) -> AbstractContextManager[object]: ...
    def log_path(self, server_id: str) -> Path: ...
    def reading(self, server_id: str) -> AbstractAsyncContextManager[None]: ...


class Runtimes(Protocol):
    """Builds runtimes: `meshtui.deploy.runtimes.RuntimeManager`."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    def list(self) -> builtins.list[RuntimeStatus]: ...
    def get(self, name: str) -> RuntimeStatus: ...
    async def build(self, name: str, *, rebuild: bool = False) -> RuntimeStatus: ...
    async def cancel(self, name: str) -> None: ...
    async def delete(self, name: str) -> None: ...
    def log_path(self, name: str) -> Path: ...


class Models(Protocol):
    """Brings models in: `meshtui.deploy.models.ModelShelf`."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...


class Changes(Protocol):
    """Whom the managers tell what has changed."""

    def server_changed(self, status: ServerStatus) -> None: ...
    def server_removed(self, server_id: str) -> None: ...
    def runtime_changed(self, status: RuntimeStatus) -> None: ...


class Downloads(Protocol):
    """Fetches models from the Hub for all to see: `meshtui.controller.core.Core`."""

    async def download_model(
        self,
        ref: ModelRef,
        connection: Connection,
        on_progress: Callable[[float | None, str], None],
    ) -> None: ...


class Surroundings(Changes, Downloads, Protocol):
    """What managers need of whoever wires them."""


class Managers(msgspec.Struct, frozen=True):
    """The parts that own processes, and what they know of the machine."""

    servers: Servers
    runtimes: Runtimes
    models: Models
    machine: Callable[[], Machine]


MakeManagers = Callable[[Settings, Surroundings], Managers]

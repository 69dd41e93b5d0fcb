"""`config.toml`: the user's own settings of the whole workstation. We read it only."""

import math
from pathlib import Path
from typing import Annotated

import msgspec

from meshtui.domain.connection import DEFAULT_IDLE_TIMEOUT_S, BrokenObject
from meshtui.domain.described import says
from meshtui.settings import toml_file
from meshtui.settings.objects import Fingerprint
from meshtui.settings.toml_file import Wrong


class EndpointConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[endpoint]`: the OpenAI-compatible endpoint on 127.0.0.1. `on` is for the first start
    (later the last switch counts); `port` None: one that is free, kept from then on."""

    on: Annotated[
        bool, says("Whether it is on at the first start; later the last switch counts.")
    ] = False
    port: Annotated[
        int | None, says("Its port on 127.0.0.1; without it one that is free, kept from then on.")
    ] = None


class ServersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[servers]`: what holds for servers of enabled models that say nothing else."""

    idle_timeout_s: Annotated[
        float,
        says("Seconds without a request after which servers stop; 0 means never."),
    ] = DEFAULT_IDLE_TIMEOUT_S


class UsersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[users]`: those who are no administrators may download only models that are enabled on a
    connection."""

    admins: Annotated[
        tuple[str, ...], says("Login names of administrators; empty: everyone is one.")
    ] = ()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All of `config.toml`."""

    endpoint: Annotated[EndpointConfig, says("The OpenAI-compatible endpoint for programs.")] = (
        EndpointConfig()
    )
    servers: Annotated[ServersConfig, says("What holds for all servers.")] = ServersConfig()
    users: Annotated[UsersConfig, says("Who may do what.")] = UsersConfig()


class ConfigFile:
    """The file as it is now: its last good value, and what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fingerprint: Fingerprint | None = None
        self.value = Config()
        self.broken: BrokenObject | None = None

    def refresh(self) -> bool:
        """Reads the file if it changed since the last time; True if it did."""
        try:
            stat = self._path.stat()
            fingerprint = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            fingerprint = None
        if fingerprint == self._fingerprint:
            return False
        self._fingerprint = fingerprint
        try:
            self.value = toml_file.convert(toml_file.read(self._path), Config, _check)
            self.broken = None
        except FileNotFoundError:
            self.value, self.broken = Config(), None
        except Wrong as error:
            self.broken = BrokenObject(path=str(self._path), line=error.line, reason=error.reason)
        return True


def _check(config: Config) -> None:
    port = config.endpoint.port
    if port is not None and not 1 <= port <= 65535:
        raise Wrong("a port is a number from 1 to 65535", at=("endpoint", "port"))
    if not 0 <= config.servers.idle_timeout_s < math.inf:
        raise Wrong("must be seconds, 0 for never", at=("servers", "idle_timeout_s"))

"""`config.toml`: settings of the whole workstation, the user's own and those of the machine.
We read them only."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

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
    """The user's file as it is now, under that of the machine: what stands in the latter counts,
    and is `locked` (`servers.idle_timeout_s`). Of a file that is broken the last good content
    counts; `broken` says what is wrong."""

    def __init__(self, path: Path, system: Path) -> None:
        self._files = (_File(path), _File(system))
        self.value = Config()

    @property
    def broken(self) -> tuple[BrokenObject, ...]:
        return tuple(file.broken for file in self._files if file.broken is not None)

    @property
    def locked(self) -> tuple[str, ...]:
        _own, system = self._files
        return tuple(sorted(_names(system.data)))

    def refresh(self) -> bool:
        """Reads what changed since the last time; True if anything did."""
        changed = [file.refresh() for file in self._files]
        if not any(changed):
            return False
        own, system = self._files
        self.value = msgspec.convert(_over(system.data, own.data), Config)
        return True


class _File:
    """One file: its last good data, and what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fingerprint: Fingerprint | None = None
        self.data: dict[str, Any] = {}
        self.broken: BrokenObject | None = None

    def refresh(self) -> bool:
        try:
            stat = self._path.stat()
            fingerprint = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            fingerprint = None
        if fingerprint == self._fingerprint:
            return False
        self._fingerprint = fingerprint
        try:
            parsed = toml_file.read(self._path)
            toml_file.convert(parsed, Config, _check)
            self.data, self.broken = parsed.data, None
        except FileNotFoundError:
            self.data, self.broken = {}, None
        except Wrong as error:
            self.broken = BrokenObject(path=str(self._path), line=error.line, reason=error.reason)
        return True


def _over(above: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with what `above` says in its place, key by key in tables."""
    return {
        **below,
        **{
            key: _over(value, inner)
            if isinstance(value, dict) and isinstance(inner := below.get(key), dict)
            else value
            for key, value in above.items()
        },
    }


def _names(data: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _names(value, f"{before}{key}.")
        else:
            yield f"{before}{key}"


def _check(config: Config) -> None:
    port = config.endpoint.port
    if port is not None and not 1 <= port <= 65535:
        raise Wrong("a port is a number from 1 to 65535", at=("endpoint", "port"))
    if not 0 <= config.servers.idle_timeout_s < math.inf:
        raise Wrong("must be seconds, 0 for never", at=("servers", "idle_timeout_s"))

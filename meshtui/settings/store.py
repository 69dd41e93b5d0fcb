"""All settings of the user together, kept up to date with their files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from meshtui.domain.connection import BrokenObject
from meshtui.domain.runtime import RuntimeDefinition
from meshtui.settings.config import Config, ConfigFile
from meshtui.settings.connections import Connections
from meshtui.settings.executions import Executions
from meshtui.settings.objects import ObjectFolder
from meshtui.settings.paths import system_config_path
from meshtui.settings.presets import Presets

_RUNTIME_KEYS = frozenset(RuntimeDefinition.__struct_fields__)


class Settings:
    """Reads files in its methods, so call `refresh` off the event loop.

    A user's runtime file of a shipped name changes that definition key by key, so that three
    lines are enough to name another package index.
    """

    def __init__(
        self, folder: Path, shipped_runtimes: Mapping[str, RuntimeDefinition] | None = None
    ) -> None:
        self._shipped_runtimes = dict(shipped_runtimes or {})
        self._config = ConfigFile(folder / "config.toml", system_config_path())
        self.executions = Executions(folder / "execution")
        self.connections = Connections(
            folder / "connections",
            lambda: self.config.servers.idle_timeout_s,
            lambda: self.executions.objects,
        )
        self.presets = Presets(folder / "presets")
        self.runtimes = ObjectFolder(
            folder / "runtimes", RuntimeDefinition, adjust=self._over_shipped
        )

    @property
    def runtime_definitions(self) -> dict[str, RuntimeDefinition]:
        """The shipped definitions with the user's over them."""
        return {**self._shipped_runtimes, **self.runtimes.objects}

    def _over_shipped(
        self, definition: RuntimeDefinition, data: dict[str, Any]
    ) -> RuntimeDefinition:
        shipped = self._shipped_runtimes.get(definition.name)
        if shipped is None:
            return definition
        written = {key: getattr(definition, key) for key in data if key in _RUNTIME_KEYS}
        return msgspec.structs.replace(shipped, **written)

    @property
    def config(self) -> Config:
        return self._config.value

    @property
    def locked(self) -> tuple[str, ...]:
        """The settings of `config.toml` that the machine's administrators have settled."""
        return self._config.locked

    @property
    def broken(self) -> tuple[BrokenObject, ...]:
        return (
            *self._config.broken,
            *self.executions.broken,
            *self.connections.broken,
            *self.runtimes.broken,
            *self.presets.broken,
        )

    def refresh(self) -> bool:
        """Reads what changed since the last time; True if anything did. With nothing changed
        this costs a handful of `stat` calls (some 50 microseconds)."""
        before = self.config.servers, self.executions.objects.keys()
        changed = [
            self._config.refresh(),
            self.executions.refresh(),
            self.connections.refresh(),
            self.runtimes.refresh(),
            self.presets.refresh(),
        ]
        if before != (self.config.servers, self.executions.objects.keys()):
            self.connections.reload()
        return any(changed)

"""Connections: the shipped ones, overlaid by the user's files of the same name."""

import math
import re
from collections.abc import Callable, Collection
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from meshtui.domain.connection import BrokenObject, Connection, EnabledModel
from meshtui.domain.errors import InvalidInput
from meshtui.domain.execution import LOCAL
from meshtui.domain.generation import GenerationParameters
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.task import EngineChoice
from meshtui.settings.objects import ObjectFolder
from meshtui.settings.secrets import check_reference, is_reference
from meshtui.settings.toml_file import KeyPath, Wrong

_ADDRESS = re.compile(r"https?://[^\s/]+(?:/\S*)?")


class Connections:
    """Every connection by name. A user's file stands for the whole connection: nothing of the
    shipped one of that name shows through. `executions` gives the names of the execution configs
    beside `local`."""

    def __init__(
        self,
        folder: Path,
        idle_timeout_s: Callable[[], float],
        executions: Callable[[], Collection[str]] = tuple,
    ) -> None:
        def check(connection: Connection) -> None:
            check_connection(connection, executions())

        def adjust(connection: Connection, data: dict[str, Any]) -> Connection:
            return _with_idle_timeout(connection, data, idle_timeout_s())

        self._shipped = ObjectFolder(
            Path(str(files("meshtui.config"))) / "connections",
            Connection,
            check=check,
            adjust=adjust,
        )
        self._own = ObjectFolder(folder, Connection, check=check, adjust=adjust)

    def refresh(self) -> bool:
        """Reads what changed; True if anything did."""
        return any([self._shipped.refresh(), self._own.refresh()])

    def reload(self) -> None:
        """Reads all files again."""
        self._shipped.reload()
        self._own.reload()

    @property
    def all(self) -> dict[str, Connection]:
        both = {**self._shipped.objects, **self._own.objects}
        return dict(sorted(both.items()))

    @property
    def broken(self) -> tuple[BrokenObject, ...]:
        return self._own.broken

    def save(self, connection: Connection) -> None:
        """Writes the user's file of this connection (see `ObjectFolder.save`)."""
        self._own.save(connection.name, connection)

    def delete(self, name: str) -> None:
        """Deletes the user's file; a shipped connection of that name is back then."""
        self._own.delete(name)


def check_connection(connection: Connection, executions: Collection[str] = ()) -> None:
    """Raises `Wrong` for what the types let pass. `executions` are there beside `local`."""
    if connection.execution != LOCAL and connection.execution not in executions:
        known = ", ".join([LOCAL, *sorted(executions)])
        raise Wrong(f"there is no such execution config (there is: {known})", at=("execution",))
    if connection.access_token is not None:
        try:
            check_reference(connection.access_token)
        except InvalidInput as error:
            raise Wrong(str(error), at=("access_token",)) from error
    choice = connection.properties.get("engine.completion", "AUTO")
    if choice.upper() not in EngineChoice.__members__:
        known = ", ".join(EngineChoice)
        raise Wrong(f"must be one of {known}", at=("properties", "engine.completion"))
    _check_reach(connection.properties)
    seen: set[str] = set()
    for index, enabled in enumerate(connection.enabled_models):
        at: KeyPath = ("enabled_models", index)
        _check_enabled(enabled, at)
        if enabled.model in seen:
            raise Wrong(f"{enabled.model} is enabled twice", at=(*at, "model"))
        seen.add(enabled.model)


def _check_reach(properties: dict[str, str]) -> None:
    """How the Hub is reached: addresses, and no password in a file of settings."""
    for name in ("hub.endpoint", "hub.proxy"):
        at = ("properties", name)
        value = properties.get(name, "")
        if name == "hub.proxy" and is_reference(value):
            try:
                check_reference(value)
            except InvalidInput as error:
                raise Wrong(str(error), at=at) from error
        elif value and not _ADDRESS.fullmatch(value):
            raise Wrong("must be an address such as https://host:port", at=at)
        elif "@" in value:
            raise Wrong("holds a password: name where it is instead, as env:NAME", at=at)


def _check_enabled(enabled: EnabledModel, at: KeyPath) -> None:
    try:
        ModelRef.parse(enabled.model)
    except InvalidInput as error:
        raise Wrong(str(error), at=(*at, "model")) from error
    if enabled.max_tokens is not None and enabled.max_tokens < 1:
        raise Wrong("must be at least 1", at=(*at, "max_tokens"))
    if enabled.tensor_parallel_size < 1:
        raise Wrong("must be at least 1", at=(*at, "tensor_parallel_size"))
    if not 0 <= enabled.idle_timeout_s < math.inf:
        raise Wrong("must be seconds, 0 for never", at=(*at, "idle_timeout_s"))
    field = wrong_parameter(enabled.generation)
    if field is not None:
        name, reason = field
        raise Wrong(reason, at=(*at, "generation", name))


def wrong_parameter(parameters: GenerationParameters) -> tuple[str, str] | None:
    """The first generation parameter that no engine takes, and why; None if all are fine."""
    if parameters.max_tokens is not None and parameters.max_tokens < 1:
        return "max_tokens", "must be at least 1"
    # `not (...)` and not `<`: what is no number at all must not pass either.
    if parameters.temperature is not None and not 0 <= parameters.temperature <= 100:
        return "temperature", "must be between 0 and 100"
    if parameters.top_p is not None and not 0 < parameters.top_p <= 1:
        return "top_p", "must be above 0 and at most 1"
    if parameters.seed is not None and not -(2**63) <= parameters.seed < 2**63:
        return "seed", "must fit in 64 bits"
    return None


def _with_idle_timeout(
    connection: Connection, data: dict[str, Any], default_s: float
) -> Connection:
    """The connection with the user's default idle timeout where a model names none."""
    written = data.get("enabled_models", [])
    models = tuple(
        enabled
        if "idle_timeout_s" in plain
        else msgspec.structs.replace(enabled, idle_timeout_s=default_s)
        for enabled, plain in zip(connection.enabled_models, written, strict=True)
    )
    return msgspec.structs.replace(connection, enabled_models=models)

"""Connections: the shipped ones, overlaid by the user's files of the same name."""

import math
import re
from collections.abc import Callable, Collection, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from meshtui.domain.codec import to_plain
from meshtui.domain.connection import BrokenObject, Connection, EnabledModel
from meshtui.domain.editing import ANY_REVISION
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.execution import LOCAL
from meshtui.domain.generation import GenerationParameters
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.task import EngineChoice
from meshtui.settings import toml_file
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

        def plain(connection: Connection, data: dict[str, Any]) -> dict[str, Any]:
            return _plain(connection, data, idle_timeout_s())

        shipped = Path(str(files("meshtui.config"))) / "connections"
        self._shipped = ObjectFolder(shipped, Connection, check=check, adjust=adjust)
        self._own = ObjectFolder(folder, Connection, check=check, adjust=adjust, plain=plain)

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

    def is_shipped(self, name: str) -> bool:
        """Whether meshtui brings a connection of that name; a user's file may stand for it."""
        return name in self._shipped.objects

    def shipped_models(self, name: str) -> set[str]:
        """What is enabled on the shipped connection of that name."""
        shipped = self._shipped.objects.get(name)
        return {enabled.model for enabled in shipped.enabled_models} if shipped else set()

    def revision(self, name: str) -> str | None:
        """That of the user's file (see `ObjectFolder`); None where there is none."""
        return self._own.revision(name)

    def path(self, name: str) -> Path:
        """Where the user's file is, or would be."""
        return self._own.path(name)

    def save(self, connection: Connection, *, over: str | None = ANY_REVISION) -> None:
        """Writes the user's file of this connection (see `ObjectFolder.save`)."""
        self._own.save(connection.name, connection, over=over)

    def rename(self, name: str, new: str, *, over: str | None = ANY_REVISION) -> None:
        """Gives the user's file another name (see `ObjectFolder.rename`)."""
        self._own.rename(name, new, over=over)

    def duplicate(self, name: str, new: str) -> None:
        """Copies a connection with its comments and whatever else is in its file. Raises
        `NotFound`, and as `save`."""
        connection = self.all.get(name)
        if connection is None:
            raise NotFound(f"There is no connection {name!r}.")
        try:
            template = toml_file.read(self._own.path(name)).text
        except (Wrong, FileNotFoundError):
            # A shipped one, or one that is broken now: its last good version counts.
            template = ""
        copy = msgspec.structs.replace(connection, name=new)
        self._own.save(new, copy, over=None, template=template)

    def delete(self, name: str, *, over: str | None = ANY_REVISION) -> None:
        """Deletes the user's file; a shipped connection of that name is back then."""
        self._own.delete(name, over=over)


def check_connection(connection: Connection, executions: Collection[str] = ()) -> None:
    """Raises `Wrong` for the first fault (see `faults`)."""
    for fault in faults(connection, executions):
        raise fault


def faults(connection: Connection, executions: Collection[str] = ()) -> Iterator[Wrong]:
    """What the types let pass and is wrong. `executions` are there beside `local`."""
    if connection.execution != LOCAL and connection.execution not in executions:
        known = ", ".join([LOCAL, *sorted(executions)])
        yield Wrong(f"there is no such execution config (there is: {known})", at=("execution",))
    if connection.access_token is not None:
        yield from _of_reference(connection.access_token, ("access_token",))
    choice = connection.properties.get("engine.completion", "AUTO")
    if choice.upper() not in EngineChoice.__members__:
        known = ", ".join(EngineChoice)
        yield Wrong(f"must be one of {known}", at=("properties", "engine.completion"))
    yield from _faults_of_reach(connection.properties)
    seen: set[str] = set()
    for index, enabled in enumerate(connection.enabled_models):
        at: KeyPath = ("enabled_models", index)
        yield from _faults_of_enabled(enabled, at)
        if enabled.model in seen:
            yield Wrong(f"{enabled.model} is enabled twice", at=(*at, "model"))
        seen.add(enabled.model)


def _of_reference(reference: str, at: KeyPath) -> Iterator[Wrong]:
    try:
        check_reference(reference)
    except InvalidInput as error:
        yield Wrong(str(error), at=at)


def _faults_of_reach(properties: dict[str, str]) -> Iterator[Wrong]:
    """How the Hub is reached: addresses, and no password in a file of settings."""
    for name in ("hub.endpoint", "hub.proxy"):
        at = ("properties", name)
        value = properties.get(name, "")
        if name == "hub.proxy" and is_reference(value):
            yield from _of_reference(value, at)
        elif value and not _ADDRESS.fullmatch(value):
            yield Wrong("must be an address such as https://host:port", at=at)
        elif "@" in value:
            yield Wrong("holds a password: name where it is instead, as env:NAME", at=at)


def _faults_of_enabled(enabled: EnabledModel, at: KeyPath) -> Iterator[Wrong]:
    try:
        ModelRef.parse(enabled.model)
    except InvalidInput as error:
        yield Wrong(str(error), at=(*at, "model"))
    if enabled.max_tokens is not None and enabled.max_tokens < 1:
        yield Wrong("must be at least 1", at=(*at, "max_tokens"))
    if enabled.tensor_parallel_size < 1:
        yield Wrong("must be at least 1", at=(*at, "tensor_parallel_size"))
    if not 0 <= enabled.idle_timeout_s < math.inf:
        yield Wrong("must be seconds, 0 for never", at=(*at, "idle_timeout_s"))
    field = wrong_parameter(enabled.generation)
    if field is not None:
        name, reason = field
        yield Wrong(reason, at=(*at, "generation", name))


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


def _plain(connection: Connection, data: dict[str, Any], default_s: float) -> dict[str, Any]:
    """What is written of a connection over `data`. Which idle timeout stands for one that is not
    written is up to the user's settings, so another one is written even where it is the usual
    one of all; and one that was written stays so."""
    plain: dict[str, Any] = to_plain(connection)
    before = data.get("enabled_models")
    written = {
        one.get("model")
        for one in (before if isinstance(before, list) else ())
        if isinstance(one, dict) and "idle_timeout_s" in one
    }
    models = plain.get("enabled_models", ())
    for enabled, one in zip(connection.enabled_models, models, strict=True):
        one.pop("idle_timeout_s", None)
        if enabled.idle_timeout_s != default_s or enabled.model in written:
            one["idle_timeout_s"] = enabled.idle_timeout_s
    return plain

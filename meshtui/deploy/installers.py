"""uv and pip behind one face: make an environment, put requirements into it.

Index settings go through the environment, since they may hold a password and other users of a
machine can read command lines.
"""

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from packaging.requirements import Requirement
from packaging.version import Version

from meshtui.deploy.definitions import InstallPlan, normalised, requirement_name
from meshtui.deploy.install_progress import PipReader, ProgressReader, UvReader
from meshtui.domain.runtime import RuntimeDefinition

# Runs one command of a build; raises when it fails.
Run = Callable[[list[str], ProgressReader | None], Awaitable[None]]

_FIRST_PIP_WITH_RAW_PROGRESS = Version("24.1")
# What people set for pip holds for uv too, which does not read it by itself.
_PIP_TO_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_CERT": "SSL_CERT_FILE",
}


class Installer(Protocol):
    name: str
    needs_venv_module: bool

    def index(self, definition: RuntimeDefinition) -> dict[str, str]:
        """The definition's index settings as environment variables."""
        ...

    async def make_environment(self, run: Run, python: str, folder: Path) -> None: ...

    async def install(
        self, run: Run, folder: Path, plan: InstallPlan, extra_args: tuple[str, ...], work: Path
    ) -> None:
        """Puts the plan's requirements into the environment; `work` is for its input files."""
        ...

    def install_into(self, python: Path, target: Path, requirement: str) -> list[str]:
        """The command that unpacks one distribution, without what it needs, into a folder."""
        ...


def environment_python(folder: Path) -> Path:
    return folder / "bin" / "python"


def clean_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what would turn an installer to another Python."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
    source = os.environ if base is None else base
    return {key: value for key, value in source.items() if key not in dropped}


class Uv:
    """uv: parallel, with overrides, and it can fetch a Python."""

    name = "uv"
    needs_venv_module = False

    def __init__(self, uv: Path) -> None:
        self._uv = str(uv)

    def index(self, definition: RuntimeDefinition) -> dict[str, str]:
        settings = {"UV_NO_PROGRESS": "1"}
        for theirs, ours in _PIP_TO_UV.items():
            value = os.environ.get(theirs)
            if value and ours not in os.environ:
                settings[ours] = value
        if definition.index_url:
            settings["UV_DEFAULT_INDEX"] = definition.index_url
        if definition.extra_index_urls:
            settings["UV_INDEX"] = " ".join(definition.extra_index_urls)
        return settings

    async def make_environment(self, run: Run, python: str, folder: Path) -> None:
        await run([self._uv, "venv", "--python", python, str(folder)], None)

    async def install(
        self, run: Run, folder: Path, plan: InstallPlan, extra_args: tuple[str, ...], work: Path
    ) -> None:
        command = [self._uv, "pip", "install", "--python", str(environment_python(folder))]
        command += ["-r", _write(work / "requirements.txt", plan.requirements)]
        if plan.overrides:
            command += ["--override", _write(work / "overrides.txt", plan.overrides)]
        await run([*command, *extra_args], UvReader())

    def install_into(self, python: Path, target: Path, requirement: str) -> list[str]:
        command = [self._uv, "pip", "install", "--python", str(python), "--target", str(target)]
        return [*command, "--no-deps", "--only-binary", ":all:", requirement]


class Pip:
    """The pip that every Python's venv brings: where there is no uv."""

    name = "pip"
    needs_venv_module = True

    def index(self, definition: RuntimeDefinition) -> dict[str, str]:
        settings = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
        if definition.index_url:
            settings["PIP_INDEX_URL"] = definition.index_url
        if definition.extra_index_urls:
            settings["PIP_EXTRA_INDEX_URL"] = " ".join(definition.extra_index_urls)
        return settings

    async def make_environment(self, run: Run, python: str, folder: Path) -> None:
        await run([python, "-m", "venv", str(folder)], None)

    async def install(
        self, run: Run, folder: Path, plan: InstallPlan, extra_args: tuple[str, ...], work: Path
    ) -> None:
        pip = self._pip(folder)
        requirements = plan.requirements
        bare: tuple[str, ...] = ()
        if plan.overrides:
            requirements, bare = await self._overridden(run, pip, plan, extra_args, work)
        await run(
            [*pip, "-r", _write(work / "requirements.txt", requirements), *extra_args], PipReader()
        )
        if bare:
            listed = _write(work / "bare.txt", bare)
            await run([*pip, "--no-deps", "-r", listed, *extra_args], PipReader())

    async def _overridden(
        self, run: Run, pip: list[str], plan: InstallPlan, extra_args: tuple[str, ...], work: Path
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """pip knows no overrides. So what asks for an overridden package is installed bare, and
        what else it asks for is required directly. Only packages that the plan itself names are
        looked at; a contradiction deeper down stays one."""
        report = work / "report.json"
        overridden = {requirement_name(text) for text in plan.overrides}
        asked = tuple(r for r in plan.requirements if requirement_name(r) not in overridden)
        listed = _write(work / "requested.txt", asked)
        dry = ["--dry-run", "--ignore-installed", "--no-deps", "--report", str(report)]
        await run([*pip, *dry, "-r", listed, *extra_args], PipReader())
        return detach_overridden(
            json.loads(report.read_text(encoding="utf-8")), plan.requirements, plan.overrides
        )

    def install_into(self, python: Path, target: Path, requirement: str) -> list[str]:
        command = [str(python), "-m", "pip", "install", "--target", str(target)]
        return [*command, "--no-deps", "--only-binary", ":all:", requirement]

    @staticmethod
    def _pip(folder: Path) -> list[str]:
        command = [str(environment_python(folder)), "-m", "pip", "install"]
        found = next(folder.glob("lib/python3*/site-packages/pip-*.dist-info"), None)
        version = found.name.removeprefix("pip-").removesuffix(".dist-info") if found else "0"
        raw = Version(version) >= _FIRST_PIP_WITH_RAW_PROGRESS
        return [*command, "--progress-bar", "raw" if raw else "off"]


def detach_overridden(
    report: dict[str, Any], requirements: tuple[str, ...], overrides: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """From pip's installation report (format version 1) on `requirements`: those that can be
    installed as usual, including what the bare ones need; and those to install bare."""
    overridden = {requirement_name(text) for text in overrides}
    metadata = {normalised(e["metadata"]["name"]): e["metadata"] for e in report["install"]}
    usual, bare = list(overrides), []
    for text in requirements:
        requirement = Requirement(text)
        name = normalised(requirement.name)
        if name in overridden:
            continue
        wanted = [
            want
            for want in map(Requirement, metadata.get(name, {}).get("requires_dist", ()))
            if _applies(want, requirement.extras, report["environment"])
        ]
        if not any(normalised(want.name) in overridden for want in wanted):
            usual.append(text)
            continue
        bare.append(text)
        for want in wanted:
            if normalised(want.name) not in overridden:
                want.marker = None
                usual.append(str(want))
    return tuple(dict.fromkeys(usual)), tuple(bare)


def _applies(want: Requirement, extras: set[str], environment: dict[str, str]) -> bool:
    if want.marker is None:
        return True
    return any(want.marker.evaluate({**environment, "extra": e}) for e in ("", *extras))


def _write(path: Path, lines: tuple[str, ...]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)

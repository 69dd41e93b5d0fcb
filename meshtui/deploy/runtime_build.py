"""Builds one runtime: environment, installation, check. No state beyond the call."""

import asyncio
import collections
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from meshtui.cache.files import disk_bytes
from meshtui.deploy.child import append_log, run_child, without_credentials
from meshtui.deploy.definitions import (
    InstallPlan,
    fingerprint,
    install_plan,
    python_versions,
    requirement_name,
)
from meshtui.deploy.install_failures import explain_install_failure
from meshtui.deploy.install_progress import Progress, ProgressReader, format_bytes
from meshtui.deploy.installers import (
    Installer,
    clean_environment,
    environment_python,
)
from meshtui.deploy.interpreters import NoInterpreter, find_interpreter
from meshtui.deploy.runtime_record import Built
from meshtui.deploy.runtime_types import BuildFailed
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.runtime import Package, RuntimeDefinition
from meshtui.domain.server import Explanation

_KEPT_LINES = 400
_RATE_EVERY_S = 0.5
# importlib.metadata of the environment itself: no installer needs to be there for it.
_LIST_PACKAGES = (
    "import importlib.metadata as m, json, platform;"
    "print(json.dumps([platform.python_version(), sorted({(d.name, d.version)"
    " for d in m.distributions() if d.name}, key=lambda p: p[0].lower())]))"
)


class BuildOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one build needs to know. `folder` is where the environment goes; `work`
    holds the installer's input files."""

    definition: RuntimeDefinition
    installer: Installer
    cpu_flags: frozenset[str]
    folder: Path
    work: Path
    log: Path
    environment: Mapping[str, str]


async def build_runtime(order: BuildOrder, on_progress: Callable[[Progress], None]) -> Built:
    """Builds the environment of `order.folder` from nothing (the installer's own cache makes a
    second try short). Raises `BuildFailed`; cancelling kills the installer."""
    started_at = time.time()
    try:
        return await _Build(order, on_progress).run(started_at)
    except BuildFailed as error:
        await asyncio.to_thread(append_log, order.log, f"Failed: {error}")
        raise
    except MeshtuiError as error:
        await asyncio.to_thread(append_log, order.log, f"Failed: {error}")
        explanation = Explanation(
            cause=error.message, fix=f"{error.hint or ''} The log is {order.log}.".strip()
        )
        raise _failed(order.definition.name, explanation) from error
    except OSError as error:
        raise _failed(
            order.definition.name,
            Explanation(
                cause=f"The system refused: {error.strerror or error} ({error.filename}).",
                fix=f"The log is {order.log}.",
            ),
        ) from error


def _failed(name: str, explanation: Explanation) -> BuildFailed:
    return BuildFailed(
        f"The runtime {name} could not be built: {explanation.cause}",
        hint=explanation.fix,
        explanation=explanation,
    )


class _Build:
    def __init__(self, order: BuildOrder, on_progress: Callable[[Progress], None]) -> None:
        self._order = order
        self._on_progress = on_progress
        self._environment = {
            **clean_environment(),
            **order.environment,
            **order.installer.index(order.definition),
        }

    async def run(self, started_at: float) -> Built:
        order = self._order
        await asyncio.to_thread(self._check_room)
        plan = install_plan(order.definition, order.cpu_flags)
        self._on_progress(Progress("Making the environment"))
        await self._make_environment()
        self._on_progress(Progress("Resolving the requirements"))
        await order.installer.install(
            self._step, order.folder, plan, order.definition.extra_args, order.work
        )
        self._on_progress(Progress("Checking what was installed", 1.0))
        python, packages = await self._check(plan)
        size_bytes = await asyncio.to_thread(disk_bytes, order.folder)
        await asyncio.to_thread(append_log, order.log, f"Ready: {format_bytes(size_bytes)}")
        return Built(
            folder=order.folder.name,
            fingerprint=fingerprint(order.definition),
            python=python,
            packages=packages,
            size_bytes=size_bytes,
            started_at=started_at,
            finished_at=time.time(),
            installer=order.installer.name,
            notices=plan.notices,
        )

    def _check_room(self) -> None:
        order = self._order
        free = shutil.disk_usage(order.work).free
        if free < order.definition.disk_bytes:
            explanation = Explanation(
                cause=f"It needs {format_bytes(order.definition.disk_bytes)} of disk; "
                f"{order.work} has {format_bytes(free)} left.",
                fix="Free some space, or move runtimes to another disk with MESHTUI_RUNTIMES. "
                f"The log is {order.log}.",
                failure_id="install-disk-full",
            )
            raise _failed(order.definition.name, explanation)

    async def _make_environment(self) -> None:
        order = self._order
        versions = python_versions(order.definition)
        with_venv = order.installer.needs_venv_module
        try:
            found = await find_interpreter(order.definition, versions, with_venv=with_venv)
            python = found.path
        except NoInterpreter as missing:
            if with_venv or order.definition.interpreter:
                raise
            await self._log(f"{missing.message} Asking uv to fetch one.")
            self._on_progress(Progress("Fetching a Python"))
            try:
                await order.installer.make_environment(self._step, str(versions), order.folder)
            except BuildFailed as error:
                raise missing from error
            return
        await self._log(f"Using {python}")
        await order.installer.make_environment(self._step, python, order.folder)

    async def _step(self, argv: list[str], reader: ProgressReader | None) -> None:
        """Runs one command of the installer; raises `BuildFailed` with what it said."""
        order = self._order
        lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        meter = _WriteMeter(self._on_progress)

        def on_line(line: str) -> None:
            lines.append(line)
            if reader and (progress := reader.feed(line)):
                meter.show(progress)

        await self._log("$ " + " ".join(argv))
        async with meter:
            status = await run_child(
                argv,
                environment=self._environment,
                on_line=on_line,
                log=order.log,
                on_start=meter.watch,
            )
        if status != 0:
            raise _failed(
                order.definition.name, explain_install_failure(list(lines), status, order.log)
            )

    async def _check(self, plan: InstallPlan) -> tuple[str, tuple[Package, ...]]:
        """Asks the environment's own Python what it sees; raises `BuildFailed` where a required
        distribution is missing. Importing the engines would take tens of seconds more, and a
        broken one is explained when it starts."""
        lines: list[str] = []
        python = environment_python(self._order.folder)
        status = await run_child(
            [str(python), "-I", "-c", _LIST_PACKAGES],
            environment=self._environment,
            on_line=lines.append,
        )
        try:
            if status != 0:
                raise ValueError(f"exit status {status}")
            version, found = json.loads(lines[-1])
        except (ValueError, IndexError) as error:
            explanation = explain_install_failure(lines, status, self._order.log)
            raise _failed(self._order.definition.name, explanation) from error
        packages = tuple(Package(name, version) for name, version in found)
        names = {requirement_name(package.name) for package in packages}
        missing = [r for r in plan.requirements if requirement_name(r) not in names]
        if missing:
            raise _failed(
                self._order.definition.name,
                Explanation(
                    cause=f"The installer ended well, but {', '.join(missing)} is not there.",
                    fix=f"Read {self._order.log}; a marker in the requirement may exclude it here.",
                ),
            )
        return version, packages

    async def _log(self, text: str) -> None:
        # A command's extra arguments may hold an index with its password.
        await asyncio.to_thread(append_log, self._order.log, without_credentials(text))


class _WriteMeter:
    """Adds to an installer's progress how fast it writes, as the kernel counts it: the one sign
    of life in the minutes between two of its lines."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress
        self._progress: Progress | None = None
        self._rate = 0.0
        self._pid: int | None = None
        self._task: asyncio.Task[None] | None = None

    def watch(self, pid: int) -> None:
        self._pid = pid

    def show(self, progress: Progress) -> None:
        self._progress = progress
        step = progress.step
        if self._rate >= 1e5 and (progress.fraction or 0) < 1:
            step = f"{step} · writing {format_bytes(self._rate)}/s"
        self._on_progress(Progress(step, progress.fraction))

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._measure())

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _measure(self) -> None:
        before, at = 0, time.monotonic()
        while True:
            await asyncio.sleep(_RATE_EVERY_S)
            written, now = _written_bytes(self._pid), time.monotonic()
            if written is None:
                continue
            self._rate = max(0.0, written - before) / (now - at)
            before, at = written, now
            if self._progress:
                self.show(self._progress)


def _written_bytes(pid: int | None) -> int | None:
    """What a process has written so far; None where the kernel does not say."""
    if pid is None or sys.platform != "linux":
        return None
    try:
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("wchar:"):
                return int(line.removeprefix("wchar:"))
    except (OSError, ValueError):
        pass
    return None

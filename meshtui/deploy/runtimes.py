"""The runtimes of this machine: which there are, which are built, and building them."""

import asyncio
import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from meshtui.cache.files import TRASH_PREFIX, empty_trash, trash
from meshtui.cache.locks import FileLock, locked
from meshtui.deploy.child import append_log
from meshtui.deploy.definitions import fingerprint, shipped_definitions
from meshtui.deploy.install_progress import Progress
from meshtui.deploy.installers import Installer, Pip, Uv, environment_python
from meshtui.deploy.interpreters import find_uv
from meshtui.deploy.runtime_build import BuildOrder, build_runtime
from meshtui.deploy.runtime_record import (
    LOG,
    RECORD,
    Attempt,
    Failure,
    RuntimeRecord,
    read_record,
    status_of,
    write_record,
)
from meshtui.deploy.runtime_types import BuildFailed, InstalledRuntime
from meshtui.domain.errors import Conflict, MeshtuiError, NotFound
from meshtui.domain.runtime import BuildPhase, RuntimeDefinition, RuntimeStatus
from meshtui.domain.server import Explanation
from meshtui.engines.base import Machine

_LOGGER = logging.getLogger(__name__)
_CHANGE_EVERY_S = 0.1
_ENVIRONMENT = "venv-"

Listener = Callable[[RuntimeStatus], None]


class RuntimeManager:
    """Lists, builds and removes runtimes; one build per name at a time, also between processes.

    `definitions` gives all definitions of now (shipped ones overlaid by the user's); `machine`
    may block. `installer_environment` is added to the environment of installers.
    """

    def __init__(
        self,
        *,
        runtimes_dir: Path,
        definitions: Callable[[], Mapping[str, RuntimeDefinition]],
        on_change: Listener,
        machine: Callable[[], Machine],
        uv: Callable[[], Path | None] = find_uv,
        installer_environment: Mapping[str, str] | None = None,
    ) -> None:
        self._dir = runtimes_dir
        self._definitions = definitions
        self._shipped = shipped_definitions()
        self._on_change = on_change
        self._machine = machine
        self._uv = uv
        self._installer_environment = dict(installer_environment or {})
        self._records: dict[str, RuntimeRecord] = {}
        self._builds: dict[str, _Running] = {}

    async def open(self) -> None:
        """Reads what is on disk and goes on with builds that were interrupted."""
        self._records = await asyncio.to_thread(self._read_all)
        for name, record in self._records.items():
            if record.attempt and name in self._definitions():
                self._begin(name)

    async def close(self) -> None:
        """Ends running builds; the next `open` takes them up again."""
        builds = list(self._builds.values())
        for build in builds:
            build.task.cancel()
        await asyncio.gather(*(build.task for build in builds), return_exceptions=True)

    def list(self) -> list[RuntimeStatus]:
        """All runtimes that are defined or built, by name."""
        built = (name for name, record in self._records.items() if record != RuntimeRecord())
        return [self._status(name) for name in sorted({*self._definitions(), *built})]

    def get(self, name: str) -> RuntimeStatus:
        """Raises `NotFound`."""
        if name not in self._definitions() and not self._records.get(name, RuntimeRecord()).built:
            known = ", ".join(sorted(self._definitions()))
            raise NotFound(f"There is no runtime {name!r}.", hint=f"There are: {known}.")
        return self._status(name)

    def default_name(self) -> str:
        """`gpu` where an NVIDIA GPU is seen, else `cpu`."""
        return "gpu" if self._machine().gpu_count else "cpu"

    def log_path(self, name: str) -> Path:
        self.get(name)
        return self._dir / name / LOG

    async def build(self, name: str, *, rebuild: bool = False) -> RuntimeStatus:
        """Starts building unless it is ready (with `rebuild`: also then) and gives the status at
        once. A runtime in use keeps its environment until the new one is complete."""
        await self._look_again(name)
        status = self.get(name)
        if name not in self._definitions():
            raise NotFound(f"The definition of the runtime {name!r} is gone.")
        if name not in self._builds and (rebuild or status.phase is not BuildPhase.READY):
            self._begin(name, rebuild=rebuild)
        return self._status(name)

    async def cancel(self, name: str) -> None:
        """Ends a build and drops what it had made; raises `Conflict` where there is none."""
        self.get(name)
        build = self._builds.get(name)
        if build is None:
            raise Conflict(f"The runtime {name} is not being built.")
        build.cancelled = True
        build.task.cancel()
        await asyncio.wait([build.task])

    async def delete(self, name: str) -> None:
        """Removes the environment; raises `Conflict` while it is built or in use."""
        self.get(name)
        folder = self._dir / name
        lock = FileLock(self._lock_path(name))
        if name in self._builds or not await asyncio.to_thread(lock.try_acquire):
            raise Conflict(f"The runtime {name} is being built.", hint="Cancel the build first.")
        try:
            if user := await asyncio.to_thread(process_using, folder):
                raise Conflict(
                    f"The runtime {name} is in use by process {user}.",
                    hint="Stop the servers that run on it first.",
                )
            gone = await asyncio.to_thread(trash, folder)
        finally:
            lock.release()
        self._records[name] = RuntimeRecord()
        self._on_change(self._status(name))
        if gone:
            await asyncio.to_thread(shutil.rmtree, gone, ignore_errors=True)

    async def ensure(self, name: str | None, on_change: Listener) -> InstalledRuntime:
        """The runtime, built first where it is not; raises `NotFound` or `BuildFailed`."""
        if name is None:
            name = await asyncio.to_thread(self.default_name)
        await self._look_again(name)
        if self.get(name).phase is not BuildPhase.READY:
            await self.build(name)
        if build := self._builds.get(name):
            build.listeners.append(on_change)
            on_change(self._status(name))
            try:
                # The build belongs to the manager: whoever waits may leave.
                await asyncio.wait([build.task])
            finally:
                build.listeners.remove(on_change)
        status = self._status(name)
        if status.phase is not BuildPhase.READY or status.path is None:
            raise self._failure(status)
        return self._installed(status, Path(status.path))

    @staticmethod
    def _failure(status: RuntimeStatus) -> BuildFailed:
        explanation = status.explanation
        if explanation is None:
            return BuildFailed(
                f"Building the runtime {status.name} was cancelled.", hint="Build it again."
            )
        return BuildFailed(
            f"The runtime {status.name} could not be built: {explanation.cause}",
            hint=explanation.fix,
            explanation=explanation,
        )

    def _installed(self, status: RuntimeStatus, folder: Path) -> InstalledRuntime:
        definition = self._definitions().get(status.name)
        return InstalledRuntime(
            python=environment_python(folder),
            status=status,
            environment=dict(definition.environment) if definition else {},
            index=self._installer().index(definition or RuntimeDefinition(name=status.name)),
        )

    def _installer(self) -> Installer:
        uv = self._uv()
        return Uv(uv) if uv else Pip()

    # --- what is known

    def _read_all(self) -> dict[str, RuntimeRecord]:
        empty_trash(self._dir)
        if not self._dir.is_dir():
            return {}
        return {
            folder.name: read_record(folder)
            for folder in self._dir.iterdir()
            if (folder / RECORD).is_file()
        }

    def _status(self, name: str) -> RuntimeStatus:
        definition = self._definitions().get(name)
        status = status_of(
            name,
            self._records.get(name, RuntimeRecord()),
            definition,
            shipped=definition is not None and definition == self._shipped.get(name),
            fingerprint=fingerprint(definition) if definition else None,
            folder=self._dir / name,
        )
        build = self._builds.get(name)
        if build is None:
            return status
        return msgspec.structs.replace(
            status,
            phase=BuildPhase.BUILDING,
            step=build.progress.step,
            progress=build.progress.fraction,
            started_at=build.started_at,
            finished_at=None,
            explanation=None,
        )

    async def _look_again(self, name: str) -> None:
        """Another process, or a person, may have changed what is on disk."""
        if name in self._builds or name not in self._records:
            return
        record = await asyncio.to_thread(read_record, self._dir / name)
        if name not in self._builds and record.built != self._records[name].built:
            self._records[name] = record
            self._on_change(self._status(name))

    async def _remember(self, name: str, record: RuntimeRecord) -> None:
        self._records[name] = record
        await asyncio.to_thread(write_record, self._dir / name, record)

    # --- building

    def _begin(self, name: str, *, rebuild: bool = False) -> None:
        build = _Running(lambda: self._publish(name))
        self._builds[name] = build
        build.task = asyncio.create_task(self._run(name, build, rebuild), name=f"build-{name}")
        build.publish_now()

    def _publish(self, name: str) -> None:
        status = self._status(name)
        self._on_change(status)
        for listener in tuple(self._builds[name].listeners if name in self._builds else ()):
            listener(status)

    async def _run(self, name: str, build: "_Running", rebuild: bool) -> None:
        def waiting() -> None:
            build.show(Progress("Waiting for another process that builds it"))

        try:
            async with locked(self._lock_path(name), waiting):
                await self._build_recorded(name, build, rebuild)
        except OSError as error:
            record = self._records.get(name, RuntimeRecord())
            failure = _unexpected(error, self._dir / name / LOG)
            self._records[name] = msgspec.structs.replace(record, failure=failure)
        finally:
            build.close()
            del self._builds[name]
            status = self._status(name)
            for listener in (self._on_change, *build.listeners):
                listener(status)

    async def _build_recorded(self, name: str, build: "_Running", rebuild: bool) -> None:
        """Builds, and writes down how it ended while the lock is still held."""
        try:
            await self._build_locked(name, build, rebuild)
        except asyncio.CancelledError:
            # Closing leaves the attempt on record, so that it is taken up again.
            if build.cancelled:
                await self._forget_attempt(name, Failure(at=time.time()))
            raise
        except BuildFailed as error:
            failure = Failure(
                at=time.time(), started_at=build.started_at, explanation=error.explanation
            )
            await self._forget_attempt(name, failure)
        except Exception as error:
            _LOGGER.exception("building the runtime %s", name)
            await self._forget_attempt(name, _unexpected(error, self._dir / name / LOG))

    async def _build_locked(self, name: str, build: "_Running", rebuild: bool) -> None:
        folder = self._dir / name
        # Another process may have built it while this one waited for the lock.
        record = await asyncio.to_thread(read_record, folder)
        definition = self._definitions()[name]
        if record.built and record.built.fingerprint == fingerprint(definition) and not rebuild:
            self._records[name] = msgspec.structs.replace(record, attempt=None)
            return
        attempt = Attempt(
            folder=f"{_ENVIRONMENT}{time.time_ns():x}",
            started_at=record.attempt.started_at if record.attempt else build.started_at,
        )
        build.started_at = attempt.started_at
        await self._remember(name, msgspec.structs.replace(record, attempt=attempt))
        await asyncio.to_thread(self._clear_away, folder, self._records[name])
        order = BuildOrder(
            definition=definition,
            installer=self._installer(),
            cpu_flags=(await asyncio.to_thread(self._machine)).cpu_flags,
            folder=folder / attempt.folder,
            work=folder,
            log=folder / LOG,
            environment=self._installer_environment,
        )
        await asyncio.to_thread(
            append_log, order.log, f"--- {time.strftime('%F %T')} building {name}"
        )
        built = await build_runtime(order, build.show)
        built = msgspec.structs.replace(built, started_at=attempt.started_at)
        await self._remember(name, RuntimeRecord(built=built))
        await asyncio.to_thread(self._clear_away, folder, self._records[name])

    async def _forget_attempt(self, name: str, failure: Failure) -> None:
        record = msgspec.structs.replace(
            self._records.get(name, RuntimeRecord()), attempt=None, failure=failure
        )
        with contextlib.suppress(OSError):
            await self._remember(name, record)
        await asyncio.to_thread(self._clear_away, self._dir / name, record)

    @staticmethod
    def _clear_away(folder: Path, record: RuntimeRecord) -> None:
        """Removes environments that are neither the built one nor in use."""
        if not folder.is_dir():
            return
        keep = {record.built.folder if record.built else None}
        for path in folder.iterdir():
            stale = path.name.startswith(_ENVIRONMENT) and path.name not in keep
            if path.name.startswith(TRASH_PREFIX):
                shutil.rmtree(path, ignore_errors=True)
            elif stale and not process_using(path) and (gone := trash(path)):
                shutil.rmtree(gone, ignore_errors=True)

    def _lock_path(self, name: str) -> Path:
        return self._dir / f".{name}.lock"


class _Running:
    """A build under way: its live progress, shown ten times a second at most."""

    task: asyncio.Task[None]

    def __init__(self, publish: Callable[[], None]) -> None:
        self.listeners: list[Listener] = []
        self.progress = Progress("Starting")
        self.started_at = time.time()
        self.cancelled = False
        self._publish = publish
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def show(self, progress: Progress) -> None:
        self.progress = progress
        wait = self._last + _CHANGE_EVERY_S - time.monotonic()
        if wait <= 0:
            self.publish_now()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self.publish_now)

    def publish_now(self) -> None:
        self.close()
        self._last = time.monotonic()
        self._publish()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _unexpected(error: Exception, log: Path) -> Failure:
    cause = error.message if isinstance(error, MeshtuiError) else f"{type(error).__name__}: {error}"
    return Failure(at=time.time(), explanation=Explanation(cause=cause, fix=f"The log is {log}."))


def process_using(folder: Path) -> int | None:
    """A process that was started from below the folder (its command line says so), or None."""
    needle = os.fsencode(str(folder)) + b"/"
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(argument.startswith(needle) for argument in arguments):
                return int(entry.name)
    return None

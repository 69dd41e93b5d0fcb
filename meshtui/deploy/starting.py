"""How a server gets from queued to ready: runtime, model, engine, and waiting for its answer."""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec

from meshtui.deploy.local import (
    EngineCommand,
    EngineProcess,
    SupervisorRecord,
    keep_previous_log,
)
from meshtui.deploy.log_phases import read_log
from meshtui.deploy.logtail import LogTail, log_end
from meshtui.deploy.process import free_port
from meshtui.deploy.records import write_key
from meshtui.deploy.runtime_types import InstalledRuntime, RuntimeProvider
from meshtui.deploy.server import Server
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import StartFailed
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import BuildPhase, RuntimeStatus
from meshtui.domain.server import Explanation, Phase
from meshtui.domain.task import Engine, EngineChoice
from meshtui.domain.text import sanitise
from meshtui.engines.base import EngineAdapter, EngineDecision, LaunchRequest, LogReader, Machine

# While an engine starts, nobody can be told by its log: it is looked at.
_LOG_INTERVAL_S = 0.1
_PROBE_INTERVAL_S = 0.25
_PROVIDER_PATIENCE_S = 0.2
# A busy engine answers late, a hanging one never.
_RECHECK_TIMEOUT_S = 30.0
# Not for engines: they need no token, and a foreign Python path breaks them.
_NOT_INHERITED = frozenset(
    ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
)
# Beginnings of the failure catalogue's names.
_OTHER_ENGINE_HELPS = (
    *("arch-", "quant-", "driver-", "gpu-libcuda", "gpu-no", "library-", "module-", "package-"),
    *("crashed", "illegal-instruction", "engine-init-failed", "engine-timeout", "vllm-shm"),
)
PORT_IN_USE = "port-in-use"

Explain = Callable[[int | None, str], Explanation]
ChooseEngine = Callable[[Path, EnabledModel, EngineChoice, RuntimeStatus, Machine], EngineDecision]


class ModelProvider(Protocol):
    """Whoever can give the folder of a model."""

    async def ensure(
        self,
        ref: ModelRef,
        connection: Connection,
        runtime: InstalledRuntime,
        on_progress: Callable[[float | None, str], None],
    ) -> Path:
        """The model's folder, fetched first where it is not there; raises `MeshtuiError`."""
        ...


class EngineDidNotStart(StartFailed):
    """One engine ended, or did not answer in time. `explanation` is always there."""

    def __init__(self, explanation: Explanation) -> None:
        super().__init__(explanation.cause, hint=explanation.fix, explanation=explanation)
        self.why = explanation


class StoppedElsewhere(Exception):
    """Not this manager, but another one or a person, asked the supervisor to stop."""


class Starter:
    """Starts engines, and goes on with starts that another controller began."""

    def __init__(
        self,
        *,
        runtimes: RuntimeProvider,
        models: ModelProvider,
        adapter: Callable[[Engine], EngineAdapter],
        choose_engine: ChooseEngine,
        machine: Callable[[], Machine],
        explain: Explain,
    ) -> None:
        self._runtimes = runtimes
        self._models = models
        self._adapter = adapter
        self._choose_engine = choose_engine
        self._machine = machine
        self._explain = explain

    async def start(self, server: Server, session: aiohttp.ClientSession) -> None:
        """Returns when the server answers. Raises `MeshtuiError`; then nothing of it runs.
        Cancelled, it leaves `server.process` to whoever cancelled it."""
        installed = await self._runtime(server)
        model_dir = await self._model(server, installed)
        connection, enabled = server.record.connection, server.record.enabled
        machine = await asyncio.to_thread(self._machine)
        decision = await asyncio.to_thread(
            self._choose_engine,
            model_dir,
            enabled,
            enabled.engine or connection.engine_completion,
            installed.status,
            machine,
        )
        server.keep(model_dir=str(model_dir), engine=decision.engine, fallback=decision.fallback)
        server.change(engine=decision.engine, engine_reason=decision.reason)
        for lost in decision.lost:
            server.add_notice(lost)
        await self._attempts(server, session, installed, machine)

    async def resume(self, server: Server, session: aiohttp.ClientSession) -> None:
        """As `start`, for a start whose engine is already running."""
        try:
            await self._until_ready(server, session)
        except EngineDidNotStart as failure:
            if not self._fall_back(server, failure):
                raise
            installed = await self._runtime(server)
            machine = await asyncio.to_thread(self._machine)
            await self._attempts(server, session, installed, machine)

    async def recheck(self, server: Server, session: aiohttp.ClientSession) -> None:
        """As `start`, for a server that was ready: whether it answers, and knows our key."""
        assert server.record.engine is not None
        adapter = self._adapter(server.record.engine)
        try:
            async with asyncio.timeout(_RECHECK_TIMEOUT_S):
                await _answers(adapter, session, base_url(server))
                headers = adapter.headers(server.key)
                async with session.get(f"{base_url(server)}/v1/models", headers=headers) as answer:
                    refused = answer.status in (401, 403)
        except (aiohttp.ClientError, TimeoutError):
            refused = True
        if refused:
            raise EngineDidNotStart(
                Explanation(
                    cause="The engine of an earlier controller did not answer any more.",
                    fix="Start it again.",
                )
            )

    async def _attempts(
        self,
        server: Server,
        session: aiohttp.ClientSession,
        installed: InstalledRuntime,
        machine: Machine,
    ) -> None:
        port_tried_again = False
        while True:
            try:
                await self._launch(server, installed, machine)
                await self._until_ready(server, session)
                return
            except EngineDidNotStart as failure:
                if failure.why.failure_id == PORT_IN_USE and not port_tried_again:
                    port_tried_again = True
                    server.add_notice("Another program took the port: started again on another.")
                elif not self._fall_back(server, failure):
                    raise

    def _fall_back(self, server: Server, failure: EngineDidNotStart) -> bool:
        """Turns to the other engine; False where there is none, or where it would not help."""
        engine, fallback = server.record.engine, server.record.fallback
        if engine is None or fallback is None or not _is_engines_own(failure.why):
            return False
        said = f"{engine.label} did not start: {failure.why.cause}"
        server.keep(engine=fallback, fallback=None)
        server.change(engine=fallback, engine_reason=f"{said} So {fallback.label} serves it.")
        server.add_notice(f"{said} Trying {fallback.label} instead.")
        return True

    async def _runtime(self, server: Server) -> InstalledRuntime:
        def on_change(runtime: RuntimeStatus) -> None:
            if runtime.phase is BuildPhase.BUILDING:
                server.enter(Phase.BUILDING_RUNTIME)
                server.report(runtime.progress, runtime.step)

        return await self._runtimes.ensure(server.record.connection.runtime, on_change)

    async def _model(self, server: Server, installed: InstalledRuntime) -> Path:
        def on_progress(progress: float | None, message: str) -> None:
            server.enter(Phase.FETCHING_MODEL, message)
            server.report(progress, message)

        # A model that is already there is no phase worth showing.
        late = asyncio.get_running_loop().call_later(
            _PROVIDER_PATIENCE_S, server.enter, Phase.FETCHING_MODEL
        )
        try:
            return await self._models.ensure(
                ModelRef.parse(server.record.enabled.model),
                server.record.connection,
                installed,
                on_progress,
            )
        finally:
            late.cancel()

    async def _launch(self, server: Server, installed: InstalledRuntime, machine: Machine) -> None:
        record = server.record
        assert record.engine is not None
        request = LaunchRequest(
            model=record.enabled.model,
            model_dir=Path(record.model_dir),
            enabled=record.enabled,
            runtime=installed.status,
            python=installed.python,
            machine=machine,
            port=free_port(),
            api_key=secrets.token_urlsafe(32),
        )
        launch = await asyncio.to_thread(self._adapter(record.engine).launch, request)
        nonce = secrets.token_hex(8)
        server.key = request.api_key
        server.keep(
            nonce=nonce,
            deadline=time.time() + launch.start_timeout_s,
            grace_s=launch.grace_s,
        )
        server.change(
            port=request.port,
            command=tuple(sanitise(part) for part in launch.argv),
            context_length=launch.context_length,
            engine_version=launch.engine_version,
        )
        if server.phase.is_starting:
            server.enter(Phase.STARTING, f"Starting {record.engine.label}")
        command = EngineCommand(
            server_id=server.status.id,
            nonce=nonce,
            argv=launch.argv,
            environment={
                **{k: v for k, v in os.environ.items() if k not in _NOT_INHERITED},
                **installed.environment,
                **launch.environment,
            },
            port=request.port,
            grace_s=launch.grace_s,
        )
        await asyncio.to_thread(_prepare_folder, server.folder, request.api_key)
        await server.saved()
        await self._spawn(server, command)

    async def _spawn(self, server: Server, command: EngineCommand) -> None:
        spawning = asyncio.ensure_future(EngineProcess.spawn(server.folder, command))
        try:
            server.process = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            # A moment more, so that whoever cancelled this finds the process.
            server.process = await spawning
            raise
        server.change(pid=server.process.record.engine_pid)

    async def _until_ready(self, server: Server, session: aiohttp.ClientSession) -> None:
        process, engine = server.process, server.record.engine
        assert process is not None and engine is not None
        adapter = self._adapter(engine)
        enough = asyncio.Event()
        following = asyncio.ensure_future(_follow(server, adapter.log_reader(), enough))
        answering = asyncio.ensure_future(_answers(adapter, session, base_url(server)))
        ending = asyncio.ensure_future(process.exited())
        try:
            await asyncio.wait(
                {answering, ending},
                timeout=max(0.0, server.record.deadline - time.time()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if ending.done():
                if ending.result().was_stopped:
                    server.process = None
                    raise StoppedElsewhere
                raise EngineDidNotStart(await self.why_ended(server, ending.result()))
            if answering.done():
                answering.result()
                return
            await process.end(grace_s=None)
            raise EngineDidNotStart(await self._why_late(server))
        finally:
            enough.set()
            answering.cancel()
            ending.cancel()
            await asyncio.wait({following, answering, ending})

    async def why_ended(self, server: Server, record: SupervisorRecord) -> Explanation:
        """Why an engine that nobody stopped is gone."""
        server.process = None
        if record.state != "exited":
            return Explanation(
                cause="The server's supervisor was killed, and its engine with it.",
                fix="Start it again.",
                failure_id="supervisor-killed",
            )
        log = await asyncio.to_thread(log_end, server.folder)
        return await asyncio.to_thread(self._explain, record.exit_code, log)

    async def _why_late(self, server: Server) -> Explanation:
        server.process = None
        current = server.status.current
        doing = f" Its last word: {current.message}." if current and current.message else ""
        log = await asyncio.to_thread(log_end, server.folder)
        found = await asyncio.to_thread(self._explain, None, log)
        return msgspec.structs.replace(
            found,
            cause=f"The engine did not answer in time.{doing}",
            fix="Read the log; start it again when the machine is less busy."
            if found.failure_id is None
            else found.fix,
        )


def base_url(server: Server) -> str:
    """Where its engine listens."""
    return f"http://127.0.0.1:{server.status.port}"


def _prepare_folder(folder: Path, key: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keep_previous_log(folder)
    write_key(folder, key)


def _is_engines_own(why: Explanation) -> bool:
    """Whether another engine may do better. A wrong setting, too little memory or a kill are to
    be seen to, not to be worked around on a slower engine."""
    return why.failure_id is None or why.failure_id.startswith(_OTHER_ENGINE_HELPS)


async def _answers(adapter: EngineAdapter, session: aiohttp.ClientSession, url: str) -> None:
    while not await adapter.is_ready(session, url):  # noqa: ASYNC110 (nobody could set an event)
        await asyncio.sleep(_PROBE_INTERVAL_S)


async def _follow(server: Server, reader: LogReader, enough: asyncio.Event) -> None:
    """Turns the log into phases until it is enough; then reads it once more, as the last lines
    may hold the context length."""
    tail = LogTail(server.folder)
    try:
        last = False
        while not last:
            last = enough.is_set()
            read_log(server, reader, await asyncio.to_thread(tail.read))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOG_INTERVAL_S):
                    await enough.wait()
    finally:
        tail.close()

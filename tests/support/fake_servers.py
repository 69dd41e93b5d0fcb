"""A real `ServerManager` whose engines are `tests/fake_engine.py`: everything is real but the
tensors, so a start takes a third of a second.

Give options of the fake engine in an enabled model's `extra_engine_args`.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meshtui.deploy.runtime_types import InstalledRuntime
from meshtui.deploy.servers import ServerManager
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import BuildPhase, RuntimeStatus
from meshtui.domain.server import ServerStatus
from meshtui.domain.task import Engine, EngineChoice
from meshtui.engines.base import EngineDecision, Launch, LaunchRequest, Machine
from meshtui.engines.vllm import VllmAdapter

FAKE_ENGINE = Path(__file__).parent.parent / "fake_engine.py"
MODEL = "fake-org/fake-model"
CONNECTION_VARIABLE = "FAKE_CONNECTION"
# A name of this run alone: servers are named by connection and model, and are looked for in the
# process table, where other runs may have theirs.
CONNECTION = Connection(name=os.environ.get(CONNECTION_VARIABLE) or f"local-{os.getpid()}")


class FakeAdapter(VllmAdapter):
    """vLLM's adapter, but for what it starts. `options` go to every engine it starts."""

    def __init__(self, engine: Engine = Engine.VLLM, *options: str) -> None:
        self.engine = engine  # type: ignore[assignment]
        self.options = options
        self.start_timeout_s = 60.0
        self.grace_s = 5.0
        self.ports: list[int] = []
        """Ports to start on, the next one first; when empty, the one that was asked for."""

    def launch(self, request: LaunchRequest) -> Launch:
        port = self.ports.pop(0) if self.ports else request.port
        return Launch(
            argv=(
                *(sys.executable, str(FAKE_ENGINE), "--port", str(port)),
                *("--model", request.model),
                *self.options,
                *request.enabled.extra_engine_args,
            ),
            environment={
                "FAKE_ENGINE_KEY": request.api_key,
                **request.enabled.engine_environment,
            },
            start_timeout_s=self.start_timeout_s,
            grace_s=self.grace_s,
        )


class ReadyRuntime:
    """A `RuntimeProvider` whose runtime is there; with `gate`, after a build that lasts until
    the gate is set."""

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.gate = gate
        self.asked = 0

    async def ensure(
        self, name: str | None, on_change: Callable[[RuntimeStatus], None]
    ) -> InstalledRuntime:
        self.asked += 1
        if self.gate is not None:
            on_change(
                RuntimeStatus(
                    name="cpu", phase=BuildPhase.BUILDING, progress=0.25, step="installing torch"
                )
            )
            await self.gate.wait()
        status = RuntimeStatus(name=name or "cpu", phase=BuildPhase.READY)
        return InstalledRuntime(python=Path(sys.executable), status=status)


class ReadyModel:
    """A `ModelProvider` whose model is there; with `gate`, after a download that lasts until the
    gate is set; with `error`, it raises that."""

    def __init__(
        self, folder: Path, gate: asyncio.Event | None = None, error: Exception | None = None
    ) -> None:
        self.folder = folder
        self.gate = gate
        self.error = error

    async def ensure(
        self,
        ref: ModelRef,
        connection: Connection,
        runtime: InstalledRuntime,
        on_progress: Callable[[float | None, str], None],
    ) -> Path:
        if self.gate is not None:
            on_progress(0.5, "half of it")
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.folder


def enabled(*options: str, **fields: Any) -> EnabledModel:
    """The fake model, with options of the fake engine."""
    return EnabledModel(model=fields.pop("model", MODEL), extra_engine_args=options, **fields)


def make_manager(
    servers_dir: Path,
    *,
    on_change: Callable[[ServerStatus], None] = lambda status: None,
    on_removed: Callable[[str], None] = lambda server_id: None,
    adapters: dict[Engine, FakeAdapter] | None = None,
    fallback: Engine | None = None,
    **more: Any,
) -> ServerManager:
    """A manager of fake engines; `fallback` is what AUTO may turn to."""
    known = adapters or {engine: FakeAdapter(engine) for engine in Engine}

    def choose(
        model_dir: Path,
        enabled: EnabledModel,
        choice: EngineChoice,
        runtime: RuntimeStatus,
        machine: Machine,
    ) -> EngineDecision:
        engine = Engine.VLLM if choice is EngineChoice.AUTO else Engine(choice.value)
        return EngineDecision(engine=engine, reason="It is a fake.", fallback=fallback)

    return ServerManager(
        servers_dir=servers_dir,
        runtimes=more.pop("runtimes", ReadyRuntime()),
        models=more.pop("models", ReadyModel(servers_dir)),
        on_change=on_change,
        on_removed=on_removed,
        adapter=known.__getitem__,
        choose_engine=more.pop("choose_engine", choose),
        machine=Machine,
        **more,
    )

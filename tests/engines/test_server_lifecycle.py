"""The server's life with the real vLLM, which is no well-behaved child: it ignores SIGTERM while
it starts, and leaves gigabytes behind when its parent is killed."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from meshtui.deploy.local import read_record
from meshtui.deploy.runtime_types import InstalledRuntime
from meshtui.deploy.servers import ServerManager, server_id
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import StartFailed
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import BuildPhase, Package, RuntimeStatus
from meshtui.domain.server import Phase, ServerStatus
from meshtui.domain.task import Engine
from tests.support.processes import marked
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CONNECTION = Connection(name=f"local-{os.getpid()}")
ENABLED = EnabledModel(model=MODEL, max_tokens=2048)
ID = server_id(CONNECTION.name, MODEL)
START_TIMEOUT_S = 240.0

_LIST_PACKAGES = """
from importlib.metadata import distributions
for one in distributions():
    print(one.metadata["Name"], one.version)
"""


class Runtime:
    """The test runtime as a `RuntimeProvider`."""

    def __init__(self, python: Path) -> None:
        self._python = python

    async def ensure(
        self, name: str | None, on_change: Callable[[RuntimeStatus], None]
    ) -> InstalledRuntime:
        listing = await asyncio.to_thread(
            subprocess.check_output, [self._python, "-c", _LIST_PACKAGES], text=True
        )
        packages = tuple(Package(*line.split()) for line in listing.splitlines())
        status = RuntimeStatus(name="cpu", phase=BuildPhase.READY, packages=packages)
        return InstalledRuntime(python=self._python, status=status)


class Model:
    """A folder as a `ModelProvider`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def ensure(
        self,
        ref: ModelRef,
        connection: Connection,
        runtime: InstalledRuntime,
        on_progress: Callable[[float | None, str], None],
    ) -> Path:
        return self._folder


@pytest.fixture
async def manager(
    tmp_path: Path, engine_python: Path, smollm2_dir: Path
) -> AsyncIterator[ServerManager]:
    manager = ServerManager(
        servers_dir=tmp_path / "servers",
        runtimes=Runtime(engine_python),
        models=Model(smollm2_dir),
        on_change=lambda status: None,
        on_removed=lambda server_id: None,
    )
    await manager.open()
    yield manager
    for status in manager.list():
        await manager.stop(status.id)
    await manager.close()
    assert not marked(ID)


def shared_memory() -> set[Path]:
    """The files of shared memory that the server's processes have mapped."""
    lines = [
        line for pid in marked(ID) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
    ]
    paths = [Path(line.split(None, 5)[5]) for line in lines if "/dev/shm/" in line]
    return {path for path in paths if path.exists()}


def ignore(status: ServerStatus) -> None:
    pass


async def loading(manager: ServerManager) -> ServerStatus:
    """A start that has reached its engine core: all processes are there or come."""
    await manager.start(CONNECTION, ENABLED)
    await eventually(
        lambda: len(marked(ID)) >= 3 and "EngineCore pid" in manager.log_path(ID).read_text(),
        "vLLM's engine core is starting",
        START_TIMEOUT_S,
    )
    return manager.get(ID)


async def over(manager: ServerManager) -> ServerStatus:
    await eventually(lambda: manager.get(ID).phase.is_over, "it is over", 30.0)
    assert not marked(ID)
    return manager.get(ID)


async def test_from_start_to_ready_to_a_killed_engine(manager: ServerManager) -> None:
    begin = time.monotonic()
    server = await manager.ready(CONNECTION, ENABLED, ignore)
    started_s = time.monotonic() - begin
    status = manager.get(ID)
    assert server.engine is Engine.VLLM
    assert [record.phase.value for record in status.phases] == [
        "Queued",
        "Starting",
        "LoadingWeights",
        "Warming",
        "Ready",
    ]
    assert status.context_length == 2048 and status.engine_version
    assert len(marked(ID)) >= 3
    await eventually(lambda: manager.get(ID).memory_bytes, "its memory")
    memory_bytes = manager.get(ID).memory_bytes or 0
    assert memory_bytes > 1e9  # the worker's too, not only the API server's
    print(f"ready after {started_s:.1f} s, {memory_bytes / 1e9:.2f} GB, {len(marked(ID))} pids")
    mapped = shared_memory()
    assert mapped  # or this test would show nothing
    assert status.pid
    os.kill(status.pid, signal.SIGKILL)
    begin = time.monotonic()
    status = await over(manager)
    print(f"all gone {time.monotonic() - begin:.2f} s after kill -9 of the engine")
    assert status.phase is Phase.FAILED
    assert status.explanation and status.explanation.failure_id == "killed"
    assert not [path for path in mapped if path.exists()]


async def test_a_start_is_stopped_quickly(manager: ServerManager) -> None:
    await loading(manager)
    begin = time.monotonic()
    status = await manager.stop(ID)
    took_s = time.monotonic() - begin
    print(f"stopped during its start in {took_s:.2f} s")
    assert status.phase is Phase.STOPPED and took_s < 3.0
    assert not marked(ID)


async def test_nothing_outlives_a_supervisor_killed_while_loading(
    manager: ServerManager, tmp_path: Path
) -> None:
    await loading(manager)
    waiting = asyncio.ensure_future(manager.ready(CONNECTION, ENABLED, ignore))
    record = read_record(tmp_path / "servers" / ID)
    assert record
    begin = time.monotonic()
    os.kill(record.pid, signal.SIGKILL)
    status = await over(manager)
    print(f"all gone {time.monotonic() - begin:.2f} s after kill -9 of the supervisor")
    assert status.phase is Phase.FAILED
    with pytest.raises(StartFailed, match="supervisor"):
        await waiting


async def test_a_ready_server_stops_gracefully(manager: ServerManager) -> None:
    await manager.ready(CONNECTION, ENABLED, ignore)
    mapped = shared_memory()
    begin = time.monotonic()
    status = await manager.stop(ID)
    print(f"stopped when ready in {time.monotonic() - begin:.2f} s")
    assert status.phase is Phase.STOPPED and not marked(ID)
    assert mapped and not [path for path in mapped if path.exists()]


async def test_a_wrong_setting_is_explained(manager: ServerManager) -> None:
    wrong = EnabledModel(model=MODEL, max_tokens=10_000_000)
    with pytest.raises(StartFailed) as failure:
        await manager.ready(CONNECTION, wrong, ignore)
    explanation = failure.value.explanation
    assert explanation and explanation.failure_id == "max-len-over-model"
    assert manager.get(ID).engine is Engine.VLLM

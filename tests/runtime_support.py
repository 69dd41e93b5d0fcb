"""The real runtime and the real model for tests, built once into a folder that lasts."""

import os
from pathlib import Path

from meshtui.cache.store import ModelStore
from meshtui.deploy.definitions import shipped_definitions
from meshtui.deploy.models import ModelShelf
from meshtui.deploy.runtime_types import InstalledRuntime
from meshtui.deploy.runtimes import RuntimeManager
from meshtui.domain.connection import Connection
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import RuntimeStatus
from meshtui.engines.base import Machine


def cpu_machine() -> Machine:
    """What the runtimes need to know of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return Machine(cpu_flags=frozenset(flags.partition(":")[2].split()))


def installer_caches(cache: Path) -> dict[str, str]:
    """Where installers keep what they fetched: not in the home of a single test."""
    return {
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(cache / "uv")),
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(cache / "pip")),
    }


async def build_cpu_runtime(cache: Path) -> InstalledRuntime:
    """The shipped `cpu` runtime below `cache`; several test runs may ask at the same time."""
    steps: list[str] = []

    def show(status: RuntimeStatus) -> None:
        if status.step and [status.step] != steps[-1:]:
            steps.append(status.step)
            if os.environ.get("MESHTUI_TEST_VERBOSE"):
                print(f"{status.progress or 0:5.0%} {status.step}", flush=True)

    manager = RuntimeManager(
        runtimes_dir=cache / "runtimes",
        definitions=shipped_definitions,
        on_change=show,
        machine=cpu_machine,
        installer_environment=installer_caches(cache),
    )
    await manager.open()
    try:
        # An older definition's runtime serves people on; tests are of the one that is shipped.
        if manager.get("cpu").outdated:
            await manager.build("cpu", rebuild=True)
        return await manager.ensure("cpu", lambda status: None)
    finally:
        await manager.close()


async def smollm2(cache: Path, runtime: InstalledRuntime) -> Path:
    """The folder of SmolLM2-135M-Instruct below `cache`, fetched or converted if need be."""

    def show(fraction: float | None, message: str) -> None:
        if os.environ.get("MESHTUI_TEST_VERBOSE"):
            print(f"{fraction or 0:5.0%} {message}", flush=True)

    shelf = ModelShelf(ModelStore(cache / "models"), installer_environment=installer_caches(cache))
    await shelf.open()
    try:
        return await shelf.ensure(
            ModelRef.parse("HuggingFaceTB/SmolLM2-135M-Instruct"),
            Connection(name="tests"),
            runtime,
            show,
        )
    finally:
        await shelf.close()

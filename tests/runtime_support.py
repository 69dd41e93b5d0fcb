"""The real runtime and the real model for tests, built once into a folder that lasts."""

import os
from pathlib import Path

from meshtui.deploy.definitions import shipped_definitions
from meshtui.deploy.runtime_types import InstalledRuntime
from meshtui.deploy.runtimes import RuntimeManager
from meshtui.domain.runtime import RuntimeStatus
from meshtui.engines.base import Machine


def cpu_machine() -> Machine:
    """What the runtimes need to know of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return Machine(cpu_flags=frozenset(flags.partition(":")[2].split()))


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
        installer_environment={
            "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(cache / "uv")),
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(cache / "pip")),
        },
    )
    await manager.open()
    try:
        return await manager.ensure("cpu", lambda status: None)
    finally:
        await manager.close()

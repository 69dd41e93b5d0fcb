"""On which engine a cached model would run here, in one sentence."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.model_cache import CacheEntry
from meshtui.domain.runtime import BuildPhase, RuntimeStatus
from meshtui.domain.task import Task
from meshtui.domain.text import one_line
from meshtui.engines.base import Machine
from meshtui.engines.select import choose_engine

_ANYWHERE = Connection(name="")


def verdict(
    entry: CacheEntry,
    model_dir: Path,
    connections: Mapping[str, Connection],
    runtimes: Sequence[RuntimeStatus],
    machine: Callable[[], Machine],
) -> str:
    """As the first connection that enables the model would decide, else as one with nothing set
    would. Blocks: it reads the model's JSON files and may ask the driver."""
    connection, enabled = _enabled(entry, connections)
    hardware = machine()
    name = connection.runtime or ("gpu" if hardware.gpu_count else "cpu")
    runtime = next((runtime for runtime in runtimes if runtime.name == name), None)
    if runtime is None:
        return f"The runtime {name} decides, and there is none of that name."
    if runtime.phase is not BuildPhase.READY:
        return f"The runtime {name} decides; it is not built yet."
    choice = enabled.engine or connection.engine_completion
    try:
        decision = choose_engine(model_dir, enabled, choice, runtime, hardware)
    except MeshtuiError as error:
        return one_line(error.message, 1000)
    return one_line(f"{decision.engine.label} on the runtime {name}. {decision.reason}", 1000)


def _enabled(
    entry: CacheEntry, connections: Mapping[str, Connection]
) -> tuple[Connection, EnabledModel]:
    for connection in connections.values():
        for enabled in connection.enabled_models:
            if enabled.model == entry.model:
                return connection, enabled
    task = next((task for task in Task if task.value == entry.task), Task.TEXT_GENERATION)
    return _ANYWHERE, EnabledModel(model=entry.model, task=task)

"""Keeps what servers log of their memory when they become ready."""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from meshtui.domain.connection import Connection
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.server import Phase, ServerStatus
from meshtui.domain.task import Engine
from meshtui.engines.gpus_here import GpusHere
from meshtui.engines.measured import (
    Case,
    Measured,
    MeasuredStore,
    minor_release,
    read_measured,
)

_LOGGER = logging.getLogger(__name__)
# What is said of memory stands at the beginning.
_MOST_LOG_BYTES = 8 * 1024 * 1024


class Measuring:
    """Reads the log of each server that became ready, once a start."""

    def __init__(
        self,
        store: MeasuredStore,
        connections: Callable[[], Mapping[str, Connection]],
        gpus: Callable[[], Awaitable[GpusHere]],
    ) -> None:
        self._store = store
        self._connections = connections
        self._gpus = gpus
        self._noted: dict[str, float | None] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    def find(self, case: Case) -> Measured | None:
        """Blocks for a moment, the first time."""
        return self._store.find(case)

    async def close(self) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def note(self, status: ServerStatus, log: Callable[[], Path]) -> None:
        """A server changed."""
        if status.phase is not Phase.READY or status.engine is not Engine.VLLM:
            return
        if status.id in self._noted and self._noted[status.id] == status.ready_at:
            return
        self._noted[status.id] = status.ready_at
        task = asyncio.create_task(self._read(status, log()), name="measured")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def forget(self, server_id: str) -> None:
        """A server is no more."""
        self._noted.pop(server_id, None)

    async def _read(self, status: ServerStatus, log: Path) -> None:
        try:
            connection = self._connections().get(status.connection)
            models = connection.enabled_models if connection else ()
            settings = next((one for one in models if one.model == status.model), None)
            here = await self._gpus()
            # What other settings led to says nothing of ordinary starts.
            if settings is None or settings.extra_engine_args or not here.gpus:
                return
            case = Case(
                model=status.model,
                gpu=here.gpus[0].spec.label,
                gpu_count=settings.tensor_parallel_size,
                engine_version=minor_release(status.engine_version or ""),
                quantization=settings.quantization,
            )
            await asyncio.to_thread(functools.partial(self._keep, case, log))
        except (OSError, MeshtuiError) as error:
            _LOGGER.warning("what %s logged of its memory is not kept: %s", status.id, error)

    def _keep(self, case: Case, log: Path) -> None:
        with log.open("rb") as file:
            lines = file.read(_MOST_LOG_BYTES).decode("utf-8", "replace").splitlines()
        found = read_measured(case, lines, time.time())
        if found is not None:
            self._store.put(found)

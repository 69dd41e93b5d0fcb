"""Keeps the servers' memory up to date, often while something happens, seldom else."""

import asyncio
from collections.abc import Callable, Iterable

from meshtui.deploy.server import Server
from meshtui.domain.server import Phase

_BUSY_INTERVAL_S = 5.0
# A look costs some milliseconds for each GB, and an idle server's memory hardly changes.
_IDLE_INTERVAL_S = 60.0
_TOLD_CHANGE = 0.05


class MemoryWatch:
    """Samples while there are processes; idle without any."""

    def __init__(self, servers: Callable[[], Iterable[Server]]) -> None:
        self._servers = servers
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Looks at once, and again and again while there are processes."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch())
        else:
            self._wake.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _watch(self) -> None:
        while living := [s for s in self._servers() if not s.phase.is_over]:
            for server in living:
                await self._sample(server)
            busy = any(s.phase is not Phase.READY or s.status.active_requests for s in living)
            self._wake.clear()
            try:
                async with asyncio.timeout(_BUSY_INTERVAL_S if busy else _IDLE_INTERVAL_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _sample(self, server: Server) -> None:
        process = server.process
        if process is None:
            return
        now_bytes = await asyncio.to_thread(process.memory_bytes)
        before_bytes = server.status.memory_bytes or 0
        if server.process is process and abs(now_bytes - before_bytes) > _TOLD_CHANGE * now_bytes:
            server.change(memory_bytes=now_bytes)

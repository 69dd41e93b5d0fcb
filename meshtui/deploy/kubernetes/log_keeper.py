"""Keeps the log of a server's engine on disk: that of its present run, and of the run before."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from meshtui.deploy.kubernetes.objects import SERVER_CONTAINER
from meshtui.deploy.kubernetes.pod_log import PodLog
from meshtui.deploy.kubernetes.spaces import Space
from meshtui.deploy.local import LOG_NAME, OLDER_LOG_NAME, keep_previous_log
from meshtui.deploy.log_phases import read_log
from meshtui.deploy.server import Server
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.task import Engine
from meshtui.engines.registry import adapter

# An ended container's log comes at once; a node that is gone never gives it.
_REST_TIMEOUT_S = 10.0

_log = logging.getLogger(__name__)


class LogKeeper:
    """Follows the log while the engine starts, and reads the phases of its server from it; and
    while somebody else reads it: a ready server costs no connection."""

    def __init__(self, server: Server, space: Space) -> None:
        self._server = server
        self._space = space
        self._reader = adapter(Engine.VLLM).log_reader()
        self._run: str | None = None
        self._goes_on = False
        self._log: PodLog | None = None
        self._following: asyncio.Task[None] | None = None
        self._work: asyncio.Task[None] | None = None
        self._readers = 0
        self._is_starting = False

    def see(self, pod: str, run: str, *, goes_on: bool) -> None:
        """The engine's newest run, also where it was over before it was seen. What is on disk of
        this very run is read anew."""
        if run != self._run:
            self._run, self._goes_on = run, True
            self._is_starting = True
            self._reader = adapter(Engine.VLLM).log_reader()
            self._then(functools.partial(self._begin, pod, run))
        if not goes_on:
            self.end()

    def end(self) -> None:
        """The run is over."""
        if self._goes_on:
            self._goes_on = False
            self._then(functools.partial(self._end, is_followed=False))

    def forget(self) -> None:
        """A new start begins: whatever run is seen is another one."""
        self._run, self._goes_on = None, False

    def ready(self) -> None:
        """What comes from now on is of interest to readers only."""
        self._is_starting = False
        self._update()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """While somebody reads, the file grows with the log. It is complete at the beginning."""
        if self._work is not None:
            await asyncio.wait({self._work})
        if self._log is not None and not self._is_following:
            try:
                await self._log.catch_up()
            except MeshtuiError as error:
                self._refused(error)
        self._readers += 1
        self._update()
        try:
            yield
        finally:
            self._readers -= 1
            self._update()

    async def settled(self) -> None:
        """Returns when the log of a run that is over is complete."""
        if self._work is not None:
            await asyncio.wait({self._work})

    async def close(self) -> None:
        self._log = None
        tasks = {task for task in (self._work, self._following) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def _is_following(self) -> bool:
        return self._following is not None and not self._following.done()

    def _then(self, step: Callable[[], Awaitable[None]]) -> None:
        """Runs of the engine follow each other, and so do their logs."""
        before = self._work

        async def work() -> None:
            if before is not None:
                await asyncio.wait({before})
            try:
                await step()
            except MeshtuiError as error:
                self._refused(error)
            except OSError as error:
                _log.error("the log of %s is not kept: %s", self._server.status.id, error)

        self._work = asyncio.create_task(work(), name="log-keeper")

    async def _begin(self, pod: str, run: str) -> None:
        await self._end(is_followed=True)
        is_known = self._server.record.nonce == run
        self._server.keep(nonce=run)
        await asyncio.to_thread(self._make_room, is_known)
        cluster = await self._space.cluster()
        namespace, folder = self._space.namespace, self._server.folder
        self._log = PodLog(cluster, namespace, pod, SERVER_CONTAINER, folder, self._read_line)
        self._update()

    async def _end(self, *, is_followed: bool) -> None:
        """Reads what is left. `is_followed`: the container may have its next run already."""
        log, self._log = self._log, None
        if log is None:
            return
        log.end(previous=is_followed)
        if not self._is_following:
            self._following = asyncio.create_task(self._follow(log), name="pod-log-end")
        assert self._following is not None
        await asyncio.wait({self._following}, timeout=_REST_TIMEOUT_S)
        self._following.cancel()
        await asyncio.wait({self._following})

    def _update(self) -> None:
        wanted = self._log is not None and (self._is_starting or self._readers > 0)
        if wanted and not self._is_following:
            assert self._log is not None
            self._following = asyncio.create_task(self._follow(self._log), name="pod-log")
        elif self._log is not None and not wanted and self._is_following:
            assert self._following is not None
            self._following.cancel()

    async def _follow(self, log: PodLog) -> None:
        try:
            await log.follow()
        except MeshtuiError as error:
            self._refused(error)

    def _read_line(self, line: str) -> None:
        read_log(self._server, self._reader, (line,))

    def _refused(self, error: MeshtuiError) -> None:
        self._server.note(f"The engine's log cannot be read. {error.message}")

    def _make_room(self, is_known: bool) -> None:
        folder = self._server.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_known:
            (folder / LOG_NAME).unlink(missing_ok=True)
            (folder / OLDER_LOG_NAME).unlink(missing_ok=True)
        else:
            keep_previous_log(folder)

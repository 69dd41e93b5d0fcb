"""The running side of one server: its start, its watch, its end, and who waits for them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import aiohttp

from meshtui.deploy.server import Server
from meshtui.deploy.starting import Starter, StoppedElsewhere
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import MeshtuiError, StartFailed
from meshtui.domain.server import Explanation, Phase
from meshtui.domain.text import one_line

_log = logging.getLogger(__name__)

Way = Callable[[Server, aiohttp.ClientSession], Awaitable[None]]


class Life:
    """At most one task starts and then watches the server; at most one other stops it."""

    def __init__(self, server: Server, starter: Starter, session: aiohttp.ClientSession) -> None:
        self.server = server
        self._starter = starter
        self._session = session
        self._task: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._outcome = new_outcome()

    @property
    def is_lived(self) -> bool:
        """Whether it is starting or serving, and not on its way to stopping."""
        return self._task is not None

    @property
    def is_ready(self) -> bool:
        return self._outcome.done() and self._task is not None

    def start(self, connection: Connection, enabled: EnabledModel) -> None:
        """Begins a start unless it is lived; one that is stopping starts when that is over."""
        if self._task is not None:
            return
        stopping = self._stopping if self._stopping and not self._stopping.done() else None

        def begin() -> None:
            self.server.keep(connection=connection, enabled=enabled)
            self.server.begin()

        async def when_stopped(server: Server, session: aiohttp.ClientSession) -> None:
            if stopping is not None:
                await asyncio.wait({stopping})
                begin()
            await self._starter.start(server, session)

        if stopping is None:
            begin()
        self.take_up(when_stopped)

    def take_up(self, way: Way) -> None:
        """Lives from here: `way` leads to ready, or raises."""
        self._outcome = new_outcome()
        self._task = asyncio.get_running_loop().create_task(self._live(way))

    async def wait_ready(self) -> None:
        """Returns when this start is ready; raises `StartFailed`."""
        await asyncio.shield(self._outcome)

    def stop(self, message: str = "") -> asyncio.Task[None] | None:
        """Begins to stop it, or its start; gives the task that does, or None where it is over."""
        task, self._task = self._task, None
        if task is not None:
            self._settle(stopped_early())
        if self._stopping is not None and not self._stopping.done():
            if task is not None:
                task.cancel()  # a start that was waiting for this stop
                self._waiting = task
            return self._stopping
        if task is None and self.server.process is None:
            return None
        was_ready = self.server.phase is Phase.READY
        self.server.enter(Phase.STOPPING, message)
        grace_s = self.server.record.grace_s if was_ready else None
        loop = asyncio.get_running_loop()
        self._stopping = loop.create_task(self._end(task, grace_s, message))
        return self._stopping

    async def close(self) -> None:
        """Ends the tasks; the server's processes live on."""
        tasks = {t for t in (self._task, self._stopping, self._waiting) if t is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._settle(StartFailed("The controller ended.", hint="Try again."))
        self.server.close()
        if self.server.process is not None:
            await self.server.process.detach()

    async def _live(self, way: Way) -> None:
        server = self.server
        try:
            explanation = await self._serve(way)
        except StoppedElsewhere:
            explanation = None
        except Exception as error:
            explanation = explain_start_error(server, error)
        if server.process is not None:
            await server.process.end(grace_s=None)
        self._task = None
        server.over(explanation)
        if explanation is None:
            self._settle(stopped_early())
        else:
            self._settle(start_failed(server, explanation))

    async def _serve(self, way: Way) -> Explanation | None:
        """From the start to the end; gives why it ended, None where somebody else stopped it."""
        server = self.server
        await way(server, self._session)
        process = server.process
        assert process is not None
        if server.phase is not Phase.READY:
            server.ready()
        self._settle(None)
        record = await process.exited()
        # Who asks from now on waits for what follows.
        self._outcome = new_outcome()
        server.process = None
        if record.was_stopped:
            return None
        return await self._starter.why_ended(server, record)

    async def _end(
        self, task: asyncio.Task[None] | None, grace_s: float | None, message: str
    ) -> None:
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        if self.server.process is not None:
            await self.server.process.end(grace_s=grace_s)
        self.server.over(None, message)

    def _settle(self, error: Exception | None) -> None:
        if self._outcome.done():
            return
        if error is None:
            self._outcome.set_result(None)
        else:
            self._outcome.set_exception(error)


def new_outcome() -> asyncio.Future[None]:
    """What a start comes to, for all who wait for it."""
    outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    outcome.add_done_callback(lambda f: f.cancelled() or f.exception())  # nobody needs to wait
    return outcome


def explain_error(error: MeshtuiError) -> Explanation:
    """An error as the reason why a server failed."""
    found = getattr(error, "explanation", None)
    if isinstance(found, Explanation):
        return found
    return Explanation(cause=error.message, fix=error.hint or "Start it again.")


def explain_start_error(server: Server, error: Exception) -> Explanation:
    """Why a start ended. What nobody expected is in the controller's log as well."""
    if isinstance(error, MeshtuiError):
        return explain_error(error)
    _log.error("the start of %s failed", server.status.id, exc_info=error)
    if isinstance(error, OSError):
        return Explanation(
            cause=f"The system did not allow it: {one_line(str(error))}.",
            fix="Look at the free space and the permissions of meshtui's folders.",
        )
    return Explanation(
        cause="Something in meshtui failed while it was starting.",
        fix="Look at the controller's log, and report it.",
    )


def start_failed(server: Server, why: Explanation) -> StartFailed:
    """For those who wait for a start that failed."""
    return StartFailed(
        f"{server.status.model} did not start: {why.cause}", hint=why.fix, explanation=why
    )


def stopped_early() -> StartFailed:
    """For those who wait for a start that somebody stopped."""
    explanation = Explanation(cause="It was stopped while it was starting.", fix="Start it again.")
    return StartFailed(explanation.cause, hint=explanation.fix, explanation=explanation)

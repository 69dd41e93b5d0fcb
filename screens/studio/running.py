"""Takes in the events of the run that is on its way, and paces what is painted of it."""

from collections.abc import Callable
from contextlib import aclosing
from functools import partial

from textual.screen import Screen
from textual.worker import Worker

from meshtui.domain.errors import MeshtuiError, Unavailable

from ..before_start import may_start
from ..frame import workstation
from ..work import start
from .answer import Answer, Standing
from .block import Block

_FLUSHES_PER_S = 30
_FLUSHES_PER_TICK = 6


class Runner:
    """One run at a time. Its timers stand still while nothing is on its way."""

    def __init__(self, screen: Screen[None], ended: Callable[[Block], None]) -> None:
        self._screen = screen
        self._tell_ended = ended
        self._worker: Worker[None] | None = None
        self._flushes = 0
        self.block: Block | None = None
        self._pace = screen.set_interval(1 / _FLUSHES_PER_S, self._flush, pause=True)
        self._clock = screen.set_interval(1, self._tick, pause=True)

    def start(self, block: Block) -> None:
        """Runs the block's request."""
        self.block = block
        self._worker = start(self._screen, partial(self._consume, block), group="runs")
        self._clock.resume()

    def cancel(self) -> None:
        """Ends the run, in the engine too."""
        if self._worker is not None:
            self._worker.cancel()

    async def _consume(self, block: Block) -> None:
        """Leaving the loop closes the stream, which is what ends a run."""
        answer = block.answer
        try:
            if await self._may_start(answer):
                stream = answer.stream(workstation(self._screen).client)
                async with aclosing(stream) as events:
                    async for event in events:
                        if answer.take(event):
                            self._progress(block)
                if not answer.standing.is_over:
                    answer.fail(Unavailable("The answer ended before it was complete."))
        except (MeshtuiError, OSError) as error:
            answer.fail(error if isinstance(error, MeshtuiError) else Unavailable(str(error)))
        finally:
            answer.cancel()
            self._end(block)

    async def _may_start(self, answer: Answer) -> bool:
        request = answer.request
        if request.connection is None:
            return True
        app = workstation(self._screen)
        return await may_start(app, request.model, request.connection, answer.label)

    def _progress(self, block: Block) -> None:
        if block.answer.standing is Standing.STREAMING:
            self._pace.resume()
        block.update()

    def _end(self, block: Block) -> None:
        self.block = self._worker = None
        self._pace.pause()
        self._clock.pause()
        answer = block.answer
        if answer.server_id:
            servers = workstation(self._screen).state.servers
            answer.server = servers.get(answer.server_id, answer.server)
        if self._screen.is_mounted and block.is_attached:
            block.update()
            self._tell_ended(block)

    def _flush(self) -> None:
        """The one place where streamed text reaches a widget."""
        if self.block and self._screen in self._screen.app.screen_stack:
            self.block.flush()
            self._flushes += 1
            if self._flushes % _FLUSHES_PER_TICK == 0:
                self.block.tick()

    def _tick(self) -> None:
        if self.block and self.block.answer.standing is Standing.WAITING:
            self.block.tick()

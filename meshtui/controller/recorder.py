"""Collects one run while it goes on, and keeps it in the history."""

import asyncio
import time
from collections.abc import Callable

import msgspec

from meshtui.domain.generation import Run, RunStatus, Usage
from meshtui.domain.server import Explanation
from meshtui.domain.task import Engine
from meshtui.studio.history import History

# A controller that is killed loses at most this much of an answer.
FLUSH_EVERY_S = 1.0


class Recorder:
    """Collects an answer. It is in the history from the start, and its text is written there
    about once a second, also when the engine pauses. Without a history it is nowhere, and nobody
    is told of its end."""

    def __init__(self, run: Run, history: History | None, recorded: Callable[[Run], None]) -> None:
        self.run = run
        self.usage: Usage | None = None
        self.engine: Engine | None = None
        self.finish_reason: str | None = None
        self._history = history
        self._recorded = recorded
        self._pieces: list[str] = []
        self._flush: asyncio.TimerHandle | None = None
        self._begun = time.monotonic()
        self._asked: float | None = None
        self._first: float | None = None
        self.ended = False
        self._last: float | None = None
        if history is not None:
            history.put(run)

    def asked(self, engine: Engine) -> None:
        """The server is ready, and the engine has been asked."""
        self.engine = engine
        self._asked = time.monotonic()

    def text(self, piece: str) -> None:
        self._last = time.monotonic()
        if self._first is None:
            self._first = self._last
        self._pieces.append(piece)
        if self._flush is None and self._history is not None:
            self._flush = asyncio.get_running_loop().call_later(FLUSH_EVERY_S, self._write)

    def end(self, status: RunStatus, error: Explanation | None = None) -> Run:
        """The finished run, as it is handed to the history."""
        self.ended = True
        if self._flush is not None:
            self._flush.cancel()
        self.run = msgspec.structs.replace(
            self.run,
            status=status,
            engine=self.engine,
            answer="".join(self._pieces),
            finish_reason=self.finish_reason,
            usage=self.usage,
            wait_s=_between(self._begun, self._asked),
            ttft_s=_between(self._asked, self._first),
            duration_s=_between(self._first, self._last),
            error=error,
        )
        if self._history is not None:
            self._history.put(self.run)
            self._recorded(self.run)
        return self.run

    def _write(self) -> None:
        self._flush = None
        self._pieces = ["".join(self._pieces)]
        if self._history is not None:
            self._history.put_answer(self.run.id, self._pieces[0])


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start

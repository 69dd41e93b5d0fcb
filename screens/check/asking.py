"""One question to the checker at a time: a newer one takes the place of an older."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from textual.screen import Screen
from textual.timer import Timer

from meshtui.domain.check import CheckReport, CheckWishes
from meshtui.domain.errors import MeshtuiError

from ..frame import workstation
from ..work import start

if TYPE_CHECKING:
    from meshtui.client import ControllerClient

# An answer that comes sooner is painted together with the question.
_GLANCE_S = 0.03
# One that comes sooner replaces the one before without a word.
PATIENCE_S = 0.15


@dataclass(frozen=True)
class Case:
    """A model under wishes, and what the checker said of it."""

    model: str
    wishes: CheckWishes
    report: CheckReport | None = None
    error: MeshtuiError | None = None


class Asker:
    """`answered` is called with each answer; while keys come faster than those, it is about what
    was asked a moment ago. `waits`, with the seconds, when an answer does not come at once, when
    that takes its time (`PATIENCE_S`), and then each second."""

    def __init__(
        self,
        screen: Screen[None],
        answered: Callable[[Case], None],
        waits: Callable[[float], None],
    ) -> None:
        self._screen = screen
        self._answered, self._waits = answered, waits
        self._asked: Case | None = None
        self._running: str | None = None
        self._timer: Timer | None = None

    @property
    def asked(self) -> Case | None:
        """The newest question, until it has its answer."""
        return self._asked

    def ask(self, model: str, wishes: CheckWishes) -> None:
        """Asks at once, or next where the same model is asked about already: a key that is held
        down moves the picture, and does not ask more than can be answered."""
        self._asked = Case(model, wishes)
        if self._timer is None:
            self._wait(_GLANCE_S, time.monotonic())
        if self._running != model:
            self._running = model
            start(self._screen, self._ask, group="check", latest=True)

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self._screen.workers.cancel_group(self._screen, "check")
        self._asked = self._running = None
        self._stop_clock()

    async def _ask(self) -> None:
        # One that another model's question stopped never comes past the waiting.
        while (case := self._asked) is not None:
            answer = await ask(workstation(self._screen).client, case)
            is_newest = case is self._asked
            self._stop_clock()
            if is_newest:
                self._asked = self._running = None
            else:
                self._wait(_GLANCE_S, time.monotonic())
            if is_newest or answer.report is not None:
                self._answered(answer)

    def _wait(self, delay_s: float, began: float) -> None:
        self._timer = self._screen.set_timer(delay_s, partial(self._is_slow, began))

    def _is_slow(self, began: float) -> None:
        waited_s = time.monotonic() - began
        self._waits(waited_s)
        self._wait(1 if waited_s >= PATIENCE_S else PATIENCE_S - waited_s, began)

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None


async def ask(client: "ControllerClient", case: Case) -> Case:
    """The case with its answer."""
    try:
        report = await client.check(case.model, case.wishes)
    except MeshtuiError as error:
        return Case(case.model, case.wishes, error=error)
    return Case(case.model, case.wishes, report=report)

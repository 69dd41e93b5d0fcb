"""The lists of the studio: models to choose from, and past runs."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from meshtui.domain.errors import MeshtuiError
from meshtui.domain.generation import Run
from meshtui.domain.text import one_line

from .. import words
from ..frame import workstation
from ..state import State
from ..widgets.dialogs import Choice, Confirm, Finder
from ..work import start

_DEBOUNCE_S = 0.12
_SHOWN_RUNS = 200


class ModelPicker(Finder):
    """All enabled models with the state of their servers. The key is `connection<newline>model`."""

    HEADING = "Models"
    PLACEHOLDER = "type to narrow"
    EMPTY = "No enabled model has that in its name."

    def __init__(self, state: State, current: str | None) -> None:
        super().__init__()
        self._state, self._current = state, current

    def chosen_at_first(self) -> str | None:
        return self._current

    async def choices(self, query: str) -> Sequence[Choice]:
        needles = query.casefold().split()
        found = []
        for option in self._state.models:
            haystack = f"{option.label} {option.enabled.model} {option.connection}".casefold()
            if all(needle in haystack for needle in needles):
                server = self._state.server_of(option.connection, option.enabled.model)
                sign, tone = words.phase_sign(server.phase if server else None)
                status = words.phase_text(server) if server else "not started"
                content = Content.assemble(
                    (f"{sign} ", tone),
                    (one_line(option.label), "$strong"),
                    (f"   {one_line(option.connection)} · {status}\n", "$muted"),
                    (f"  {one_line(option.enabled.model)}", "$muted"),
                )
                found.append((f"{option.connection}\n{option.enabled.model}", content))
        return found


class History(Finder):
    """Past runs, newest first; the search looks into prompts and answers. The key is a run id."""

    HEADING = "History"
    PLACEHOLDER = "search prompts and answers"
    EMPTY = "No run matches."
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("enter", "Restore"),
        ("tab s", "Star"),
        ("tab d", "Delete"),
        ("esc", "Close"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "star", "Star", id="history.star"),
        Binding("d", "delete", "Delete", id="history.delete"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[str, Run] = {}

    async def choices(self, query: str) -> Sequence[Choice]:
        if query:
            await asyncio.sleep(_DEBOUNCE_S)
        try:
            runs = await workstation(self).client.runs(limit=_SHOWN_RUNS, search=query or None)
        except MeshtuiError as error:
            workstation(self).say(str(error), "error")
            return []
        self._runs = {run.id: run for run in runs}
        return [(run.id, run_lines(run)) for run in runs]

    def action_star(self) -> None:
        if run := self._runs.get(self.highlighted or ""):
            start(self, partial(self._star, run))

    async def _star(self, run: Run) -> None:
        try:
            await workstation(self).client.star_run(run.id, not run.starred)
        except MeshtuiError as error:
            workstation(self).say(str(error), "error")
        self.look_up()

    def action_delete(self) -> None:
        if run := self._runs.get(self.highlighted or ""):
            question = Confirm(
                "Delete this run?",
                [_first_line(run), f"Its answer of {len(run.answer):,} characters goes with it."],
                "Delete",
            )
            self.app.push_screen(question, lambda yes: self._delete(run) if yes else None)

    def _delete(self, run: Run) -> None:
        start(self, partial(self._deleted, run))

    async def _deleted(self, run: Run) -> None:
        try:
            await workstation(self).client.delete_run(run.id)
        except MeshtuiError as error:
            workstation(self).say(str(error), "error")
        self.look_up()


def _first_line(run: Run) -> str:
    prompts = [message.content for message in run.messages if message.role == "user"]
    return one_line(prompts[-1] if prompts else "", 120)


def run_lines(run: Run) -> Content:
    """A run in two lines: what was asked, what came."""
    signs = {
        "done": ("", ""),
        "failed": (f"{words.FAILED} ", "$error"),
        "cancelled": ("cancelled  ", "$muted"),
        "interrupted": (f"{words.ATTENTION} broken off  ", "$warning"),
        "running": (f"{words.WORKING} ", "$warning"),
    }
    came = one_line(run.answer, 160) or (one_line(run.error.cause, 160) if run.error else "")
    model = one_line(run.model.rpartition("/")[2])
    return Content.assemble(
        ("★ " if run.starred else "  ", "$warning"),
        (f"{words.time_of_day(run.created_at)}  ", "$muted"),
        (_first_line(run), "$strong"),
        (f"\n  {model}  ", "$key"),
        signs[run.status],
        (came, "$muted"),
    )

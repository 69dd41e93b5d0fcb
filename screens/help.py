"""What the keys do here and everywhere, and what is wrong outside of servers."""

from collections.abc import Iterator
from typing import Any

from textual.content import Content
from textual.screen import Screen

from . import actions, words
from .frame import WorkScreen
from .state import State
from .widgets.dialogs import Reader


class HelpScreen(Reader):
    """Made from the bindings themselves, so that it cannot be out of date."""

    def __init__(self, screen: Screen[Any]) -> None:
        super().__init__()
        self._below = screen

    def heading(self) -> str:
        return "Help"

    def content(self) -> Content:
        return Content("\n").join(self._lines())

    def _lines(self) -> Iterator[Content]:
        below = self._below
        if isinstance(below, WorkScreen):
            yield Content.styled(f"In {below.TITLE_OF_HELP}", "$key")
            yield from map(_line, actions.of_screen(below))
            for note in below.NOTES:
                yield Content("")
                yield Content.styled(note, "$muted")
            yield Content("")
        yield Content.styled("Everywhere", "$key")
        yield from map(_line, actions.of_app(self.app))
        yield _pair("tab", "Next field; shift+tab the one before")
        yield Content("")
        yield Content.styled("Signs", "$key")
        for sign, tone, meaning in (
            (words.READY, "$success", "ready"),
            (words.WORKING, "$warning", "working"),
            (words.FAILED, "$error", "failed"),
            (words.ABSENT, "$muted", "stopped or not started"),
            (words.ATTENTION, "$warning", "wants attention; ! lists the problems"),
        ):
            yield Content.assemble((f"{sign:>14}", tone), f"  {meaning}")


def _line(action: actions.Action) -> Content:
    return _pair(action.key, action.title)


def _pair(keys: str, text: str) -> Content:
    return Content.assemble((f"{keys:>14}", "$key bold"), f"  {text}")


class ProblemsScreen(Reader):
    """Broken files and failed builds."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._problems = state.problems
        self._files_are_broken = bool(state.broken)

    def heading(self) -> str:
        return "Problems"

    def content(self) -> Content:
        if not self._problems:
            return Content.styled(f"{words.READY} Nothing is wrong that is known here.", "$muted")
        lines = [
            Content.assemble((f"{words.ATTENTION} ", "$warning"), problem)
            for problem in self._problems
        ]
        if self._files_are_broken:
            lines.append(
                Content.styled("Correct it: it is read again as soon as it is saved.", "$muted")
            )
        return Content("\n\n").join(lines)

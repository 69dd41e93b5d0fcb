"""A log on the whole screen: followed, searched, wrapped; also the log before this one."""

from abc import abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, Static

from meshtui.domain.errors import MeshtuiError, NotFound
from meshtui.domain.text import one_line

from .. import words
from ..frame import WorkScreen, workstation
from ..widgets.fields import Field
from ..widgets.log_view import MAX_LINES, LogView
from ..work import start

_FLUSH_S = 1 / 30


def _key(key: str, action: str, name: str, what: str, identity: str, show: bool = True) -> Binding:
    return Binding(key, action, name, tooltip=what, show=show, id=f"log.{identity}")


class LogScreen(WorkScreen):
    """Lines are read by one worker into a buffer and shown 30 times a second at most."""

    AUTO_FOCUS = "LogView"
    TITLE_OF_HELP = "a log"
    NOTES = (
        "Going up stops following; end follows again. left and right move sideways while long "
        "lines are cut.",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("escape", "back", "Back", "Leave the search, then the log", "back"),
        _key("slash", "search", "Search", "Search the log", "search"),
        _key("n", "next(1)", "Next", "Next match, towards the beginning", "next"),
        _key("N", "next(-1)", "Previous", "Next match, towards the end", "previous_match", False),
        _key("f", "follow", "Follow", "Go to the end and follow it", "follow"),
        _key("p", "previous", "Previous log", "Between this log and the one before", "previous"),
        _key("w", "wrap", "Wrap", "Wrap long lines, or cut them", "wrap"),
        _key("y", "copy", "Copy", "Copy the log", "copy"),
    ]

    def __init__(self, key: str, label: str) -> None:
        super().__init__()
        self._key, self._label = key, one_line(label)
        self._previous = False
        self._buffer: list[str] = []
        self._flush_due = False
        self._state = ""

    @abstractmethod
    def _lines(self, *, previous: bool) -> AsyncGenerator[str, None]:
        """The last lines, then those that come."""

    def compose_content(self) -> ComposeResult:
        yield Static("", id="about")
        yield LogView()
        yield Field(placeholder="search", id="search")

    def on_mount(self) -> None:
        super().on_mount()
        self._read()

    @property
    def _view(self) -> LogView:
        return self.query_one(LogView)

    def _read(self) -> None:
        self._view.clear()
        self._buffer, self._state = [], ""
        start(self, partial(self._follow, self._previous), latest=True)
        self._about()

    async def _follow(self, previous: bool) -> None:
        try:
            async with aclosing(self._lines(previous=previous)) as lines:
                async for line in lines:
                    self._buffer.append(line)
                    if not self._flush_due:
                        self._flush_due = True
                        self.set_timer(_FLUSH_S, self._flush)
            self._state = "ended"
        except NotFound:
            self._state = "there is none"
        except (MeshtuiError, OSError) as error:
            self._state = one_line(str(error))
        self._flush()

    def _flush(self) -> None:
        self._flush_due = False
        lines, self._buffer = self._buffer, []
        if self.is_mounted:
            self._view.append(lines)

    def on_log_view_changed(self) -> None:
        self._about()

    def _about(self) -> None:
        view = self._view
        facts = [self._state or ("following" if view.following else "not following")]
        facts.append(words.plural(len(view.lines), "line"))
        if view.search:
            facts.append(f"{view.matches():,} with “{one_line(view.search, 30)}”")
        kind = "previous log" if self._previous else "log"
        self.query_one("#about", Static).update(
            Content.assemble((f"{self._label}  ", "$strong bold"), f"{kind} · {' · '.join(facts)}")
        )

    def action_search(self) -> None:
        self.add_class("-searching")
        self.query_one("#search").focus()

    def on_input_changed(self, message: Input.Changed) -> None:
        self._view.find(message.value)
        self._about()

    def on_input_submitted(self, _message: Input.Submitted) -> None:
        self.remove_class("-searching")
        self._view.focus()

    def action_next(self, direction: int) -> None:
        if not self._view.find_next(direction):
            workstation(self).say("Nothing found; / searches.", "warning")

    def action_follow(self) -> None:
        self._view.action_end()

    def action_previous(self) -> None:
        """Between this log and the one of the start before."""
        self._previous = not self._previous
        self._read()

    def action_wrap(self) -> None:
        self._view.toggle_wrapping()

    def action_copy(self) -> None:
        lines = self._view.lines[-MAX_LINES:]
        workstation(self).copy("\n".join(lines) + "\n", words.plural(len(lines), "line"))

    def action_back(self) -> None:
        if self.has_class("-searching"):
            self.query_one("#search", Field).value = ""
            self.remove_class("-searching")
            self._view.focus()
        else:
            self.app.pop_screen()


class ServerLog(LogScreen):
    """The log of a server's engine."""

    def _lines(self, *, previous: bool) -> AsyncGenerator[str, None]:
        return workstation(self).client.server_log(
            self._key, tail=20_000, follow=not previous, previous=previous
        )


class RuntimeLog(LogScreen):
    """The log of a runtime's build."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "previous"

    def _lines(self, *, previous: bool) -> AsyncGenerator[str, None]:
        return workstation(self).client.runtime_log(self._key, tail=20_000, follow=True)

"""What every screen has: a header with tabs and the live state, a footer with what is possible."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import Screen
from textual.style import Style
from textual.widget import Widget

from meshtui.domain.controller import ControllerEvent
from meshtui.domain.model_cache import Transfer
from meshtui.domain.server import Phase
from meshtui.domain.text import one_line

from . import words
from .state import Link, State

if TYPE_CHECKING:
    from .app import MeshtuiApp

Part = tuple[str, str]

_MOST_HINTS = 7
# Where a screen has room for two sides, and for more than the least.
_WIDE_COLUMNS, _TALL_ROWS = 108, 30

_KEY_NAMES = {
    "escape": "esc",
    "question_mark": "?",
    "exclamation_mark": "!",
    "colon": ":",
    "slash": "/",
    "pagedown": "pgdn",
    "pageup": "pgup",
    "up": "↑",
    "down": "↓",
    "asterisk": "*",
}


def workstation(node: DOMNode) -> "MeshtuiApp":
    """The app, with its type."""
    return cast("MeshtuiApp", node.app)


def key_name(key: str) -> str:
    """A key as it is written for people: `^r`, `esc`, `F5`."""
    key = key.split(",")[0]
    if key.startswith("ctrl+"):
        return "^" + key_name(key[5:])
    if key[:1] == "f" and key[1:].isdigit():
        return key.upper()
    return _KEY_NAMES.get(key, key)


def is_typing(screen: Screen[object]) -> bool:
    """Whether printable keys go into a text, so that they open and close nothing."""
    return "question_mark" not in screen.active_bindings


class Header(Widget):
    """One line: the tabs at the left, the live state at the right.

    Beside each tab stands the key that opens it now: a digit, or a function key while digits go
    into a text.
    """

    def on_mount(self) -> None:
        self.auto_links = False
        self.screen.bindings_updated_signal.subscribe(self, lambda _screen: self._keys_changed())
        self._typing = is_typing(self.screen)

    def _keys_changed(self) -> None:
        if self._typing != (typing := is_typing(self.screen)):
            self._typing = typing
            self.refresh()

    def render(self) -> Content:
        state = workstation(self).state
        right = Content("  ").join([part.content() for part in live_parts(state)]) + " "
        width = self.size.width
        for tabs in self._tabs():
            left = Content.assemble(*tabs)
            room = width - left.cell_length - right.cell_length
            if room >= 2:
                return Content.assemble(left, " " * room, right)
        return Content.assemble(left, "  ", right)

    def _tabs(self) -> Iterator[list[Content | Part]]:
        """The tabs, each time shorter: with the name of the app, without, numbers only."""
        from .registry import SCREENS

        current = workstation(self).current_mode
        for brand, all_titles in ((True, True), (False, True), (False, False)):
            parts: list[Content | Part] = [(" meshtui ", "$strong bold") if brand else ("", "")]
            for entry in SCREENS:
                active = entry.name == current
                title = f" {entry.title}" if active or all_titles else ""
                click = Style.from_meta({"@click": f"app.go('{entry.name}')"})
                tone = Style.parse("$strong bold" if active else "$muted")
                number = Style.parse("$key bold" if active else "$key")
                key = key_name(entry.function_key) if self._typing else entry.key
                parts.append(Content.styled(f" {key}", number + click))
                parts.append(Content.styled(f"{title} ", tone + click))
            yield parts


@dataclass(frozen=True)
class Live:
    """Something that goes on: a sign with its tone, words, and the action that leads there."""

    sign: str
    tone: str
    text: str
    leads_to: str = ""

    def content(self) -> Content:
        click = Style.from_meta({"@click": self.leads_to}) if self.leads_to else Style()
        return Content.assemble(
            Content.styled(self.sign, Style.parse(self.tone) + click),
            Content.styled(f" {self.text}", Style.parse("$muted") + click),
        )


def live_parts(state: State) -> list[Live]:
    """What is going on, most urgent first. A click on a part goes where it points."""
    if state.link is Link.STARTING:
        return [Live(words.WORKING, "$warning", "starting controller…")]
    if state.link is Link.LOST:
        return [Live(words.ATTENTION, "$error bold", "controller lost, restarting…")]
    to_servers, to_problems = "app.go('servers')", "app.problems"
    parts = []
    for build in state.builds:
        progress = f" {words.percent(build.progress)}" if build.progress is not None else ""
        text = f"runtime {one_line(build.name)}{progress}"
        parts.append(Live(words.WORKING, "$warning", text, to_servers))
    for sign, tone, count, word in (
        (words.WORKING, "$warning", state.starting, "starting"),
        (words.READY, "$success", state.count(Phase.READY), "ready"),
        (words.FAILED, "$error", state.count(Phase.FAILED), "failed"),
    ):
        if count:
            parts.append(Live(sign, tone, f"{count} {word}", to_servers))
    if running := state.running_transfers:
        sign, tone = words.transfer_sign(running[0])
        parts.append(Live(sign, tone, transfers_text(running), "app.go('cache')"))
    if problems := state.problems:
        found = words.plural(len(problems), "problem")
        parts.append(Live(words.ATTENTION, "$warning bold", found, to_problems))
    return parts or [Live(words.ABSENT, "$muted", "no servers", to_servers)]


def transfers_text(running: Sequence[Transfer]) -> str:
    """How far all of them are together, and how fast: `43% 212 MB/s`."""
    known = [transfer for transfer in running if transfer.total_bytes]
    total = sum(transfer.total_bytes or 0 for transfer in known)
    done = sum(transfer.done_bytes for transfer in known)
    rate = sum(transfer.rate_bytes_s for transfer in running)
    parts = [words.percent(done / total) if total else words.transferring(running[0].kind)]
    return " ".join([*parts, words.rate(rate)] if rate else parts)


class Footer(Widget):
    """One line: the keys that do something here, as many as fit; help is always there."""

    def on_mount(self) -> None:
        self.auto_links = False
        self.screen.bindings_updated_signal.subscribe(self, lambda _screen: self.refresh())

    def render(self) -> Content:
        active = self.screen.active_bindings
        last = _hint("f1" if is_typing(self.screen) else "?", "Help", "app.help")
        room = self.size.width - last.cell_length - 1
        line = Content(" ")
        order = [b.id for b in type(self.screen).BINDINGS if isinstance(b, Binding)]
        ordered = sorted(
            (bound for bound in active.values() if bound.binding.show and bound.enabled),
            key=lambda b: order.index(b.binding.id) if b.binding.id in order else len(order),
        )
        # Two keys may lead to the same place: the first is enough here.
        shown: dict[str, ActiveBinding] = {}
        for bound in ordered:
            shown.setdefault(bound.binding.description, bound)
        for bound in [*shown.values()][:_MOST_HINTS]:
            binding = bound.binding
            name = "app." if bound.node is self.app else "screen."
            hint = _hint(binding.key, binding.description, name + binding.action)
            if line.cell_length + hint.cell_length > room:
                break
            line += hint
        return Content.assemble(line, " " * (room - line.cell_length), last)


def _hint(key: str, text: str, action: str) -> Content:
    click = Style.from_meta({"@click": action}) if "." in action else Style()
    return Content.assemble(
        Content.styled(key_name(key), Style.parse("$key bold") + click),
        Content.styled(f" {text}", Style.parse("$muted") + click),
        "  ",
    )


class WorkScreen(Screen[None]):
    """A screen with header and footer that is told of every change of the state."""

    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-narrow"),
        (_WIDE_COLUMNS, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-low"),
        (_TALL_ROWS, "-tall"),
    ]
    TITLE_OF_HELP = ""
    # Sentences for the help screen about what the keys do not tell.
    NOTES: ClassVar[tuple[str, ...]] = ()

    def compose(self) -> ComposeResult:
        # The toolkit would find the breakpoints after the first styling, and style all again.
        size = self.app.size
        self.set_class(size.width < _WIDE_COLUMNS, "-narrow")
        self.set_class(size.width >= _WIDE_COLUMNS, "-wide")
        self.set_class(size.height < _TALL_ROWS, "-low")
        self.set_class(size.height >= _TALL_ROWS, "-tall")
        yield Header()
        yield from self.compose_content()
        yield Footer()

    def compose_content(self) -> ComposeResult:
        """The screen's own widgets."""
        yield from ()

    def on_mount(self) -> None:
        workstation(self).changes.subscribe(self, self._changed)

    def _changed(self, event: ControllerEvent | None) -> None:
        if self in self.app.screen_stack:
            self.query_one(Header).refresh()
            self.state_changed(event)

    def on_screen_resume(self, _event: events.ScreenResume) -> None:
        self.query_one(Header).refresh()
        self.state_changed(None)

    def state_changed(self, event: ControllerEvent | None) -> None:
        """Shows the state anew. `event` is what changed, or None: anything may have."""

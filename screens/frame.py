"""What every screen has: a header with tabs and the live state, a footer with what is possible."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import Screen
from textual.style import Style
from textual.widget import Widget

from meshtui.domain.controller import ControllerEvent
from meshtui.domain.server import Phase

from . import words
from .state import Link, State

if TYPE_CHECKING:
    from .app import MeshtuiApp

Part = tuple[str, str]

_MOST_HINTS = 7

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


class Header(Widget):
    """One line: the tabs at the left, the live state at the right."""

    def on_mount(self) -> None:
        self.auto_links = False

    def render(self) -> Content:
        state = workstation(self).state
        right = Content.assemble(*_spaced(live_parts(state)), " ")
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
                parts.append(Content.styled(f" {entry.key}", number + click))
                parts.append(Content.styled(f"{title} ", tone + click))
            yield parts


def live_parts(state: State) -> list[list[Part]]:
    """What is going on, most urgent first."""
    parts: list[list[Part]] = []
    if state.link is Link.STARTING:
        return [[(words.WORKING, "$warning"), (" starting controller…", "$muted")]]
    if state.link is Link.LOST:
        parts.append(
            [(words.ATTENTION, "$error bold"), (" controller lost, restarting…", "$error")]
        )
        return parts
    for build in state.builds:
        progress = f" {words.percent(build.progress)}" if build.progress is not None else ""
        parts.append([(words.WORKING, "$warning"), (f" runtime {build.name}{progress}", "$muted")])
    for sign, tone, count, word in (
        (words.WORKING, "$warning", state.starting, "starting"),
        (words.READY, "$success", state.count(Phase.READY), "ready"),
        (words.FAILED, "$error", state.count(Phase.FAILED), "failed"),
    ):
        if count:
            parts.append([(sign, tone), (f" {count} {word}", "$muted")])
    if problems := state.problems:
        found = words.plural(len(problems), "problem")
        parts.append([(words.ATTENTION, "$warning bold"), (f" {found}", "$muted")])
    return parts or [[(words.ABSENT, "$muted"), (" no servers", "$muted")]]


def _spaced(parts: Iterable[list[Part]]) -> list[Part]:
    line: list[Part] = []
    for number, part in enumerate(parts):
        if number:
            line.append(("  ", ""))
        line.extend(part)
    return line


class Footer(Widget):
    """One line: the keys that do something here, as many as fit; help is always there."""

    def on_mount(self) -> None:
        self.auto_links = False
        self.screen.bindings_updated_signal.subscribe(self, lambda _screen: self.refresh())

    def render(self) -> Content:
        active = self.screen.active_bindings
        typing = "question_mark" not in active
        last = _hint("f1" if typing else "?", "Help", "app.help")
        room = self.size.width - last.cell_length - 1
        line = Content(" ")
        order = [b.id for b in type(self.screen).BINDINGS if isinstance(b, Binding)]
        shown: dict[str, ActiveBinding] = {}
        for bound in active.values():
            if bound.binding.show and bound.enabled:
                shown.setdefault(bound.binding.action, bound)
        for bound in sorted(
            shown.values(),
            key=lambda b: order.index(b.binding.id) if b.binding.id in order else len(order),
        )[:_MOST_HINTS]:
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
        (108, "-wide"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", show=False, id="screen.back"),
    ]
    TITLE_OF_HELP = ""
    # Sentences for the help screen about what the keys do not tell.
    NOTES: ClassVar[tuple[str, ...]] = ()

    def compose(self) -> ComposeResult:
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

    def action_back(self) -> None:
        """Leaves what can be left; never the app."""

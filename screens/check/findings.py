"""The findings, each in as many rows as its message takes; only what is visible is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from meshtui.domain.finding import Finding, Level
from meshtui.domain.text import one_line

from ..widgets.tones import Part, Tones
from ..widgets.wrapping import fit_cells, wrap
from .verdict import level_sign, title

_TITLE_CELLS = 16
# Mark, sign and the spaces around them; one cell at the right for the scrollbar.
_BEFORE, _AFTER = 4, 1
_MOST_CHARS = 2000


@dataclass(frozen=True)
class _Line:
    """A row: which finding it belongs to, and what it says."""

    number: int
    parts: tuple[Part, ...]


class Findings(ScrollView, can_focus=True):
    """A list with a cursor that moves by finding."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="check.findings.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="check.findings.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="check.findings.page_up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="check.findings.page_down"),
        Binding("home", "move(-1000)", "First", show=False, id="check.findings.first"),
        Binding("end", "move(1000)", "Last", show=False, id="check.findings.last"),
        Binding("left", "screen.turn(-1)", "Less", show=False, id="check.findings.left"),
        Binding("right", "screen.turn(1)", "More", show=False, id="check.findings.right"),
    ]

    class Moved(Message):
        """The cursor is on another finding, or the finding has changed."""

    class Opened(Message):
        """The marked finding was clicked again."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._findings: tuple[Finding, ...] = ()
        self._lines: list[_Line] = []
        self._first: list[int] = []
        self._cursor = 0
        self._tones = Tones(self)

    @property
    def current(self) -> Finding | None:
        """The finding with the cursor."""
        return self._findings[self._cursor] if self._cursor < len(self._findings) else None

    def show(self, findings: Sequence[Finding], *, anew: bool) -> None:
        """Replaces the findings. `anew`: of another model, so the cursor starts at the top; else
        it stays with its rule."""
        before, found = self.current, tuple(findings)
        if found == self._findings and not anew:
            return
        self._findings = found
        drawn = self._drawn
        rules = [finding.rule for finding in found]
        # One that was never moved stays at what matters most.
        if anew or before is None or not self._cursor or before.rule not in rules:
            self._cursor = 0
        else:
            self._cursor = rules.index(before.rule)
        self._lay_out()
        if anew:
            self.scroll_home(animate=False, force=True, immediate=True)
        self._refresh_changed(drawn)
        if anew or self.current != before:
            self.post_message(self.Moved())

    @property
    def _drawn(self) -> list[tuple[tuple[Part, ...], bool]]:
        """What each row looks like: its text, and whether it is marked."""
        return [(line.parts, line.number == self._cursor) for line in self._lines]

    def _refresh_changed(self, before: Sequence[object]) -> None:
        """Draws the rows again that look different now."""
        rows = enumerate(zip_longest(before, self._drawn))
        changed = [row for row, (was, now) in rows if was != now]
        if changed:
            self.refresh_lines(changed[0], changed[-1] - changed[0] + 1)

    def _lay_out(self) -> None:
        self._lines, self._first = [], []
        width = max(20, self.size.width - _BEFORE - _TITLE_CELLS - _AFTER)
        for number, finding in enumerate(self._findings):
            self._first.append(len(self._lines))
            sign, tone = level_sign(finding.level)
            rows = wrap(one_line(finding.message, _MOST_CHARS), width)
            heading: tuple[Part, ...] = (
                (f"{sign} ", tone),
                (fit_cells(title(finding.rule), _TITLE_CELLS - 1) + " ", "$strong"),
            )
            indent: tuple[Part, ...] = ((" " * (_TITLE_CELLS + 2), ""),)
            quiet = "$muted" if finding.level is Level.OK else ""
            for at, row in enumerate(rows):
                self._lines.append(_Line(number, (*(indent if at else heading), (row, quiet))))
            if finding.fix and finding.level is not Level.OK:
                for at, row in enumerate(wrap(one_line(finding.fix, _MOST_CHARS), width - 2)):
                    arrow = ("  " if at else "→ ", "$key")
                    self._lines.append(_Line(number, (*indent, arrow, (row, "$muted"))))
        # Never less than what is visible: a row more or less does not concern the screen then.
        self.virtual_size = Size(self.size.width, max(len(self._lines), self.size.height))

    def on_resize(self, _event: events.Resize) -> None:
        self._lay_out()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        base, width = self.rich_style, self.size.width
        number = y + self.scroll_offset.y
        if number >= len(self._lines):
            return Strip.blank(width, base)
        line = self._lines[number]
        chosen = line.number == self._cursor and self.has_focus
        parts: list[Part] = [("▌ " if chosen else "  ", "$primary"), *line.parts]
        if chosen and self.app.native_ansi_color:
            base += self._tones["reverse"]
            parts = [(text, "") for text, _tone in parts]
        elif chosen:
            base += self._tones["on $cursor-line"]
        return self._tones.strip(parts, base, width)

    def _move_to(self, number: int) -> None:
        number = max(0, min(number, len(self._findings) - 1))
        if number == self._cursor or not self._findings:
            return
        self._cursor = number
        first = self._first[number]
        after = self._first[number + 1] if number + 1 < len(self._first) else len(self._lines)
        self.scroll_to_region(
            Region(0, first, 1, after - first), animate=False, force=True, immediate=True
        )
        self.refresh()
        self.post_message(self.Moved())

    def action_move(self, findings: int) -> None:
        if findings == -1 and self._cursor == 0:
            self.screen.focus_previous()
        else:
            self._move_to(self._cursor + findings)

    def action_page(self, direction: int) -> None:
        """By what is visible, at least to the next finding."""
        if self._first:
            row = self._first[self._cursor] + direction * max(1, self.size.height - 1)
            target = max((n for n, first in enumerate(self._first) if first <= row), default=0)
            self._move_to(target if target != self._cursor else self._cursor + direction)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        row = event.y + self.scroll_offset.y
        if row < len(self._lines):
            if self._lines[row].number == self._cursor:
                self.post_message(self.Opened())
            self._move_to(self._lines[row].number)

"""The findings, each in as many rows as its message takes; only what is visible is drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip

from meshtui.domain.finding import Finding, Level
from meshtui.domain.text import one_line

from ..widgets.rows import Rows
from ..widgets.tones import Part, Tones
from ..widgets.wrapping import fit_cells, wrap
from .verdict import level_sign, title

_TITLE_CELLS = 16
# Mark, sign and the spaces around them; one cell at the right for the scrollbar.
_BEFORE, _AFTER = 4, 1
_MOST_CHARS = 2000


@dataclass(frozen=True)
class _Line:
    """A row: which finding it belongs to, whether that is the marked one, and what it says."""

    number: int
    marked: bool
    parts: tuple[Part, ...]


class Findings(Rows[_Line], can_focus=True):
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
        rules = [finding.rule for finding in found]
        # One that was never moved stays at what matters most.
        if anew or before is None or not self._cursor or before.rule not in rules:
            self._cursor = 0
        else:
            self._cursor = rules.index(before.rule)
        self.show_rows()
        if anew:
            self.scroll_home(animate=False, force=True, immediate=True)
        if anew or self.current != before:
            self.post_message(self.Moved())

    def lay_out(self) -> Sequence[_Line]:
        lines: list[_Line] = []
        self._first = []
        width = max(20, self.size.width - _BEFORE - _TITLE_CELLS - _AFTER)
        for number, finding in enumerate(self._findings):
            self._first.append(len(lines))
            marked = number == self._cursor
            lines += (_Line(number, marked, parts) for parts in _rows(finding, width))
        return lines

    def draw(self, row: _Line) -> Strip:
        base = self.rich_style
        chosen = row.marked and self.has_focus
        parts: list[Part] = [("▌ " if chosen else "  ", "$primary"), *row.parts]
        if chosen and self.app.native_ansi_color:
            base += self._tones["reverse"]
            parts = [(text, "") for text, _tone in parts]
        elif chosen:
            base += self._tones["on $cursor-line"]
        return self._tones.strip(parts, base, self.size.width)

    def _move_to(self, number: int) -> None:
        number = max(0, min(number, len(self._findings) - 1))
        if number == self._cursor or not self._findings:
            return
        self._cursor = number
        first = self._first[number]
        after = self._first[number + 1] if number + 1 < len(self._first) else len(self.rows)
        self.scroll_to_region(
            Region(0, first, 1, after - first), animate=False, force=True, immediate=True
        )
        self.show_rows()
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
        if row < len(self.rows):
            if self.rows[row].number == self._cursor:
                self.post_message(self.Opened())
            self._move_to(self.rows[row].number)


def _rows(finding: Finding, width: int) -> Iterator[tuple[Part, ...]]:
    """A finding's rows: its message beside its title, and what to do about it."""
    sign, tone = level_sign(finding.level)
    indent: Part = (" " * (_TITLE_CELLS + 2), "")
    heading: tuple[Part, ...] = (
        (f"{sign} ", tone),
        (fit_cells(title(finding.rule), _TITLE_CELLS - 1) + " ", "$strong"),
    )
    quiet = "$muted" if finding.level is Level.OK else ""
    for at, row in enumerate(wrap(one_line(finding.message, _MOST_CHARS), width)):
        yield (*((indent,) if at else heading), (row, quiet))
    if finding.fix and finding.level is not Level.OK:
        for at, row in enumerate(wrap(one_line(finding.fix, _MOST_CHARS), width - 2)):
            yield indent, ("  " if at else "→ ", "$key"), (row, "$muted")

"""Lines of a log: bounded, searchable, following its end; only what is visible is drawn."""

import re
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from meshtui.domain.text import sanitise

from .tones import Tones
from .wrapping import wrap

MAX_LINES = 50_000
_MAX_LINE_CHARS = 20_000
_LEVEL = re.compile(r"\b(?:(ERROR|CRITICAL|FATAL|Traceback|\w*Error:)|(WARNING|WARN))\b|Error: ")


class LogView(ScrollView, can_focus=True):
    """Appending is cheap; the oldest lines go when there are more than `MAX_LINES`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", show=False, id="log.up"),
        Binding("down,j", "scroll_down", "Down", show=False, id="log.down"),
        Binding("left", "sideways(-20)", "Left", show=False, id="log.left"),
        Binding("right", "sideways(20)", "Right", show=False, id="log.right"),
        Binding("home,g", "scroll_home", "First line", show=False, id="log.home"),
        Binding("end,G", "end", "Last line", show=False, id="log.end"),
    ]

    class Changed(Message):
        """Lines came, the search moved or following changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: list[str] = []
        self.wrapping = False
        self.following = True
        self.search = ""
        self.found: int | None = None
        self._rows: list[str] = []
        self._first_row: list[int] = []
        self._widest = 0
        self._tones = Tones(self)

    def clear(self) -> None:
        self.lines, self.found = [], None
        self._lay_out()

    def append(self, lines: Sequence[str]) -> None:
        """Adds lines at the end and stays there if it was there."""
        fresh = [
            sanitise(line[:_MAX_LINE_CHARS]).replace("\t", "    ").replace("\n", " ")
            for line in lines
        ]
        self.lines.extend(fresh)
        if len(self.lines) > MAX_LINES:
            cut = len(self.lines) - MAX_LINES + MAX_LINES // 10
            del self.lines[:cut]
            self.found = None if self.found is None or self.found < cut else self.found - cut
            self._lay_out()
        else:
            self._add_rows(fresh)
            self._resized()
        self.post_message(self.Changed())

    def _lay_out(self) -> None:
        self._rows, self._first_row, self._widest = [], [], 0
        self._add_rows(self.lines)
        self._resized()

    def _add_rows(self, lines: Sequence[str]) -> None:
        width = max(1, self.size.width - 1)
        for line in lines:
            self._first_row.append(len(self._rows))
            if self.wrapping:
                self._rows.extend(wrap(line, width))
            else:
                self._rows.append(line)
                self._widest = max(self._widest, cell_len(line))

    def _resized(self) -> None:
        width = self.size.width if self.wrapping else self._widest + 1
        self.virtual_size = Size(width, len(self._rows))
        if self.following:
            # By force: the scrollbar, without which there is no scrolling, comes later.
            self.scroll_end(animate=False, immediate=True, x_axis=False, force=True)
        self.refresh()

    def on_resize(self, _event: events.Resize) -> None:
        if self.wrapping:
            self._lay_out()
        else:
            self._resized()

    def render_line(self, y: int) -> Strip:
        x, top = self.scroll_offset
        width, base, number = self.size.width, self.rich_style, top + y
        if number >= len(self._rows):
            return Strip.blank(width, base)
        row = self._rows[number]
        level = _LEVEL.search(row)
        if level:
            base += self._tones["$warning" if level[2] else "$error"]
        segments, at = [Segment(" ", base)], 0
        if self.search:
            here = self.found is not None and self._first_row[self.found] == number
            mark = base + self._tones["reverse bold" if here else "$strong on $cursor-line"]
            for match in re.finditer(re.escape(self.search), row, re.IGNORECASE):
                segments += [Segment(row[at : match.start()], base), Segment(match[0], mark)]
                at = match.end()
        segments.append(Segment(row[at:], base))
        return Strip(segments).crop_extend(x, x + width, self.rich_style)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        following = new_value >= self.max_scroll_y
        if following != self.following:
            self.following = following
            self.post_message(self.Changed())

    def find(self, text: str) -> None:
        """Searches for text, ignoring case, from the end backwards: the newest match first."""
        self.search = text
        self.found = None
        if text:
            self.find_next(-1)
        self.refresh()

    def find_next(self, direction: int) -> bool:
        """Goes to the next (1) or previous (-1) line with the text; around the ends too."""
        count, needle = len(self.lines), self.search.casefold()
        if not needle or not count:
            return False
        start = self.found if self.found is not None else (-1 if direction > 0 else count)
        for step in range(1, count + 1):
            number = (start + direction * step) % count
            if needle in self.lines[number].casefold():
                self.found = number
                row = self._first_row[number]
                self.scroll_to(y=max(0, row - self.size.height // 2), animate=False, force=True)
                self.refresh()
                self.post_message(self.Changed())
                return True
        return False

    def matches(self) -> int:
        """How many lines have the text."""
        needle = self.search.casefold()
        return sum(needle in line.casefold() for line in self.lines) if needle else 0

    def action_sideways(self, cells: int) -> None:
        self.scroll_relative(x=cells, animate=False)

    def action_end(self) -> None:
        self.scroll_end(animate=False, x_axis=False, force=True)

    def toggle_wrapping(self) -> None:
        """Long lines on several rows, or cut at the edge."""
        self.wrapping = not self.wrapping
        if self.wrapping:
            self.scroll_to(x=0, animate=False)
        self._lay_out()

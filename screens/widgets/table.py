"""A table of which only the visible rows are ever drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style as RichStyle
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from .tones import Part, Tones
from .wrapping import fit_cells

_GAP = 2


@dataclass(frozen=True)
class Column:
    """`width` is what it needs; the columns with a larger `most` share what is left, up to that.
    Where the room is too small the columns with the highest `drop` go first (0: never)."""

    title: str
    width: int
    most: int = 0
    right: bool = False
    drop: int = 0


@dataclass(frozen=True)
class Row:
    """`key` identifies the row across updates; one cell a column."""

    key: str
    cells: tuple[Part, ...]


class Table(ScrollView, can_focus=True):
    """Rows with a cursor. Text in cells must be sanitised and on one line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="table.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="table.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="table.page_up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="table.page_down"),
        Binding("home", "move(-1000000)", "First", show=False, id="table.first"),
        Binding("end", "move(1000000)", "Last", show=False, id="table.last"),
    ]

    cursor: reactive[int] = reactive(0)

    class Moved(Message):
        """The cursor is on another row."""

    @dataclass
    class Opened(Message):
        """Enter was pressed, or the row clicked again."""

        key: str

    def __init__(
        self, columns: Sequence[Column], *, empty: str = "", id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._empty = empty
        self._rows: tuple[Row, ...] = ()
        self._layout: tuple[tuple[int, int], ...] = ()
        self._tones = Tones(self)

    @property
    def rows(self) -> tuple[Row, ...]:
        return self._rows

    @property
    def current(self) -> str | None:
        """The key of the row with the cursor."""
        return self._rows[self.cursor].key if self.cursor < len(self._rows) else None

    def show(self, rows: Sequence[Row]) -> None:
        """Replaces the rows; the cursor stays on its row."""
        rows = tuple(rows)
        if rows == self._rows:
            return
        key = self.current
        self._rows = rows
        keys = [row.key for row in rows]
        self.cursor = keys.index(key) if key in keys else min(self.cursor, max(0, len(rows) - 1))
        self.virtual_size = Size(self.size.width, len(rows) + 1)
        self.refresh()
        if self.current != key:
            self.post_message(self.Moved())

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return max(len(self._rows), 1) + 1

    def on_resize(self, _event: events.Resize) -> None:
        self.virtual_size = Size(self.size.width, len(self._rows) + 1)
        self._layout = self._lay_out(self.size.width - 3)

    def _lay_out(self, room: int) -> tuple[tuple[int, int], ...]:
        """Which columns are shown, and how wide."""
        shown = list(range(len(self._columns)))

        def needed() -> int:
            return sum(self._columns[i].width + _GAP for i in shown) - _GAP

        while needed() > room:
            droppable = [i for i in shown if self._columns[i].drop]
            if not droppable:
                break
            shown.remove(max(droppable, key=lambda i: self._columns[i].drop))
        growing = [i for i in shown if self._columns[i].most]
        spare = max(0, room - needed())
        widths = {i: self._columns[i].width for i in shown}
        # The one with the least room to grow first: what it leaves goes to the others.
        for number, i in enumerate(sorted(growing, key=lambda i: self._columns[i].most)):
            share = min(spare // (len(growing) - number), self._columns[i].most - widths[i])
            widths[i] += share
            spare -= share
        over = needed() - room
        if over > 0 and growing:
            widths[growing[0]] = max(6, widths[growing[0]] - over)
        return tuple((i, widths[i]) for i in shown)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        base = self.rich_style
        if y == 0:
            titles = tuple((column.title, "$muted") for column in self._columns)
            return self._line(titles, base, "", width)
        number = y - 1 + self.scroll_offset.y
        if number >= len(self._rows):
            if y == 1 and not self._rows:
                return self._tones.strip([("   ", ""), (self._empty, "$muted")], base, width)
            return Strip.blank(width, base)
        chosen = number == self.cursor
        chosen = chosen and self.has_focus
        if chosen:
            ansi = self.app.native_ansi_color
            base += self._tones["reverse" if ansi else "$strong on $cursor-line"]
        cells = self._rows[number].cells
        if chosen and self.app.native_ansi_color:
            cells = tuple((text, "") for text, _tone in cells)
        return self._line(cells, base, "▌" if chosen else "", width)

    def _line(self, cells: tuple[Part, ...], base: RichStyle, mark: str, width: int) -> Strip:
        parts: list[Part] = [(f"{mark:1}", "$primary" if self.has_focus else "$faint")]
        for number, (i, cell_width) in enumerate(self._layout):
            column, (text, tone) = self._columns[i], cells[i]
            fitted = fit_cells(text, cell_width)
            if column.right:
                kept = fitted.rstrip(" ")
                fitted = " " * (len(fitted) - len(kept)) + kept
            parts.append((" " * (_GAP if number else 1), ""))
            parts.append((fitted, tone))
        return self._tones.strip(parts, base, width)

    def watch_cursor(self, old: int, new: int) -> None:
        if old != new:
            self.refresh()
            self.scroll_to_region(Region(0, new, 1, 2), animate=False, force=True, immediate=True)
            self.post_message(self.Moved())

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, len(self._rows) - 1))

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        number = event.y - 1 + self.scroll_offset.y
        if event.y > 0 and number < len(self._rows):
            if number == self.cursor:
                self.action_open()
            self.cursor = number

    def action_move(self, rows: int) -> None:
        self.cursor += rows

    def action_page(self, direction: int) -> None:
        self.cursor += direction * max(1, self.size.height - 2)

    def action_open(self) -> None:
        if self.current is not None:
            self.post_message(self.Opened(self.current))

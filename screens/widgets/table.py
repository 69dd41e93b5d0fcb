"""A table of which only the visible rows are ever drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

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
# Left free at the right, where the scrollbar may be.
_SPARE = 1


@dataclass(frozen=True)
class Column:
    """`width` is what it needs; the columns with a larger `most` share what is left, up to that.
    Where the room is too small the columns with the highest `drop` go first (0: never). `fit`
    makes a text exactly as wide as it is told."""

    title: str
    width: int
    most: int = 0
    right: bool = False
    drop: int = 0
    fit: Callable[[str, int], str] = fit_cells


class AnyRow(Protocol):
    """What a table shows; `cells` are only asked for where the row is visible."""

    @property
    def key(self) -> str:
        """Identifies the row across updates."""

    @property
    def cells(self) -> tuple[Part, ...]:
        """One cell a column."""


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

    # Whether the row that keys act on is seen while the focus is elsewhere.
    KEEPS_CURSOR: ClassVar[bool] = False

    cursor: reactive[int] = reactive(0)

    class Moved(Message):
        """The cursor is on another row."""

    @dataclass
    class Opened(Message):
        """Enter was pressed, or the row clicked again."""

        key: str

    @dataclass
    class TitleClicked(Message):
        """The title of a column was clicked; `column` is its number."""

        column: int

    def __init__(
        self, columns: Sequence[Column], *, empty: str = "", id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._empty = empty
        self._rows: tuple[AnyRow, ...] = ()
        self._layout: tuple[tuple[int, int], ...] = ()
        self._order: tuple[int, str] | None = None
        self._wanted: str | None = None
        self._tones = Tones(self)

    @property
    def rows(self) -> tuple[AnyRow, ...]:
        return self._rows

    @property
    def empty(self) -> str:
        """What stands there when there are no rows."""
        return self._empty

    @empty.setter
    def empty(self, text: str) -> None:
        if text != self._empty:
            self._empty = text
            self.refresh()

    @property
    def shown_columns(self) -> tuple[int, ...]:
        """The numbers of the columns for which there is room."""
        return tuple(i for i, _width in self._layout)

    def show_order(self, column: int, sign: str) -> None:
        """Puts the sign behind that column's title."""
        self._order = column, sign
        self.refresh()

    @property
    def current(self) -> str | None:
        """The key of the row with the cursor."""
        return self._rows[self.cursor].key if self.cursor < len(self._rows) else None

    def show(self, rows: Sequence[AnyRow]) -> None:
        """Replaces the rows; the cursor stays on its row."""
        rows = tuple(rows)
        if rows == self._rows:
            return
        key, before = self.current, self.current
        self._rows = rows
        self.virtual_size = Size(self.size.width, len(rows) + 1)
        keys = [row.key for row in rows]
        if self._wanted in keys:
            key, self._wanted = self._wanted, None
        self.cursor = keys.index(key) if key in keys else min(self.cursor, max(0, len(rows) - 1))
        self.refresh()
        if self.current != before:
            self.post_message(self.Moved())

    def go_to(self, key: str) -> None:
        """Puts the cursor on that row, now or as soon as it is there."""
        keys = [row.key for row in self._rows]
        if key in keys:
            self.cursor = keys.index(key)
        else:
            self._wanted = key

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return max(len(self._rows), 1) + 1

    def on_resize(self, _event: events.Resize) -> None:
        self.virtual_size = Size(self.size.width, len(self._rows) + 1)
        self._layout = self._lay_out(self.size.width - 1 - len(self.lead(None)[0]) - _SPARE)

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

    def lead(self, row: AnyRow | None) -> Part:
        """What stands before the first column; of the same width for every row and the titles."""
        return " ", ""

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        base = self.rich_style
        if y == 0:
            titles = tuple((self._title(i), "$muted") for i in range(len(self._columns)))
            return self._line(titles, base, "", self.lead(None), width, of_titles=True)
        number = y - 1 + self.scroll_offset.y
        if number >= len(self._rows):
            if y == 1 and not self._rows:
                return self._tones.strip([("   ", ""), (self._empty, "$muted")], base, width)
            return Strip.blank(width, base)
        row = self._rows[number]
        here = number == self.cursor
        edge = "▌" if here and (self.has_focus or self.KEEPS_CURSOR) else ""
        cells, lead = row.cells, self.lead(row)
        if here and self.has_focus:
            ansi = self.app.native_ansi_color
            base += self._tones["reverse" if ansi else "$strong on $cursor-line"]
            if ansi:
                cells, lead = tuple((text, "") for text, _tone in cells), (lead[0], "")
        return self._line(cells, base, edge, lead, width)

    def _title(self, column: int) -> str:
        title = self._columns[column].title
        return f"{title}{self._order[1]}" if self._order and self._order[0] == column else title

    def _line(
        self,
        cells: tuple[Part, ...],
        base: RichStyle,
        edge: str,
        lead: Part,
        width: int,
        *,
        of_titles: bool = False,
    ) -> Strip:
        parts: list[Part] = [(f"{edge:1}", "$primary" if self.has_focus else "$faint"), lead]
        for number, (i, cell_width) in enumerate(self._layout):
            column, (text, tone) = self._columns[i], cells[i]
            fitted = (fit_cells if of_titles else column.fit)(text, cell_width)
            if column.right:
                kept = fitted.rstrip(" ")
                fitted = " " * (len(fitted) - len(kept)) + kept
            parts.append((" " * _GAP if number else "", ""))
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
        if event.y == 0:
            self._title_clicked(event.x)
        elif number < len(self._rows):
            if number == self.cursor:
                self.action_open()
            self.cursor = number

    def _title_clicked(self, x: int) -> None:
        end = 1 + len(self.lead(None)[0])
        for i, width in self._layout:
            end += width + _GAP
            if x < end:
                self.post_message(self.TitleClicked(i))
                return

    def action_move(self, rows: int) -> None:
        self._wanted = None
        self.cursor += rows

    def action_page(self, direction: int) -> None:
        self.cursor += direction * max(1, self.size.height - 2)

    def action_open(self) -> None:
        if self.current is not None:
            self.post_message(self.Opened(self.current))

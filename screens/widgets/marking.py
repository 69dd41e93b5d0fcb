"""A table of which several rows can be marked, so that one key acts on all of them."""

from collections.abc import Container, Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.message import Message

from .table import AnyRow, Column, Table
from .tones import Part

_MARKED = "✓"


class MarkTable(Table):
    """Marks are keys of rows; they stay while their rows are filtered away."""

    KEEPS_CURSOR: ClassVar[bool] = True

    class Marked(Message):
        """Other rows are marked than before."""

    def __init__(
        self, columns: Sequence[Column], *, empty: str = "", id: str | None = None
    ) -> None:
        super().__init__(columns, empty=empty, id=id)
        self._marks: set[str] = set()

    @property
    def marks(self) -> frozenset[str]:
        return frozenset(self._marks)

    @property
    def chosen(self) -> list[str]:
        """What a key acts on: the marked rows, those in sight in their order first; where none
        is, the row with the cursor."""
        if not self._marks:
            return [] if self.current is None else [self.current]
        shown = [row.key for row in self.rows if row.key in self._marks]
        return shown + sorted(self._marks.difference(shown))

    def lead(self, row: AnyRow | None) -> Part:
        if row is not None and row.key in self._marks:
            return f"{_MARKED} ", "$primary bold"
        return "  ", ""

    def mark(self, keys: Iterable[str]) -> None:
        """Marks these and no others."""
        self._marked(set(keys))

    def keep_marks(self, existing: Container[str]) -> None:
        """Drops the marks of what is gone."""
        self._marked({key for key in self._marks if key in existing})

    def toggle(self) -> None:
        """Marks the row with the cursor, or takes its mark away, and goes on to the next."""
        if self.current is not None:
            self._marked(self._marks ^ {self.current})
            self.action_move(1)

    def toggle_shown(self) -> None:
        """Marks all rows in the table; where all are marked, none of them."""
        shown = {row.key for row in self.rows}
        self._marked(self._marks - shown if shown <= self._marks else self._marks | shown)

    def _marked(self, marks: set[str]) -> None:
        if marks != self._marks:
            self._marks = marks
            self.refresh()
            self.post_message(self.Marked())

    def on_click(self, event: events.Click) -> None:
        """A click before the first column marks; elsewhere it does what it does in any table."""
        number = event.y - 1 + self.scroll_offset.y
        if event.y > 0 and event.x < 1 + len(self.lead(None)[0]) and number < len(self.rows):
            event.prevent_default()
            self.cursor = number
            self._marked(self._marks ^ {self.rows[number].key})

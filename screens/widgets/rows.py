"""Rows that a widget draws by itself: the visible ones, and after a change those that differ."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Generic, TypeVar

from textual import events
from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

Row = TypeVar("Row")


class Rows(ScrollView, Generic[Row]):
    """A row is whatever `draw` makes a strip of. Two that are equal look the same."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: Sequence[Row] = ()

    def draw(self, row: Row) -> Strip:
        """The row in exactly the cells of the widget's width."""
        raise NotImplementedError

    def lay_out(self) -> Sequence[Row]:
        """The rows as the widget is now."""
        raise NotImplementedError

    def show_rows(self) -> None:
        """Lays out the rows anew, and draws those again that look different now."""
        before, self.rows = self.rows, self.lay_out()
        # Never less than what is visible: a row more or less does not concern the screen then.
        self.virtual_size = Size(self.size.width, max(len(self.rows), self.size.height))
        top, width = round(self.scroll_y), self.size.width
        visible = range(top, top + self.size.height)
        changed = [
            Region(0, number - top, width, 1)
            for number, (was, now) in enumerate(zip_longest(before, self.rows))
            if was != now and number in visible
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        number = y + self.scroll_offset.y
        if number >= len(self.rows):
            return Strip.blank(self.size.width, self.rich_style)
        return self.draw(self.rows[number])

    def on_resize(self, _event: events.Resize) -> None:
        self.show_rows()
        self.refresh()


class Prose(Rows[Strip]):
    """A text that scrolls in the room it has, whatever its length."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = Content("")

    def show(self, text: Content) -> None:
        """Another text, from its beginning; the same one stays where it is."""
        if not text.is_same(self._text):
            self._text = text
            self.show_rows()
            self.scroll_home(animate=False, force=True, immediate=True)

    def lay_out(self) -> Sequence[Strip]:
        width = self.size.width
        return Visual.to_strips(self, self._text, width, None, self.visual_style) if width else ()

    def draw(self, row: Strip) -> Strip:
        return row

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.show_rows()

"""The field for the model's name, with what it may become below it."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from meshtui.domain.text import one_line

from ..widgets.fields import Field
from ..widgets.wrapping import fit_cells
from .names import Suggestion


class Suggestions(Widget):
    """A short list over what is below; the keys stay with the field."""

    class Chosen(Message):
        """One was clicked."""

        def __init__(self, value: str) -> None:
            super().__init__()
            self.value = value

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._found: tuple[Suggestion, ...] = ()
        self._note = ""
        self._cursor: int | None = None

    def on_mount(self) -> None:
        self.auto_links = False

    def show(self, found: Sequence[Suggestion], note: str = "") -> None:
        """Replaces the list; nothing is marked. `note` stands below it."""
        self._cursor = None
        self._show(found, note)

    def add(self, more: Sequence[Suggestion], note: str = "") -> None:
        """Puts more below what is there, if the list is still open; the mark stays."""
        if self.is_open:
            self._show((*self._found, *more), note)

    def _show(self, found: Sequence[Suggestion], note: str) -> None:
        self._found, self._note = tuple(found), note
        self.display = self.is_open
        self.styles.height = len(found) + bool(note)
        self.refresh()

    @property
    def is_open(self) -> bool:
        return bool(self._found or self._note)

    @property
    def marked(self) -> str | None:
        return None if self._cursor is None else self._found[self._cursor].value

    @property
    def first(self) -> str | None:
        return self._found[0].value if self._found else None

    def move(self, direction: int) -> bool:
        """Moves the mark; False where there is nothing in that direction."""
        target = direction - 1 if self._cursor is None else self._cursor + direction
        if not self._found or target >= len(self._found) or (self._cursor is None and target):
            return False
        self._cursor = target if target >= 0 else None
        self.refresh()
        return True

    def render(self) -> Content:
        width = self.size.width
        lines = []
        for number, suggestion in enumerate(self._found):
            note = one_line(suggestion.note, 80)
            room = max(12, width - len(note) - 6)
            name = _ending(one_line(suggestion.value), min(room, width - 3))
            marked = number == self._cursor
            line = Content.assemble(
                ("▌ " if marked else "  ", "$primary"),
                (name, "$strong bold" if marked else ""),
                (f"  {note}", "$muted"),
            )
            lines.append(line.truncate(width, ellipsis=True))
        if self._note:
            line = Content.styled(f"  {one_line(self._note, 200)}", "$muted italic")
            lines.append(line.truncate(width, ellipsis=True))
        return Content("\n").join(lines)

    def on_click(self, event: events.Click) -> None:
        if event.y < len(self._found):
            self.post_message(self.Chosen(self._found[event.y].value))


def _ending(name: str, width: int) -> str:
    """The name in exactly `width` cells; of a long path the end tells more than the beginning."""
    is_long_path = name.startswith(("/", "~", ".")) and len(name) > width
    return fit_cells("…" + name[-(width - 1) :] if is_long_path else name, width)


class ModelField(Field):
    """Enter asks; up and down walk through what was asked before and what is suggested."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Check", id="check.field.enter"),
        Binding("tab", "complete", "Complete", id="check.field.complete"),
        Binding("up", "walk(-1)", "Earlier", show=False, id="check.field.up"),
        Binding("down", "walk(1)", "Suggestions", id="check.field.down"),
        Binding("escape", "leave", "Leave", id="check.field.leave"),
    ]

    class Left(Message):
        """The user is done here without asking."""

    def __init__(self, suggestions: Suggestions, *, id: str | None = None) -> None:
        super().__init__(placeholder="org/name, or the path of a folder", id=id)
        self._suggestions = suggestions
        self.checked: list[str] = []
        self._back = 0
        self._typed = ""

    def put(self, text: str) -> None:
        """Sets the text without its counting as typed."""
        with self.prevent(Field.Changed):
            self.value = one_line(text, 1000)
        self.cursor_position = len(self.value)
        self._suggestions.show(())

    def taken(self, text: str) -> None:
        """The text was asked for: the walk begins anew."""
        self._back = 0
        self.put(text)

    def on_input_changed(self) -> None:
        self._back = 0

    async def action_submit(self) -> None:
        marked = self._suggestions.marked
        if marked is not None:
            self.put(marked)
        await super().action_submit()

    def action_complete(self) -> None:
        value = self._suggestions.marked or self._suggestions.first
        if value is None:
            self.screen.focus_next()
            return
        # It counts as typed: a folder's own folders come next.
        self.value = one_line(value, 1000)
        self.cursor_position = len(self.value)

    def action_walk(self, direction: int) -> None:
        """Up: what was checked before. Down: back again, then into the suggestions."""
        if self._suggestions.marked is None and (direction < 0 or self._back):
            self._recall(self._back - direction)
        elif self._suggestions.first is not None:
            self._suggestions.move(direction)
        else:
            self.screen.focus_next()

    def _recall(self, back: int) -> None:
        if not 0 <= back <= len(self.checked):
            return
        if self._back == 0:
            self._typed = self.value
        self._back = back
        self.put(self.checked[back - 1] if back else self._typed)

    def action_leave(self) -> None:
        if self._suggestions.is_open:
            self._suggestions.show(())
        else:
            self.post_message(self.Left())

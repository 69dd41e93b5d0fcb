"""Inputs for text: what is pasted or restored passes the sanitiser, as any text from outside."""

from textual import events
from textual.widgets import Input, TextArea

from meshtui.domain.text import one_line, sanitise


class Field(Input):
    """One line, without a box. The cursor does not blink: an idle screen sends nothing."""

    def __init__(
        self,
        value: str = "",
        *,
        placeholder: str = "",
        restrict: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(
            one_line(value),
            placeholder=placeholder,
            restrict=restrict,
            id=id,
            classes=classes,
            select_on_focus=False,
            compact=True,
        )
        self.cursor_blink = False

    def on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        self.insert_text_at_cursor(one_line(event.text, 10_000))


class Editor(TextArea):
    """Several lines of plain text; tab goes on to the next widget."""

    def __init__(self, text: str = "", *, placeholder: str = "", id: str | None = None) -> None:
        super().__init__(
            sanitise(text),
            id=id,
            placeholder=placeholder,
            soft_wrap=True,
            show_line_numbers=False,
            tab_behavior="focus",
            compact=True,
            highlight_cursor_line=False,
        )
        self.cursor_blink = False

    async def on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        if result := self._replace_via_keyboard(sanitise(event.text), *self.selection):
            self.move_cursor(result.end_location)

    def load(self, text: str) -> None:
        """Replaces the text and puts the cursor at its end."""
        self.text = sanitise(text)
        self.move_cursor(self.document.end)

"""One parameter on the screen: its name, and its value between two arrows."""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from ..widgets.wrapping import fit_cells
from .parameters import Parameter


class Knob(Widget, can_focus=True):
    """Of all knobs one is the current one, which left and right turn wherever the focus is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "app.focus_previous", "Before", show=False, id="check.knob.up"),
        Binding("down", "app.focus_next", "Next", show=False, id="check.knob.down"),
        Binding("enter,space", "open", "All values", id="check.knob.open"),
    ]

    class Focused(Message):
        """It is the current one now."""

        def __init__(self, knob: "Knob") -> None:
            super().__init__()
            self.knob = knob

    class Turned(Message):
        """An arrow was clicked."""

        def __init__(self, knob: "Knob", direction: int) -> None:
            super().__init__()
            self.knob, self.direction = knob, direction

    class Opened(Message):
        """All values are wanted."""

        def __init__(self, knob: "Knob") -> None:
            super().__init__()
            self.knob = knob

    def __init__(self, parameter: Parameter) -> None:
        super().__init__(id=f"knob-{parameter.name}")
        self.parameter = parameter
        self.current = False
        self._text = ""
        # A label that does not begin with its letter has it somewhere inside.
        at = parameter.label.casefold().find(parameter.letter)
        self._label = (parameter.label[:at], parameter.label[at], parameter.label[at + 1 :])
        self.styles.width = len(parameter.label) + parameter.cells + 5

    def show(self, text: str, *, current: bool) -> None:
        if (text, current) != (self._text, self.current):
            self._text, self.current = text, current
            self.refresh()

    def render(self) -> Content:
        before, letter, after = self._label
        arrow = "$key bold" if self.current else "$faint"
        taken = self._text.startswith("(")
        value = "$muted" if taken else "$strong bold"
        if self.has_focus and self.app.native_ansi_color:
            value = "reverse"
        text = fit_cells(self._text, self.parameter.cells).rstrip()
        return Content.assemble(
            (before, "$muted"),
            (letter, "$key underline"),
            (f"{after} ", "$muted"),
            ("◂ ", arrow),
            (text, value),
            (" ▸", arrow),
        )

    def on_focus(self) -> None:
        self.post_message(self.Focused(self))
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        at = len(self.parameter.label) + 1
        text = len(self._text)
        if at <= event.x <= at + 1:
            self.post_message(self.Turned(self, -1))
        elif at + 2 + text <= event.x <= at + 3 + text:
            self.post_message(self.Turned(self, 1))
        else:
            self.action_open()

    def action_open(self) -> None:
        self.post_message(self.Opened(self))

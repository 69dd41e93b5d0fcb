"""One of a few values, on one line, changed with the arrow keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget


class Selector(Widget, can_focus=True):
    """`options` are pairs of a value and its words."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space,l", "turn(1)", "Next value", show=False, id="selector.next"),
        Binding("left,h", "turn(-1)", "Value before", show=False, id="selector.previous"),
    ]

    chosen: reactive[int] = reactive(0)

    @dataclass
    class Changed(Message):
        """Another value was chosen."""

        selector: "Selector"

    def __init__(self, options: Sequence[tuple[str, str]], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.options = tuple(options)

    @property
    def value(self) -> str:
        return self.options[self.chosen][0]

    def render(self) -> Content:
        arrow = "$key" if self.has_focus else "$faint"
        words = self.options[self.chosen][1]
        return Content.assemble(("◂ ", arrow), (words, "$strong"), (" ▸", arrow))

    def action_turn(self, by: int) -> None:
        self.chosen = (self.chosen + by) % len(self.options)

    def watch_chosen(self, old: int, new: int) -> None:
        if old != new:
            self.post_message(self.Changed(self))

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        self.action_turn(-1 if event.x < 2 else 1)

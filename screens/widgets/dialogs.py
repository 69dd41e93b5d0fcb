"""Small modal screens: a question, a list to choose from, a name to type."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from ..work import start
from .fields import Field

Choice = tuple[str, Content]


def title(text: str) -> Static:
    return Static(Content(text), classes="title")


def keys(*pairs: tuple[str, str]) -> Static:
    """A line of keys and what they do."""
    parts: list[tuple[str, str]] = []
    for key, text in pairs:
        parts += [(key, "$key bold"), (f" {text}   ", "$muted")]
    return Static(Content.assemble(*parts), classes="keys")


class Confirm(ModalScreen[bool]):
    """Asks once, naming what goes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", "Yes", id="confirm.yes"),
        Binding("n,escape", "answer(False)", "No", id="confirm.no"),
    ]

    def __init__(self, question: str, details: Sequence[str], yes: str) -> None:
        super().__init__()
        self._question, self._details, self._yes = question, details, yes

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield title(self._question)
            for line in self._details:
                yield Static(Content(line))
            yield keys(("y", self._yes), ("esc", "Leave it"))

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


class StartAnyway(ModalScreen[str | None]):
    """Asks whether to start what does not run, and offers to look into why."""

    START, CHECK = "start", "check"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", f"answer('{START}')", "Yes", id="start_anyway.yes"),
        Binding("c", f"answer('{CHECK}')", "Check", id="start_anyway.check"),
        Binding("n,escape", "answer('')", "No", id="start_anyway.no"),
    ]

    def __init__(self, question: str, details: Sequence[str]) -> None:
        super().__init__()
        self._question, self._details = question, details

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield title(self._question)
            for line in self._details:
                yield Static(Content(line))
            yield keys(("y", "Start it all the same"), ("c", "Open in Check"), ("esc", "Leave it"))

    def action_answer(self, answer: str) -> None:
        self.dismiss(answer or None)


class Reader(ModalScreen[None]):
    """Something to read."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,question_mark,f1", "close", "Close", id="reader.close"),
        Binding("up,k", "scroll(-1)", "Up", show=False, id="reader.up"),
        Binding("down,j", "scroll(1)", "Down", show=False, id="reader.down"),
        Binding("pageup", "scroll(-12)", "Page up", show=False, id="reader.page_up"),
        Binding("pagedown", "scroll(12)", "Page down", show=False, id="reader.page_down"),
    ]

    def heading(self) -> str:
        return ""

    def content(self) -> Content:
        return Content("")

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield title(self.heading())
            with VerticalScroll(can_focus=False, id="text"):
                yield Static(self.content())
            yield keys(("esc", "Close"), ("↑↓", "Scroll"))

    def action_close(self) -> None:
        self.dismiss()

    def action_scroll(self, rows: int) -> None:
        self.query_one("#text").scroll_relative(y=rows, animate=False)


class Ask(ModalScreen[str | None]):
    """One line of text."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Cancel", id="ask.close"),
    ]

    def __init__(self, question: str, value: str, yes: str) -> None:
        super().__init__()
        self._question, self._value, self._yes = question, value, yes

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield title(self._question)
            yield Field(self._value, id="value")
            yield keys(("enter", self._yes), ("esc", "Cancel"))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        if message.value.strip():
            self.dismiss(message.value.strip())

    def action_close(self) -> None:
        self.dismiss(None)


class Finder(ModalScreen[str | None]):
    """A list that narrows while one types. Gives the key of the choice, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Close", id="finder.close"),
        Binding("up", "move('cursor_up')", "Up", show=False, id="finder.up"),
        Binding("down", "move('cursor_down')", "Down", show=False, id="finder.down"),
        Binding("pageup", "move('page_up')", "Page up", show=False, id="finder.page_up"),
        Binding("pagedown", "move('page_down')", "Page down", show=False, id="finder.page_down"),
    ]
    HEADING = ""
    PLACEHOLDER = ""
    EMPTY = "Nothing found."
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("enter", "Choose"), ("esc", "Close"))

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog finder"):
            yield title(self.HEADING)
            yield Field(placeholder=self.PLACEHOLDER, id="query")
            yield OptionList(markup=False, id="choices")
            yield Static(Content(self.EMPTY), id="nothing")
            yield keys(*self.KEYS)

    def on_mount(self) -> None:
        self.query_one("#query").focus()
        self.look_up()

    async def choices(self, query: str) -> Sequence[Choice]:
        """What matches, best first."""
        raise NotImplementedError

    def chosen_at_first(self) -> str | None:
        """The key that the cursor stands on when the list opens."""
        return None

    @property
    def highlighted(self) -> str | None:
        options = self.query_one(OptionList)
        if options.highlighted is None:
            return None
        return options.get_option_at_index(options.highlighted).id

    def look_up(self) -> None:
        """Fills the list anew; a newer call replaces one that is still running."""
        query = self.query_one("#query", Field).value
        start(self, partial(self._fill, query), latest=True)

    async def _fill(self, query: str) -> None:
        found = await self.choices(query)
        options = self.query_one(OptionList)
        before = self.highlighted or self.chosen_at_first()
        options.clear_options()
        options.add_options([Option(content, id=key) for key, content in found])
        self.query_one("#nothing").display = not found
        options.display = bool(found)
        if found:
            keys_found = [key for key, _content in found]
            options.highlighted = keys_found.index(before) if before in keys_found else 0

    def on_input_changed(self, _message: Input.Changed) -> None:
        self.look_up()

    def on_input_submitted(self, _message: Input.Submitted) -> None:
        if self.highlighted is not None:
            self.dismiss(self.highlighted)

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        self.dismiss(message.option.id)

    def action_move(self, action: str) -> None:
        getattr(self.query_one(OptionList), f"action_{action}")()

    def action_close(self) -> None:
        self.dismiss(None)

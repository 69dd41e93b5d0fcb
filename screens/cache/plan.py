"""Dialogs that show what would be done before it is done."""

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Static

from meshtui.domain.errors import MeshtuiError
from meshtui.domain.finding import Finding, Level
from meshtui.domain.text import one_line

from .. import words
from ..widgets.dialogs import keys, title
from ..widgets.marking import MarkTable
from ..widgets.selector import Selector
from ..widgets.table import Column
from ..work import start
from . import facts

_WIDTH = 68


def line(label: str, widget: Widget) -> Horizontal:
    """A field with its name before it."""
    return Horizontal(Static(Content(label), classes="label"), widget, classes="line")


def blocked(findings: Iterable[Finding]) -> bool:
    return any(finding.level is Level.BLOCKER for finding in findings)


class PlanDialog(ModalScreen[str | None]):
    """Asks the controller for a plan, shows it, and starts it. What it asks may take its time:
    esc leaves at any moment. Gives the model that it brings in, where it is one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Close", id="plan.close"),
        Binding("enter", "go", "Start", id="plan.go"),
        Binding("space", "mark", "Mark", id="plan.mark"),
        Binding("ctrl+a,asterisk", "mark_all", "Mark all", id="plan.mark_all"),
    ]
    HEADING = ""
    COLUMNS: ClassVar[tuple[Column, ...]] = ()
    ASKING = "looking…"
    # Whether only marked rows are meant.
    MARKS: ClassVar[bool] = False
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("enter", "Start"), ("esc", "Close"))

    def heading(self) -> str:
        return self.HEADING

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog plan"):
            yield title(self.heading())
            yield from self.compose_form()
            yield Static("", id="said")
            yield MarkTable(self.COLUMNS, empty="nothing", id="items")
            yield Static("", id="about")
            yield keys(*self.KEYS)

    def compose_form(self) -> ComposeResult:
        """The fields that are filled in before there is a plan."""
        yield from ()

    async def ask(self) -> None:
        """Gets the plan and keeps it; raises `MeshtuiError`."""
        raise NotImplementedError

    def show_plan(self) -> None:
        """Fills the table and says what it comes to."""

    def carry_out(self) -> None:
        """Starts what is planned."""

    @property
    def items(self) -> MarkTable:
        return self.query_one("#items", MarkTable)

    def tell(self, *lines: Content | str) -> None:
        self.query_one("#said", Static).update(
            Content("\n").join(Content(text) if isinstance(text, str) else text for text in lines)
        )

    def tell_of(self, findings: Iterable[Finding]) -> None:
        """What is to be known of the row with the cursor."""
        lines = [*facts.finding_lines(findings, _WIDTH)]
        self.query_one("#about", Static).update(Content("\n").join(lines))

    def look_up(self) -> None:
        """Asks anew; a newer question replaces one that is on its way."""
        self.query_one(".plan").remove_class("-planned")
        self.tell(Content.styled(f"{words.WORKING} {self.ASKING}", "$muted"))
        self.tell_of(())
        start(self, self._ask, group="plan", latest=True)

    async def _ask(self) -> None:
        try:
            await self.ask()
        except MeshtuiError as error:
            self.refuse(error.message, error.hint or "")
            return
        self.query_one(".plan").add_class("-planned")
        self.tell()
        self.show_plan()
        self.items.refresh(layout=True)
        if self.items.rows:
            self.items.focus()

    def refuse(self, message: str, hint: str = "") -> None:
        """Says why not, and what to do."""
        why = Content.styled(f"{words.FAILED} {one_line(message, 1000)}", "$error")
        self.tell(why, one_line(hint, 1000))

    def on_input_submitted(self, _message: Input.Submitted) -> None:
        self.look_up()

    def action_go(self) -> None:
        """Looks, where a value was being chosen; else does what is planned."""
        if isinstance(self.focused, Selector):
            self.look_up()
        else:
            self.carry_out()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.MARKS or action not in ("mark", "mark_all")

    def action_mark(self) -> None:
        self.items.toggle()

    def action_mark_all(self) -> None:
        self.items.toggle_shown()

    def action_close(self) -> None:
        self.dismiss(None)

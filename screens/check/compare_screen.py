"""The comparison on its own screen."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from meshtui.domain.controller import ControllerEvent

from ..frame import WorkScreen, workstation
from ..work import start
from . import export
from .asking import Case, ask
from .compare import MOST, sheet
from .parameters import Known


class _Sheet(VerticalScroll, can_focus=True):
    """Scrolls up and down; left and right are for the columns."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "screen.mark(-1)", show=False, id="compare.sheet.left"),
        Binding("right", "screen.mark(1)", show=False, id="compare.sheet.right"),
    ]


class CompareScreen(WorkScreen):
    """`cases` are shown and those without a report asked for. `add` opens the choice of another,
    `opened` is called with the case that the user wants to go on with."""

    AUTO_FOCUS = "#sheet"
    TITLE_OF_HELP = "the comparison"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="compare.back"),
        Binding("left,h", "mark(-1)", "Before", tooltip="Mark the column before", show=False,
                id="compare.left"),
        Binding("right,l", "mark(1)", "Next", tooltip="Mark the next column", show=False,
                id="compare.right"),
        Binding("enter", "open", "Open", tooltip="Go on with the marked column", id="compare.open"),
        Binding("c", "add", "Add", tooltip="Add another column", id="compare.add"),
        Binding("delete,backspace,minus", "remove", "Remove", tooltip="Take the marked column away",
                id="compare.remove"),
        Binding("x", "export", "Export", tooltip="Write all to a file, as Markdown or JSON",
                id="compare.export"),
        Binding("y", "copy", "Copy", tooltip="Copy all as Markdown", id="compare.copy"),
    ]  # fmt: skip

    def __init__(
        self,
        cases: list[Case],
        known: Known,
        *,
        add: Callable[[Callable[[Case], None]], None],
        opened: Callable[[Case], None],
    ) -> None:
        super().__init__()
        self.cases = cases
        self._known = known
        self._add, self._opened = add, opened
        self._marked = len(cases) - 1

    def compose_content(self) -> ComposeResult:
        with _Sheet(id="sheet"):
            yield Static("")

    def on_mount(self) -> None:
        super().on_mount()
        self._ask_missing()

    def state_changed(self, event: ControllerEvent | None) -> None:
        if event is None:
            self._show()

    def on_resize(self) -> None:
        self._show()

    def _show(self) -> None:
        width = max(40, self.size.width - 4)
        content = sheet(self.cases, self._marked, self._known, width)
        self.query_one("#sheet Static", Static).update(content)
        self.refresh_bindings()

    def _ask_missing(self) -> None:
        for case in self.cases:
            if case.report is None and case.error is None:
                start(self, partial(self._ask, case), group=f"compare {id(case)}")

    async def _ask(self, case: Case) -> None:
        answer = await ask(workstation(self).client, case)
        self.cases[:] = [answer if one is case else one for one in self.cases]
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "add":
            return len(self.cases) < MOST
        if action in ("mark", "remove"):
            return len(self.cases) > 1
        return True

    def action_mark(self, direction: int) -> None:
        self._marked = (self._marked + direction) % len(self.cases)
        self._show()

    def action_add(self) -> None:
        self._add(self._added)

    def _added(self, case: Case) -> None:
        self.cases.append(case)
        self._marked = len(self.cases) - 1
        self._ask_missing()
        self._show()

    def action_remove(self) -> None:
        del self.cases[self._marked]
        self._marked = min(self._marked, len(self.cases) - 1)
        self._show()

    def action_open(self) -> None:
        case = self.cases[self._marked]
        self.app.pop_screen()
        self._opened(case)

    def action_copy(self) -> None:
        if text := export.markdown(*self.cases):
            workstation(self).copy(text, "Comparison")

    def action_export(self) -> None:
        export.save(self, *self.cases)

    def action_back(self) -> None:
        self.app.pop_screen()

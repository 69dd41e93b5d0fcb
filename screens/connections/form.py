"""Forms: a line a field, checked while one types, with help for the field that has the focus."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from meshtui.domain.errors import MeshtuiError
from meshtui.domain.text import one_line

from .. import words
from ..frame import workstation
from ..widgets.dialogs import Confirm, keys, title
from ..widgets.fields import Field
from ..widgets.selector import Selector
from ..work import start

Options = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Line:
    """A field of a form. `key` names it where something is wrong; `says` is its help. With
    `options` it is one of them, else a text with `hint` where it is empty."""

    key: str
    label: str
    value: str
    says: str
    options: Options = ()
    hint: str = ""
    locked: bool = False

    def widget(self) -> Field | Selector | Static:
        if self.locked:
            return Static(Content(one_line(self.value)), id=f"f-{self.key}", classes="locked")
        if not self.options:
            return Field(self.value, placeholder=self.hint, id=f"f-{self.key}")
        selector = Selector(self.options, id=f"f-{self.key}")
        values = [value for value, _words in self.options]
        with selector.prevent(Selector.Changed):
            selector.set_reactive(Selector.chosen, values.index(self.value))
        return selector


def options(value: str, known: Sequence[str], first: Options = ()) -> Options:
    """Names to choose from, `first` before them; what stands there now is always one."""
    found = [*first, *((name, one_line(name, 60)) for name in known)]
    if value not in [name for name, _words in found]:
        found.append((value, f"{one_line(value, 60)} (not there)"))
    return found


class Lines(VerticalScroll, inherit_bindings=False):
    """The fields; it scrolls to the one with the focus, and leaves the keys to the form."""


class Form(ModalScreen[str | None]):
    """Gives the name of what was saved, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel", id="form.leave"),
        Binding("enter,ctrl+s", "save", "Save", id="form.save"),
        Binding("down", "app.focus_next", "Next field", show=False, id="form.down"),
        Binding("up", "app.focus_previous", "Field before", show=False, id="form.up"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-tall")]  # noqa: RUF012
    HEADING = ""
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("enter", "Save"), ("esc", "Cancel"))

    def __init__(self) -> None:
        super().__init__()
        self._lines: tuple[Line, ...] = ()
        self._faults: dict[str, str] = {}
        self._refusal = ""

    def locked(self) -> str:
        """Why nothing of it may be changed; empty where that is allowed."""
        return ""

    def lines(self) -> Sequence[Line]:
        """The fields."""
        raise NotImplementedError

    def gather(self) -> dict[str, str]:
        """Takes what the fields say; gives what cannot be read of it, by field."""
        raise NotImplementedError

    def is_changed(self) -> bool:
        """Whether something would be lost that was typed here."""
        raise NotImplementedError

    async def look(self) -> dict[str, str]:
        """What is wrong with what was gathered, by field. Raises `MeshtuiError`."""
        raise NotImplementedError

    def save(self) -> Awaitable[str]:
        """Saves it, and gives its name. Raises `MeshtuiError`."""
        raise NotImplementedError

    def above(self) -> ComposeResult:
        """What stands between the heading and the fields."""
        yield from ()

    def compose(self) -> ComposeResult:
        self._lines = tuple(self.lines())
        with Vertical(classes="dialog form"):
            yield title(self.HEADING)
            yield from self.above()
            with Lines(can_focus=False, id="lines"):
                for line in self._lines:
                    label = Static(Content(line.label), classes="label")
                    mark = Static("", id=f"m-{line.key}", classes="mark")
                    yield Horizontal(label, line.widget(), mark, classes="line")
            yield Static("", id="said")
            yield keys(*self.KEYS)

    def on_mount(self) -> None:
        first = next(line for line in self._lines if not line.locked)
        self.query_one(f"#f-{first.key}").focus()
        self._check()

    def text(self, key: str) -> str:
        """What the field holds now."""
        widget = self.query_one(f"#f-{key}")
        if isinstance(widget, Selector | Field):
            return widget.value if isinstance(widget, Selector) else widget.value.strip()
        return next(line.value for line in self._lines if line.key == key)

    def kept(self, key: str, before: str | None) -> str | None:
        """What the field holds; what stood there before exactly as it was, where it shows the
        same; None where it is empty."""
        now = self.text(key)
        return before if now == one_line(before or "").strip() else now or None

    def on_input_changed(self, _message: Input.Changed) -> None:
        self._edited()

    def on_selector_changed(self, _message: Selector.Changed) -> None:
        self._edited()

    def _edited(self) -> None:
        self._refusal = ""
        self._check()

    def _check(self) -> None:
        """A newer text replaces a question that is on its way."""
        self._show(self.gather())
        start(self, self._look, group="faults", latest=True)

    async def _look(self) -> None:
        local = self.gather()
        try:
            found = await self.look()
        except MeshtuiError as error:
            self.refuse(error)
            return
        self._show({**found, **local})

    def _show(self, faults: dict[str, str]) -> None:
        self._faults = faults
        for line in self._lines:
            is_wrong = line.key in faults
            self.query_one(f"#f-{line.key}").set_class(is_wrong, "-invalid")
            mark = Content.styled(words.FAILED, "$error") if is_wrong else Content("")
            self.query_one(f"#m-{line.key}", Static).update(mark)
        self.show_said()

    def on_descendant_focus(self) -> None:
        self.show_said()

    @property
    def _focused_line(self) -> Line | None:
        name = self.focused.id if self.focused and self.focused.id else ""
        return next((line for line in self._lines if f"f-{line.key}" == name), None)

    def show_said(self) -> None:
        """The help of the field with the focus, and what is wrong with it or stands in the way."""
        line = self._focused_line
        said = [Content.styled(line.says, "$muted")] if line else []
        wrong = self._refusal or self.locked() or (self._faults.get(line.key, "") if line else "")
        if wrong:
            said.insert(0, Content.styled(f"{words.FAILED} {one_line(wrong, 400)}", "$error"))
        self.query_one("#said", Static).update(Content("\n").join(said))

    def refuse(self, error: MeshtuiError) -> None:
        """Says why it was not saved."""
        self._refusal = str(error)
        self.show_said()

    def on_input_submitted(self, _message: Input.Submitted) -> None:
        self.action_save()

    def action_save(self) -> None:
        """Saves, unless something is to be corrected: goes there then."""
        wrong = [line.key for line in self._lines if line.key in self._faults]
        if wrong:
            self.query_one(f"#f-{wrong[0]}").focus()
            self.show_said()
            return
        start(self, self._save, group="save")

    async def _save(self) -> None:
        # What was typed last may not have been looked at yet.
        local = self.gather()
        try:
            found = {**await self.look(), **local}
            if found:
                self._show(found)
                return
            name = await self.save()
        except MeshtuiError as error:
            self.refuse(error)
            return
        workstation(self).say(f"Saved {name}.")
        self.dismiss(name)

    def action_leave(self) -> None:
        """Leaves; asks first where something would be lost."""
        if not self.is_changed():
            self.dismiss(None)
            return
        question = Confirm("Leave without saving?", ["What you changed here is lost."], "Leave")
        self.app.push_screen(question, self._left)

    def _left(self, yes: bool | None) -> None:
        if yes:
            self.dismiss(None)

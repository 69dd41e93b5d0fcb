"""The prompt side: model, system and user text, parameters."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static, TextArea

from meshtui.domain.controller import ModelOption
from meshtui.domain.generation import GenerationParameters
from meshtui.domain.server import ServerStatus
from meshtui.domain.text import one_line

from .. import words
from ..widgets.fields import Editor, Field
from . import parameters, picture_fields

T = TypeVar("T")

FIRST_PROMPT = "What is the capital of France?"


class ModelLine(Widget, can_focus=True):
    """The chosen model, where it runs and how it stands."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "screen.model", "Choose model", id="model.open"),
    ]

    def __init__(self) -> None:
        super().__init__(id="model")
        self._option: ModelOption | None = None
        self._server: ServerStatus | None = None

    def show(self, option: ModelOption | None, server: ServerStatus | None) -> None:
        if (option, server) != (self._option, self._server):
            self._option, self._server = option, server
            self.refresh()

    def render(self) -> Content:
        if self._option is None:
            return Content.styled("no model yet", "$muted")
        server = self._server
        sign, tone = words.phase_sign(server.phase if server else None)
        where = one_line(self._option.connection)
        stands = words.phase_text(server) if server else "not started"
        name = Content.assemble(
            (f"{sign} ", tone), (one_line(self._option.label), "$strong bold"), (" ▾", "$key")
        )
        engines: list[str] = []
        if server and server.engine:
            engines = [words.engine_text(server.engine, server.engine_version), server.engine.label]
        # How it stands matters most: it is the last to go where the room is small.
        room = self.size.width - name.cell_length - 3
        for facts in (*([where, engine, stands] for engine in engines), [where, stands], [stands]):
            rest = Content.styled(" · ".join(facts), "$muted")
            if rest.cell_length <= room:
                return Content.assemble(name, "   ", rest)
        return Content.assemble(name, "   ", rest).truncate(self.size.width, ellipsis=True)

    async def on_click(self, _event: events.Click) -> None:
        await self.run_action("screen.model")


class PromptSide(Vertical):
    """Everything that makes the prompt. It holds texts; the screen decides what they are for."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._has_picture_fields = False
        self._picture_values: dict[str, str] = {}

    class Changed(Message):
        """A text was edited."""

    def compose(self) -> ComposeResult:
        yield ModelLine()
        yield Static("System", classes="label section of-text")
        yield Editor(placeholder="optional: how the model should behave", id="system")
        with Horizontal(classes="row section"):
            yield Static("User", classes="label", id="user-label")
            yield Static("", id="kind")
        yield Editor(placeholder="your prompt", id="user")
        with Horizontal(classes="row section of-text"):
            for field in parameters.FIELDS[:3]:
                yield from _field(field, "–" if field.name == "stop" else "auto")
        with Horizontal(classes="row of-text"):
            for field in parameters.FIELDS[3:]:
                yield from _field(field, "–" if field.name == "stop" else "auto")
        yield Static("", id="hint")

    def for_pictures(self, pictures: bool) -> None:
        """Asks for what makes a picture, or a text. The fields of pictures are made when they are
        first wanted."""
        if pictures and not self._has_picture_fields:
            self._has_picture_fields = True
            for number, fields in enumerate(picture_fields.ROWS):
                section = "" if number else " section"
                widgets = (
                    widget
                    for field in fields
                    for widget in _field(field, picture_fields.EMPTY.get(field, "auto"))
                )
                self.mount(
                    Horizontal(*widgets, classes=f"row of-pictures{section}"), before="#hint"
                )
            self.call_after_refresh(self._fill, picture_fields.FIELDS, self._picture_values)
        self.set_class(pictures, "-pictures")
        self.query_one("#user-label", Static).update("Prompt" if pictures else "User")

    @property
    def system(self) -> Editor:
        return self.query_one("#system", Editor)

    @property
    def user(self) -> Editor:
        return self.query_one("#user", Editor)

    @property
    def values(self) -> dict[str, str]:
        """The parameter fields' texts, those of pictures too."""
        known = {} if self._has_picture_fields else self._picture_values
        return known | {
            field.name: value
            for field in self._fields
            if (value := self.query_one(f"#{field.name}", Field).value)
        }

    @property
    def _fields(self) -> tuple[parameters.FieldSpec, ...]:
        return parameters.FIELDS + (picture_fields.FIELDS if self._has_picture_fields else ())

    def fill(self, values: dict[str, str]) -> None:
        pictures = {field.name for field in picture_fields.FIELDS}
        self._picture_values = {name: text for name, text in values.items() if name in pictures}
        self._fill(self._fields, values)

    def _fill(self, fields: Iterable[parameters.FieldSpec], values: Mapping[str, str]) -> None:
        for field in fields:
            self.query_one(f"#{field.name}", Field).value = one_line(values.get(field.name, ""))

    def show_defaults(self, below: GenerationParameters) -> None:
        """What the model's own defaults are, where a field is left empty."""
        known = parameters.write(below)
        for field in parameters.FIELDS[:4]:
            self.query_one(f"#{field.name}", Field).placeholder = known.get(field.name, "auto")

    def check(self) -> GenerationParameters | None:
        """The parameters, or None with the wrong field focused and the rule said."""
        return self._checked(parameters.read)

    def check_pictures(self) -> dict[str, Any] | None:
        """What makes a picture, under `ImageRequest`'s names; else as `check`."""
        return self._checked(picture_fields.read)

    def _checked(self, read: Callable[[Mapping[str, str]], T]) -> T | None:
        for field in self._fields:
            self.query_one(f"#{field.name}").remove_class("-invalid")
        try:
            return read(self.values)
        except parameters.BadParameter as error:
            wrong = self.query_one(f"#{error.field.name}", Field)
            wrong.add_class("-invalid")
            wrong.focus()
            self.hint(Content.styled(f"{words.ATTENTION} {error}", "$error"))
            return None

    def hint(self, text: Content) -> None:
        """The line under the prompt."""
        self.query_one("#hint", Static).update(text)

    def kind(self, text: Content) -> None:
        """What sort of prompt this is, beside its title."""
        self.query_one("#kind", Static).update(text)

    def on_text_area_changed(self, message: TextArea.Changed) -> None:
        message.stop()
        self.post_message(self.Changed())

    def on_input_changed(self, message: Input.Changed) -> None:
        message.stop()
        self.post_message(self.Changed())


def _field(field: parameters.FieldSpec, empty: str) -> Iterable[Widget]:
    yield Static(field.label, classes=f"label {field.name}")
    yield Field(placeholder=empty, id=field.name)

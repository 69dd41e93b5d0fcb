"""The prompt side: model, system and user text, parameters."""

from typing import ClassVar

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
from . import parameters

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

    class Changed(Message):
        """A text was edited."""

    def compose(self) -> ComposeResult:
        yield ModelLine()
        yield Static("System", classes="label section")
        yield Editor(placeholder="optional: how the model should behave", id="system")
        with Horizontal(classes="row section"):
            yield Static("User", classes="label")
            yield Static("", id="kind")
        yield Editor(placeholder="your prompt", id="user")
        with Horizontal(classes="row section"):
            for field in parameters.FIELDS[:3]:
                yield from self._field(field)
        with Horizontal(classes="row"):
            for field in parameters.FIELDS[3:]:
                yield from self._field(field)
        yield Static("", id="hint")

    def _field(self, field: parameters.FieldSpec) -> ComposeResult:
        yield Static(field.label, classes=f"label {field.name}")
        yield Field(placeholder="–" if field.name == "stop" else "auto", id=field.name)

    @property
    def system(self) -> Editor:
        return self.query_one("#system", Editor)

    @property
    def user(self) -> Editor:
        return self.query_one("#user", Editor)

    @property
    def values(self) -> dict[str, str]:
        """The parameter fields' texts."""
        return {
            field.name: value
            for field in parameters.FIELDS
            if (value := self.query_one(f"#{field.name}", Field).value)
        }

    def fill(self, values: dict[str, str]) -> None:
        for field in parameters.FIELDS:
            self.query_one(f"#{field.name}", Field).value = one_line(values.get(field.name, ""))

    def show_defaults(self, below: GenerationParameters) -> None:
        """What the model's own defaults are, where a field is left empty."""
        known = parameters.write(below)
        for field in parameters.FIELDS[:4]:
            self.query_one(f"#{field.name}", Field).placeholder = known.get(field.name, "auto")

    def check(self) -> GenerationParameters | None:
        """The parameters, or None with the wrong field focused and the rule said."""
        for field in parameters.FIELDS:
            self.query_one(f"#{field.name}").remove_class("-invalid")
        try:
            return parameters.read(self.values)
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

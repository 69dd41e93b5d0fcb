"""The list of connections, and below it the models that are enabled on the marked one."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from meshtui.client.connections import wishes_for
from meshtui.domain.check import CheckReport
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.controller import ControllerEvent
from meshtui.domain.editing import EditableConnection
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.finding import Finding
from meshtui.domain.text import one_line

from .. import words
from ..frame import WorkScreen, workstation
from ..widgets.dialogs import Ask, Confirm
from ..widgets.table import Table
from ..work import start
from . import rows
from .tested import ProbeResult


def _key(key: str, action: str, name: str, what: str, identity: str) -> Binding:
    return Binding(key, action, name, tooltip=what, id=f"connections.{identity}")


class ConnectionsScreen(WorkScreen):
    """Keys act on the row with the cursor of the table that has the focus."""

    AUTO_FOCUS = "#connections"
    TITLE_OF_HELP = "Connections"
    NOTES = (
        "A connection says where models may run, with which stack, and which ones. Each is a file "
        "that you may edit by hand as well: it is read again as soon as it is saved.",
        "The sign before a model is that of its server; the verdict is the checker's.",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("e", "edit", "Edit", "Change the marked connection or model", "edit"),
        _key("n", "new", "New", "Make a connection", "new"),
        _key("a", "enable", "Enable a model", "Enable a model on the marked connection", "enable"),
        _key("t", "test", "Test", "Look whether what the connection names answers", "test"),
        _key("p", "prompt", "Prompt it", "Prompt the marked model in the studio", "prompt"),
        _key("c", "check", "Check it", "Open the marked model in the checker", "check"),
        _key("d", "duplicate", "Duplicate", "Copy the marked connection", "duplicate"),
        _key("x", "delete", "Delete", "Delete the connection, or disable the model", "delete"),
        _key("escape", "back", "Connections", "Go to the list of connections", "back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._tests: dict[str, list[Finding]] = {}
        self._verdicts: dict[bytes, CheckReport | str] = {}
        self._judged: Connection | None = None

    def compose_content(self) -> ComposeResult:
        with Vertical(id="lists"):
            yield Table(rows.CONNECTION_COLUMNS, empty="no connections", id="connections")
            yield Static("", id="facts")
            yield Table(rows.MODEL_COLUMNS, empty="no models: a enables one", id="models")

    @property
    def _connections(self) -> Table:
        return self.query_one("#connections", Table)

    @property
    def _models(self) -> Table:
        return self.query_one("#models", Table)

    @property
    def _on_models(self) -> bool:
        return self.focused is self._models

    @property
    def _connection(self) -> Connection | None:
        name = self._connections.current
        found = (one for one in workstation(self).state.connections if one.name == name)
        return next(found, None)

    @property
    def _model(self) -> EnabledModel | None:
        connection = self._connection
        models = connection.enabled_models if connection else ()
        return next((one for one in models if one.model == self._models.current), None)

    def state_changed(self, event: ControllerEvent | None) -> None:
        self._show()
        self.refresh_bindings()

    def _show(self) -> None:
        state = workstation(self).state
        before = len(self._connections.rows)
        self._connections.show(rows.connection_rows(state, self._tests))
        if len(self._connections.rows) != before:
            self._connections.refresh(layout=True)
        self._show_connection()

    def _show_connection(self) -> None:
        connection, state = self._connection, workstation(self).state
        self._models.show(rows.model_rows(connection, state, self._verdicts))
        facts = self.query_one("#facts", Static)
        facts.update(rows.facts(connection) if connection else "")
        if connection is not None and connection != self._judged and self.is_current:
            self._judged = connection
            start(self, partial(self._judge, connection), group="verdicts", latest=True)

    async def _judge(self, connection: Connection) -> None:
        """Asks the checker about each enabled model whose verdict is not known."""
        client = workstation(self).client
        for enabled in connection.enabled_models:
            key = rows.key_of(connection, enabled)
            if key in self._verdicts:
                continue
            said: CheckReport | str
            try:
                said = await client.check(enabled.model, wishes_for(connection, enabled))
            except MeshtuiError as error:
                said = error.message
            self._verdicts[key] = said
            self._show_connection()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        has_connection, has_model = self._connection is not None, self._model is not None
        possible = {
            "edit": has_model if self._on_models else has_connection,
            "delete": has_model if self._on_models else has_connection,
            "enable": has_connection,
            "test": has_connection,
            "duplicate": has_connection and not self._on_models,
            "prompt": has_model and self._on_models,
            "check": has_model and self._on_models,
            "back": self._on_models,
        }
        return possible.get(action, True)

    def on_table_moved(self) -> None:
        self._show_connection()
        self.refresh_bindings()

    def on_table_opened(self, _message: Table.Opened) -> None:
        self.action_edit()

    def on_descendant_focus(self) -> None:
        self.refresh_bindings()

    # Commands

    def _send(self, command: Callable[[], Awaitable[object]], done: str) -> None:
        start(self, partial(self._sent, command, done), group="commands")

    async def _sent(self, command: Callable[[], Awaitable[object]], done: str) -> None:
        app = workstation(self)
        try:
            await command()
        except MeshtuiError as error:
            app.say(str(error), "error")
        else:
            app.say(done)

    def _with_seen(self, work: Callable[[EditableConnection], Awaitable[None]]) -> None:
        """Does something with the marked connection as its file is now."""
        start(self, partial(self._seen, work), group="commands")

    async def _seen(self, work: Callable[[EditableConnection], Awaitable[None]]) -> None:
        app, connection = workstation(self), self._connection
        if connection is None:
            return
        try:
            await work(await app.client.editable_connection(connection.name))
        except MeshtuiError as error:
            app.say(str(error), "error")

    def action_new(self) -> None:
        start(self, self._new, group="commands")

    async def _new(self) -> None:
        from .connection_form import ConnectionForm

        app = workstation(self)
        try:
            executions = await app.client.execution_names()
        except MeshtuiError as error:
            app.say(str(error), "error")
            return
        app.push_screen(ConnectionForm(None, executions), self._saved)

    def _saved(self, name: str | None) -> None:
        if name:
            self._connections.go_to(name)
            self._tests.pop(name, None)
            self._show()

    def action_edit(self) -> None:
        model = self._model
        if self._on_models and model is not None:
            self._with_seen(partial(self._edit_model, model.model))
        elif not self._on_models:
            self._with_seen(self._edit)

    async def _edit(self, seen: EditableConnection) -> None:
        from .connection_form import ConnectionForm

        executions = await workstation(self).client.execution_names()
        self.app.push_screen(ConnectionForm(seen, executions), self._saved)

    async def _edit_model(self, model: str, seen: EditableConnection) -> None:
        from .model_form import ModelForm

        for enabled in seen.connection.enabled_models:
            if enabled.model == model:
                self.app.push_screen(ModelForm(seen, enabled), self._model_saved)

    def _model_saved(self, model: str | None) -> None:
        if model:
            self._models.go_to(model)
            self._models.focus()

    def action_enable(self) -> None:
        self._with_seen(self._enable)

    async def _enable(self, seen: EditableConnection) -> None:
        from .finder import ModelFinder
        from .model_form import ModelForm

        finder = ModelFinder(seen, await workstation(self).client.presets())

        def chosen(model: str | None) -> None:
            if model:
                form = ModelForm(seen, finder.proposal(model))
                self.app.push_screen(form, self._model_saved)

        self.app.push_screen(finder, chosen)

    def action_test(self) -> None:
        connection = self._connection
        if connection is not None:
            workstation(self).say(f"Testing {connection.name}…")
            # What the checker said may rest on what has changed since.
            for enabled in connection.enabled_models:
                self._verdicts.pop(rows.key_of(connection, enabled), None)
            self._judged = None
            self._show_connection()
            start(self, partial(self._test, connection.name), group="test")

    async def _test(self, name: str) -> None:
        app = workstation(self)
        try:
            connection = (await app.client.editable_connection(name)).connection
            found = await app.client.test_connection(connection)
        except MeshtuiError as error:
            app.say(str(error), "error")
            return
        self._tests[name] = found
        self._show()
        if self.is_current:
            app.push_screen(ProbeResult(name, found))

    def action_prompt(self) -> None:
        connection, model = self._connection, self._model
        if connection is not None and model is not None:
            workstation(self).action_prompt(connection.name, model.model)

    def action_check(self) -> None:
        if model := self._model:
            workstation(self).action_check(model.model)

    def action_duplicate(self) -> None:
        connection = self._connection
        if connection is None:
            return
        name = connection.name
        question = Ask(f"Copy {one_line(name)} under the name", f"{name}-2", "Copy")
        self.app.push_screen(question, partial(self._duplicate, name))

    def _duplicate(self, name: str, new: str | None) -> None:
        if new:
            client = workstation(self).client
            self._connections.go_to(new)
            self._send(partial(client.duplicate_connection, name, new), f"Made {new}.")

    def action_delete(self) -> None:
        self._with_seen(self._disable if self._on_models else self._delete)

    async def _delete(self, seen: EditableConnection) -> None:
        name, client = seen.connection.name, workstation(self).client
        enabled = words.plural(len(seen.connection.enabled_models), "model")
        details = [f"{enabled} enabled; their files stay in the cache.", one_line(seen.path)]
        if seen.shipped and seen.revision:
            details.append("The one that comes with meshtui is back then.")
        # Without a file of its own the controller says why it stays.
        revision = seen.revision or "*"
        command = partial(client.delete_connection, name, revision)
        self.app.push_screen(
            Confirm(f"Delete the connection {one_line(name)}?", details, "Delete"),
            lambda yes: self._send(command, f"Deleted {name}.") if yes else None,
        )

    async def _disable(self, seen: EditableConnection) -> None:
        model, client = self._models.current or "", workstation(self).client
        left = tuple(one for one in seen.connection.enabled_models if one.model != model)
        wanted = msgspec.structs.replace(seen.connection, enabled_models=left)
        name = seen.connection.name
        command = partial(client.save_connection, name, wanted, seen.revision)
        self.app.push_screen(
            Confirm(
                f"Disable {one_line(model)}?",
                [f"Its settings on {one_line(name)} go; its files stay in the cache."],
                "Disable",
            ),
            lambda yes: self._send(command, f"Disabled {model}.") if yes else None,
        )

    def action_back(self) -> None:
        self._connections.focus()

"""The list of servers, and below it the runtimes."""

import time
from collections.abc import Awaitable
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from meshtui.domain.controller import ControllerEvent
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.runtime import BuildPhase
from meshtui.domain.server import ServerStatus
from meshtui.domain.text import one_line

from .. import words
from ..before_start import may_start
from ..frame import WorkScreen, workstation
from ..widgets.dialogs import Confirm
from ..widgets.table import Table
from ..work import start
from . import facts, rows

_TALL_ROWS = 30


def _key(key: str, action: str, name: str, what: str, identity: str) -> Binding:
    return Binding(key, action, name, tooltip=what, id=f"servers.{identity}")


class ServersScreen(WorkScreen):
    """Keys act on the row with the cursor of the table that has the focus."""

    AUTO_FOCUS = "#servers"
    TITLE_OF_HELP = "Servers"
    NOTES = (
        "A server is one engine process for one model. It goes on when you leave, and stops of "
        "itself when it was idle for its model's idle timeout.",
        "A runtime is the pinned stack (vLLM, transformers, torch) that servers run on.",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("enter", "details", "Details", "Open the marked server", "details"),
        _key("s", "start_stop", "Start/stop", "Start the marked server, or stop it", "toggle"),
        _key("l", "log", "Log", "Open the log of the marked server or runtime's build", "log"),
        _key("p", "prompt", "Prompt it", "Prompt the marked model in the studio", "prompt"),
        _key("b", "build", "Build", "Build the marked runtime, or build it anew", "build"),
        _key("c", "cancel_build", "Cancel the build", "", "cancel_build"),
        _key("x", "remove", "Remove", "Remove what is marked; it asks first", "remove"),
        _key("r", "runtimes", "Runtimes", "Go to the runtimes", "runtimes"),
        _key("escape,r", "servers", "Servers", "Go to the servers", "servers"),
    ]

    def compose_content(self) -> ComposeResult:
        with Vertical(id="lists"):
            yield Table(rows.SERVER_COLUMNS, empty="no servers and no enabled models", id="servers")
            yield Table(rows.RUNTIME_COLUMNS, empty="no runtimes are defined", id="runtimes")
            # What is left of a tall screen shows what is known of the marked row.
            yield Static("", id="preview")

    def on_mount(self) -> None:
        super().on_mount()
        self._clock = self.set_interval(1, self._show, pause=True)

    def on_screen_suspend(self) -> None:
        self._clock.pause()

    @property
    def _servers(self) -> Table:
        return self.query_one("#servers", Table)

    @property
    def _runtimes(self) -> Table:
        return self.query_one("#runtimes", Table)

    def state_changed(self, event: ControllerEvent | None) -> None:
        self._show()
        # Only what is alive has times that tick.
        if workstation(self).state.alive and self.is_current:
            self._clock.resume()
        else:
            self._clock.pause()
        self.refresh_bindings()

    def _show(self) -> None:
        state = workstation(self).state
        for table, found in (
            (self._servers, rows.server_rows(state)),
            (self._runtimes, rows.runtime_rows(state)),
        ):
            before = len(table.rows)
            table.show(found)
            if len(table.rows) != before:
                table.refresh(layout=True)
        self._show_preview()

    def _show_preview(self) -> None:
        state, lines = workstation(self).state, list[Content]()
        if self._on_runtimes:
            if runtime := state.runtimes.get(self._runtimes.current or ""):
                lines = [*facts.runtime_lines(runtime)]
        elif server := self._server:
            lines = [*facts.server_lines(server, time.time(), min(self.app.size.width - 6, 120))]
        elif self._model:
            lines = [Content.styled("Never started; s starts it, p prompts it.", "$muted")]
        preview = self.query_one("#preview", Static)
        preview.display = self.app.size.height >= _TALL_ROWS
        preview.update(Content("\n").join(lines), layout=False)

    def on_resize(self) -> None:
        self._show_preview()

    # What the keys act on

    @property
    def _server(self) -> ServerStatus | None:
        return workstation(self).state.servers.get(self._servers.current or "")

    @property
    def _model(self) -> tuple[str, str] | None:
        """Connection and model of the row."""
        if server := self._server:
            return server.connection, server.model
        connection, newline, model = (self._servers.current or "").partition("\n")
        return (connection, model) if newline else None

    @property
    def _on_runtimes(self) -> bool:
        return self.focused is self._runtimes

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        if self._on_runtimes:
            runtime = workstation(self).state.runtimes.get(self._runtimes.current or "")
            building = runtime is not None and runtime.phase is BuildPhase.BUILDING
            possible = {
                "details": False,
                "start_stop": False,
                "prompt": False,
                "log": runtime is not None and runtime.phase is not BuildPhase.ABSENT,
                "build": runtime is not None and not building,
                "cancel_build": building,
                "runtimes": False,
                "remove": runtime is not None
                and runtime.phase in (BuildPhase.READY, BuildPhase.FAILED),
            }
        else:
            server = self._server
            possible = {
                "details": server is not None,
                "start_stop": self._model is not None,
                "prompt": self._model is not None,
                "log": server is not None,
                "remove": server is not None and server.phase.is_over,
                "build": False,
                "cancel_build": False,
                "servers": False,
            }
        return possible.get(action, True)

    def on_table_moved(self) -> None:
        self._show_preview()
        self.refresh_bindings()

    def on_table_opened(self, message: Table.Opened) -> None:
        if self._on_runtimes:
            self.action_log()
        else:
            self.action_details()

    def on_descendant_focus(self) -> None:
        self._show_preview()
        self.refresh_bindings()

    # Commands

    def _send(self, command: Awaitable[object], done: str = "") -> None:
        start(self, partial(self._sent, command, done), group="commands")

    async def _sent(self, command: Awaitable[object], done: str) -> None:
        app = workstation(self)
        try:
            await command
        except MeshtuiError as error:
            app.say(str(error), "error")
        else:
            if done:
                app.say(done)

    def action_start_stop(self) -> None:
        """Starts what is down, stops what is up."""
        client, server = workstation(self).client, self._server
        if server is not None and not server.phase.is_over:
            self._send(client.stop_server(server.id))
        elif self._model is not None:
            self._send(self._start_server(*self._model))

    async def _start_server(self, connection: str, model: str) -> None:
        app = workstation(self)
        option = app.state.option(connection, model)
        if await may_start(app, model, connection, option.label if option else model):
            await app.client.start_server(model, connection)

    def action_details(self) -> None:
        from .details import ServerDetails

        if self._server:
            self.app.push_screen(ServerDetails(self._server.id))
        elif self._model:
            workstation(self).say("It was never started: s starts it.")

    def action_log(self) -> None:
        from .log import RuntimeLog, ServerLog

        if self._on_runtimes:
            if name := self._runtimes.current:
                self.app.push_screen(RuntimeLog(name, f"runtime {name}"))
        elif self._server:
            label = self._server.model.rpartition("/")[2]
            self.app.push_screen(ServerLog(self._server.id, label))

    def action_prompt(self) -> None:
        """Goes to the studio with this model chosen."""
        if self._model:
            workstation(self).action_prompt(*self._model)

    def action_build(self) -> None:
        name = self._runtimes.current or ""
        runtime = workstation(self).state.runtimes.get(name)
        build = workstation(self).client.build_runtime
        if runtime is None or runtime.phase is not BuildPhase.READY:
            self._send(build(name))
            return
        question = Confirm(
            f"Build the runtime {one_line(name)} anew?",
            [
                f"Its {words.size(runtime.size_bytes)} are replaced, and fetched again.",
                "Servers that start meanwhile wait for it.",
            ],
            "Build",
        )
        self.app.push_screen(
            question, lambda yes: self._send(build(name, rebuild=True)) if yes else None
        )

    def action_cancel_build(self) -> None:
        self._send(workstation(self).client.cancel_runtime_build(self._runtimes.current or ""))

    def action_runtimes(self) -> None:
        self._runtimes.focus()

    def action_servers(self) -> None:
        self._servers.focus()

    def action_remove(self) -> None:
        """Asks, naming what goes."""
        client = workstation(self).client
        if self._on_runtimes:
            runtime = workstation(self).state.runtimes[self._runtimes.current or ""]
            where = f" in {one_line(runtime.path)}" if runtime.path else ""
            details = [
                f"{words.size(runtime.size_bytes)}{where}",
                "Servers that need it build it again.",
            ]
            command = partial(client.delete_runtime, runtime.name)
            done = f"Removed the runtime {runtime.name}."
            question = f"Remove the runtime {one_line(runtime.name)}?"
        elif self._server:
            server = self._server
            details = [
                f"{one_line(server.model)} on {one_line(server.connection)}: its entry in this "
                "list, its log and the log before.",
                "The model's files and your history stay.",
            ]
            command = partial(client.remove_server, server.id)
            done = f"Removed the server of {server.model}."
            question = "Remove this server?"
        else:
            return
        self.app.push_screen(
            Confirm(question, details, "Remove"),
            lambda yes: self._send(command(), done) if yes else None,
        )

"""One server: its phases with their times, its figures, what it was started with."""

import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from meshtui.domain.controller import ControllerEvent
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.server import ServerStatus

from ..frame import WorkScreen, workstation
from ..studio.passages import report
from ..work import start
from .facts import server_lines
from .log import ServerLog


class ServerDetails(WorkScreen):
    """Follows its server until the user goes back."""

    AUTO_FOCUS = "#details"
    TITLE_OF_HELP = "a server"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="server.back"),
        Binding(
            "s",
            "start_stop",
            "Start/stop",
            tooltip="Start the server, or stop it",
            id="server.toggle",
        ),
        Binding("l", "log", "Log", tooltip="Open its log", id="server.log"),
        Binding(
            "y",
            "copy",
            "Copy the report",
            tooltip="Copy phases, command and cause, for an issue or a colleague",
            id="server.copy",
        ),
    ]

    def __init__(self, server_id: str) -> None:
        super().__init__()
        self._server_id = server_id

    def compose_content(self) -> ComposeResult:
        with VerticalScroll(id="details"):
            yield Static("", id="facts")

    def on_mount(self) -> None:
        super().on_mount()
        self._clock = self.set_interval(1, self._show)

    @property
    def _server(self) -> ServerStatus | None:
        return workstation(self).state.servers.get(self._server_id)

    def state_changed(self, event: ControllerEvent | None) -> None:
        self._show()
        server = self._server
        if server is None or server.phase.is_over or not self.is_current:
            self._clock.pause()
        else:
            self._clock.resume()

    def on_screen_suspend(self) -> None:
        self._clock.pause()

    def on_resize(self) -> None:
        self._show()

    def _show(self) -> None:
        server = self._server
        facts = self.query_one("#facts", Static)
        if server is None:
            facts.update(Content.styled("This server was removed.", "$muted"))
            return
        width = max(40, min(self.size.width - 6, 96))
        facts.update(Content("\n").join(server_lines(server, time.time(), width)))

    def action_start_stop(self) -> None:
        start(self, self._start_stop, group="commands")

    async def _start_stop(self) -> None:
        app, server = workstation(self), self._server
        if server is None:
            return
        try:
            if server.phase.is_over:
                await app.client.start_server(server.model, server.connection)
            else:
                await app.client.stop_server(server.id)
        except MeshtuiError as error:
            app.say(str(error), "error")

    def action_log(self) -> None:
        if server := self._server:
            self.app.push_screen(ServerLog(server.id, server.model.rpartition("/")[2]))

    def action_copy(self) -> None:
        if server := self._server:
            workstation(self).copy(report(server.explanation, server, server.model), "Report")

    def action_back(self) -> None:
        self.app.pop_screen()

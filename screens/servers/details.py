"""One server: its phases with their times, its figures, what it was started with."""

import shlex
import time
from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from meshtui.domain.controller import ControllerEvent
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.server import ServerStatus
from meshtui.domain.text import one_line, sanitise

from .. import words
from ..frame import WorkScreen, workstation
from ..studio.passages import phase_line, report
from ..work import start
from .log import ServerLog
from .rows import idle_text, up_text


class ServerDetails(WorkScreen):
    """Follows its server until the user goes back."""

    CSS_PATH = "servers.tcss"
    AUTO_FOCUS = "#details"
    TITLE_OF_HELP = "a server"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="server.back"),
        Binding("s", "start_stop", "Start/stop", id="server.toggle"),
        Binding("l", "log", "Log", id="server.log"),
        Binding("y", "copy", "Copy the report", id="server.copy"),
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
        facts.update(Content("\n").join(_lines(server, time.time(), width)))

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


def _lines(server: ServerStatus, now: float, width: int) -> Iterator[Content]:
    sign, tone = words.phase_sign(server.phase)
    yield Content.assemble(
        (f"{sign} ", tone),
        (one_line(server.model), "$strong bold"),
        (f"   {one_line(server.connection)} · {words.phase_text(server)}", "$muted"),
    )
    if server.explanation:
        yield Content("")
        yield Content.styled(sanitise(server.explanation.cause), "$error")
        yield Content(sanitise(server.explanation.fix))
        if server.explanation.excerpt:
            yield Content.styled(sanitise(server.explanation.excerpt), "$muted")
    yield Content("")
    yield Content.styled("Phases", "$key")
    for record in server.phases:
        last = record is server.phases[-1]
        yield Content.assemble(*phase_line(record, now, width, going_on=last))
    yield Content("")
    yield Content.styled("Now", "$key")
    for name, value in _facts(server, now):
        yield Content.assemble((f"  {name:<15}", "$muted"), value)
    for notice in server.notices:
        yield Content.assemble((f"  {words.ATTENTION} ", "$warning"), one_line(notice))
    if server.command:
        yield Content("")
        yield Content.styled("Command", "$key")
        yield Content(f"  {one_line(shlex.join(server.command), 8000)}")


def _facts(server: ServerStatus, now: float) -> Iterator[tuple[str, str]]:
    yield "engine", words.engine_text(server.engine, server.engine_version)
    if server.engine_reason:
        yield "chosen because", one_line(server.engine_reason)
    if server.context_length:
        yield "context", words.plural(server.context_length, "token")
    if not server.phase.is_over:
        yield "up", up_text(server, now)
        if server.port:
            yield "listens on", f"127.0.0.1:{server.port}"
        if server.memory_bytes:
            yield "memory", words.size(server.memory_bytes)
        yield "requests", f"{server.active_requests} now"
    if (idle := idle_text(server, now)) != "–":
        yield "idle", idle
    if server.last_used_at:
        yield "last used", words.time_of_day(server.last_used_at)
    yield "id", one_line(server.id)

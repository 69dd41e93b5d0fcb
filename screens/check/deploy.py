"""Deploying what was checked: the connection takes over its settings, and the server starts."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from meshtui.domain.check import CheckReport, Verdict
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.editing import EditableConnection
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.finding import Level
from meshtui.domain.task import Task
from meshtui.domain.text import one_line

from ..before_start import may_start
from ..frame import workstation
from ..widgets.dialogs import Choice, Finder, Reader, keys, title
from ..work import start
from .asking import Case, ask
from .enabling import as_checked, differences, filled, placed
from .names import is_path
from .verdict import headline, of_level

if TYPE_CHECKING:
    from ..app import MeshtuiApp

_MOST_BLOCKERS = 4


def deploy(screen: Screen[None], case: Case) -> None:
    """Starts the model's server as it was checked. Asks first where it does not run, and before a
    connection is changed."""
    start(screen, partial(_deploy, workstation(screen), case), group="deploy", latest=True)


async def _deploy(app: "MeshtuiApp", case: Case) -> None:
    if is_path(case.model):
        app.push_screen(NotInCache(case.model))
        return
    try:
        if case.report is None:
            case = await ask(app.client, case)
        if case.error is not None:
            raise case.error
        report = (await _as_proposed(app, case)).report
        name = await _connection_for(app, case)
        if report is not None and name is not None:
            await _ask_and_start(app, case, report, await app.client.editable_connection(name))
    except MeshtuiError as error:
        app.say(str(error), "error")


async def _as_proposed(app: "MeshtuiApp", case: Case) -> Case:
    """The case under the settings that would be deployed, where those are others than were
    judged."""
    report = case.report
    wishes = filled(case.wishes, report.proposal) if report else case.wishes
    if report is None or report.verdict is not Verdict.BLOCKED or wishes == case.wishes:
        return case
    judged = await ask(app.client, Case(case.model, wishes))
    return judged if judged.report else case


async def _connection_for(app: "MeshtuiApp", case: Case) -> str | None:
    """Where it is enabled, or is to be; None: the person chose none."""
    option = app.state.option(case.wishes.connection, case.model)
    if option is not None:
        return option.connection
    known = app.state.connections
    if len(known) == 1:
        return known[0].name
    return await app.push_screen_wait(ConnectionPicker(known))


async def _ask_and_start(
    app: "MeshtuiApp", case: Case, report: CheckReport, editable: EditableConnection
) -> None:
    connection, client = editable.connection, app.client
    before = next((m for m in connection.enabled_models if m.model == case.model), None)
    task = report.task or Task.TEXT_GENERATION
    base = before or EnabledModel(model=case.model, task=task)
    after = as_checked(base, report, case.wishes)
    running = app.state.server_of(connection.name, case.model)
    if running is not None and running.phase.is_over:
        running = None
    label = one_line(after.display_name or after.model.rpartition("/")[2], 60)
    where = one_line(connection.name, 60)
    if after != before or report.verdict is Verdict.BLOCKED:
        told = [_blockers(report)]
        if after != before:
            settings = list(differences(before, after))
            told += [settings, [_written(editable, before, settings)]]
            if running is not None:
                told[-1].append("Its server runs already: it stops, and starts with these.")
        question = f"Deploy {label} on {where} with these settings?"
        if report.verdict is Verdict.BLOCKED:
            question = f"Deploy {label} on {where}, although it does not run?"
        dialog = Deploying(question, told, may_keep=before is not None and after != before)
        chosen = await app.push_screen_wait(dialog)
        if chosen is None:
            return
        if chosen == Deploying.CHANGE and after != before:
            changed = placed(connection, after)
            await client.save_connection(connection.name, changed, editable.revision)
            if running is not None:
                await client.stop_server(running.id)
    # What was checked may be GPUs that are not there.
    was_asked = report.verdict is Verdict.BLOCKED
    if not was_asked and not await may_start(app, case.model, connection.name, label):
        return
    await client.start_server(case.model, connection.name)
    app.say(f"{label} is on its way on {where}.")
    app.action_go("servers")


def _blockers(report: CheckReport) -> list[str]:
    if report.verdict is not Verdict.BLOCKED:
        return []
    found = of_level(report, Level.BLOCKER)[:_MOST_BLOCKERS]
    return [f"✗ {one_line(one.message, 300)}" for one in found] or [f"✗ {headline(report)}"]


def _written(
    editable: EditableConnection, before: EnabledModel | None, settings: Sequence[str]
) -> str:
    path, home = one_line(editable.path, 200), str(Path.home())
    if path.startswith(f"{home}/"):
        path = path.replace(home, "~", 1)
    if before is None:
        return f"It is enabled{' with these settings' if settings else ''} in {path}."
    return f"They are written to {path}."


class Deploying(ModalScreen[str | None]):
    """Asks before a connection is changed, and before what does not run is started. Between the
    groups of lines that are `told` there is room."""

    CHANGE, KEEP = "change", "keep"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", f"answer('{CHANGE}')", "Yes", id="deploying.yes"),
        Binding("k", f"answer('{KEEP}')", "As it is", id="deploying.keep"),
        Binding("n,escape", "answer('')", "No", id="deploying.no"),
    ]

    def __init__(self, question: str, told: Sequence[Sequence[str]], *, may_keep: bool) -> None:
        super().__init__()
        self._question, self._told, self._may_keep = question, told, may_keep

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield title(self._question)
            yield Static(Content("\n\n".join("\n".join(lines) for lines in self._told if lines)))
            keep = (("k", "Deploy as it was before"),) if self._may_keep else ()
            yield keys(("y", "Deploy"), *keep, ("esc", "Leave it"))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return parameters != (self.KEEP,) or self._may_keep

    def action_answer(self, answer: str) -> None:
        self.dismiss(answer or None)


class ConnectionPicker(Finder):
    """Where to deploy. The key is the connection's name."""

    HEADING = "Deploy on"
    PLACEHOLDER = "type to narrow"
    EMPTY = "No connection has that in its name."

    def __init__(self, connections: Sequence[Connection]) -> None:
        super().__init__()
        self._connections = connections

    async def choices(self, query: str) -> Sequence[Choice]:
        needle = query.casefold().strip()
        return [
            (
                one.name,
                Content.assemble(
                    (f"{one_line(one.name, 60):<18}", "$strong"),
                    (f"  {one_line(one.execution, 40)}", "$muted"),
                ),
            )
            for one in self._connections
            if needle in one.name.casefold()
        ]


class NotInCache(Reader):
    """Servers take no folder as it is."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder

    def heading(self) -> str:
        return "Not in the cache yet"

    def content(self) -> Content:
        return Content(
            f"{one_line(self._folder, 200)} is a folder. Servers run models of the Hub and of the "
            "cache: bring it into the cache first (i on the Cache screen, or meshtui cache build), "
            "and check it under its name there."
        )

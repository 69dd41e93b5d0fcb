"""Deploying what was checked: starting its server, or saying what stands in the way."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

from platformdirs import PlatformDirs
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen

from meshtui.domain.check import CheckReport, CheckWishes, Verdict
from meshtui.domain.connection import EnabledModel
from meshtui.domain.controller import ModelOption
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.finding import Level
from meshtui.domain.text import one_line

from ..frame import workstation
from ..widgets.dialogs import Confirm, Reader
from ..work import start
from .names import is_path
from .verdict import headline, of_level

_MOST_BLOCKERS = 4


def deploy(screen: Screen[None], report: CheckReport, wishes: CheckWishes) -> None:
    """Starts the model's server where it is enabled. Asks first where it does not run, or where
    its connection has other settings than those that were checked."""
    app = workstation(screen)
    option = app.state.option(wishes.connection, report.model)
    if option is None:
        screen.app.push_screen(HowToEnable(report, wishes))
        return
    question, details = _question(option, report, wishes)
    if not details:
        start(screen, partial(_start, screen, option), group="commands")
        return
    screen.app.push_screen(
        Confirm(question, details, "Deploy"), lambda yes: _answered(screen, option, yes)
    )


def _answered(screen: Screen[None], option: ModelOption, yes: bool | None) -> None:
    if yes:
        start(screen, partial(_start, screen, option), group="commands")


async def _start(screen: Screen[None], option: ModelOption) -> None:
    app = workstation(screen)
    try:
        await app.client.start_server(option.enabled.model, option.connection)
    except MeshtuiError as error:
        app.say(str(error), "error")
        return
    app.say(f"{option.label} is on its way on {option.connection}.")
    app.action_go("servers")


def _question(
    option: ModelOption, report: CheckReport, wishes: CheckWishes
) -> tuple[str, list[str]]:
    """What to ask, and the reasons; none: nothing needs to be asked."""
    name = one_line(option.label, 60)
    others = list(_differences(option.enabled, settings(report, wishes)))
    details = []
    question = f"Deploy {name} as {one_line(option.connection, 40)} has it?"
    if report.verdict is Verdict.BLOCKED:
        question = f"Deploy {name}, although it does not run?"
        blockers = of_level(report, Level.BLOCKER)
        details += [f"✗ {one_line(b.message, 300)}" for b in blockers[:_MOST_BLOCKERS]]
        details = details or [headline(report)]
    if others:
        details += ["", *others, f"Change them in {connection_file(option.connection)}."]
    return question, details


def settings(report: CheckReport, wishes: CheckWishes) -> dict[str, object]:
    """What an enabled model has to say so that it is served as it was checked: what was wished
    for, and for the rest what the checker proposes."""
    proposal = report.proposal
    proposed = {
        name: getattr(proposal, name)
        for name in ("max_tokens", "tensor_parallel_size", "quantization", "trust_remote_code")
        if proposal is not None
    }
    wished = {
        name: value
        for name in ("max_tokens", "tensor_parallel_size", "quantization")
        if (value := getattr(wishes, name)) is not None
    }
    return {**proposed, **wished}


def _differences(enabled: EnabledModel, wanted: dict[str, object]) -> Iterator[str]:
    for name, value in wanted.items():
        has = getattr(enabled, name)
        if value not in (None, has):
            label = name.replace("_", " ").capitalize()
            yield f"{label}: {_text(has)} there, {_text(value)} checked."


def _text(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:,}" if isinstance(value, int) else one_line(str(value), 60)


def connection_file(name: str) -> str:
    """Where a connection of that name is read from."""
    folder = Path(PlatformDirs("meshtui", appauthor=False).user_config_dir)
    path = str(folder / "connections" / f"{one_line(name, 60)}.toml")
    home = str(Path.home())
    return path.replace(home, "~", 1) if path.startswith(f"{home}/") else path


def enabling(report: CheckReport, wishes: CheckWishes) -> str:
    """A connection that enables the model with these settings, as TOML."""
    lines = ['execution = "local"']
    if wishes.runtime:
        lines.append(f"runtime = {_toml(wishes.runtime)}")
    lines += ["", "[[enabled_models]]", f"model = {_toml(report.model)}"]
    if report.task:
        lines.append(f"task = {_toml(report.task.value)}")
    for name, value in settings(report, wishes).items():
        usual = EnabledModel(model="")
        if value not in (None, getattr(usual, name)):
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = one_line(str(value), 500).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


class HowToEnable(Reader):
    """The model is on no connection: which file would enable it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy", id="enable.copy"),
    ]

    def __init__(self, report: CheckReport, wishes: CheckWishes) -> None:
        super().__init__()
        self._report = report
        self._text = enabling(report, wishes)

    def heading(self) -> str:
        return "Not enabled yet"

    def content(self) -> Content:
        name = one_line(self._report.model, 120)
        if is_path(self._report.model):
            return Content(
                f"{name} is a folder. Servers run models of the Hub and of the cache: bring it "
                "into the cache first (meshtui cache build), and enable it under its name there."
            )
        stem = one_line(self._report.model.rpartition("/")[2], 60).lower()
        safe = "".join(c if c.isascii() and c.isalnum() else "-" for c in stem).strip("-")
        return Content.assemble(
            f"No connection enables {name}. This file would, with what was checked; it is read "
            "as soon as it is saved:\n\n",
            (connection_file(safe or "model"), "$key"),
            "\n\n",
            (self._text, "$strong"),
            ("\ny copies it.", "$muted"),
        )

    def action_copy(self) -> None:
        workstation(self).copy(self._text, "The connection")

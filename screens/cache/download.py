"""Downloading a model: its name, then the files that would come, then it is on its way."""

from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.content import Content

from meshtui.domain.model_cache import DownloadPlan, PlannedFile
from meshtui.domain.text import one_line

from .. import words
from ..frame import workstation
from ..widgets.fields import Field
from ..widgets.selector import Selector
from ..widgets.table import Column, Row
from . import acts
from .plan import PlanDialog, blocked, line


class DownloadDialog(PlanDialog):
    """The marked files are fetched."""

    HEADING = "Download a model"
    ASKING = "asking the Hub which files there are…"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("FILE", 30, most=60),
        Column("SIZE", 7, right=True),
        Column("WHY", 18, most=30, drop=1),
    )
    KEYS = (("enter", "Look, then fetch"), ("space", "Mark"), ("esc", "Close"))
    MARKS = True
    _plan: DownloadPlan | None = None

    def compose_form(self) -> ComposeResult:
        yield line("model", Field(placeholder="org/name or org/name@revision", id="model"))
        names = [connection.name for connection in workstation(self).state.connections]
        options = [("", "the one that enables it"), *((name, one_line(name)) for name in names)]
        yield line("access as", Selector(options, id="connection"))

    @property
    def _model(self) -> str:
        return self.query_one("#model", Field).value.strip()

    @property
    def _connection(self) -> str | None:
        return self.query_one(Selector).value or None

    async def ask(self) -> None:
        client = workstation(self).client
        self._plan = await client.plan_download(self._model, self._connection)

    def on_selector_changed(self) -> None:
        if self._plan is not None:
            self.look_up()

    def show_plan(self) -> None:
        if self._plan is not None:
            self.items.show([_row(file) for file in self._plan.files])
            self.items.mark(file.path for file in self._plan.files if file.selected)
            self._show_sum()

    def on_mark_table_marked(self) -> None:
        self._show_sum()

    def _show_sum(self) -> None:
        plan = self._plan
        if plan is None:
            return
        wanted = [file for file in plan.files if file.path in self.items.marks]
        size = sum(file.size_bytes for file in wanted)
        have = f", {words.size(plan.have_bytes)} of it there already" if plan.have_bytes else ""
        lines = [
            Content.assemble(
                (words.size(size), "$strong bold"),
                f" in {len(wanted)} of {words.plural(len(plan.files), 'file')}{have}",
            ),
            Content.styled(
                f"{words.size(plan.free_bytes)} free · licence "
                f"{one_line(plan.licence or 'not said')} · commit {one_line(plan.commit)[:10]}",
                "$muted",
            ),
        ]
        if size - plan.have_bytes > plan.free_bytes:
            missing = words.size(size - plan.have_bytes - plan.free_bytes)
            why = f"{words.FAILED} {missing} are missing on the disk: make room with P."
            lines.append(Content.styled(why, "$error"))
        if plan.cached:
            lines.append(Content.styled(f"{words.READY} It is in the cache already.", "$success"))
        self.tell(*lines)
        self.tell_of(plan.findings)

    def carry_out(self) -> None:
        plan = self._plan
        if plan is None or plan.cached or blocked(plan.findings):
            return
        marked = [file.path for file in plan.files if file.path in self.items.marks]
        if not marked:
            workstation(self).say("No file is marked; space marks.", "warning")
            return
        usual = [file.path for file in plan.files if file.selected]
        files = None if marked == usual else marked
        client = workstation(self).client
        begin = partial(client.download, plan.model, self._connection, files)
        acts.begin(self.app, [begin], f"Downloading {plan.model}; its row shows how far.")
        self.dismiss(plan.model)


def _row(file: PlannedFile) -> Row:
    return Row(
        file.path,
        (
            (one_line(file.path), ""),
            (words.size(file.size_bytes), ""),
            (one_line(file.reason), "$muted"),
        ),
    )

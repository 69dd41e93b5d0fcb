"""Exporting entries: where to and as what, then the files that would be written."""

from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.content import Content

from meshtui.domain.amounts import bytes_of
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import ExportPlan, ExportWishes
from meshtui.domain.text import one_line

from .. import words
from ..frame import workstation
from ..widgets.fields import Field
from ..widgets.selector import Selector
from ..widgets.table import Column, Row
from . import acts
from .paths import PathField
from .plan import PlanDialog, blocked, line
from .rows import fit_name, short_name

_CONTAINERS = (
    ("zip", "zip, not compressed"),
    ("tar", "tar"),
    ("tar.zst", "tar.zst, compressed"),
    ("folder", "a plain folder"),
)
_CHECKSUMS = (
    ("beside", "in a file beside it"),
    ("inside", "inside (unknown whether others accept it)"),
    ("none", "none"),
)
_EXISTING = (("no", "stays, and is said"), ("yes", "is replaced"))


class ExportDialog(PlanDialog):
    """Every model of the list is written by itself."""

    ASKING = "looking what would be written…"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("", 1),
        Column("MODEL", 24, most=40, fit=fit_name),
        Column("SIZE", 7, right=True),
        Column("TO", 26, most=60),
    )
    KEYS = (("enter", "Look, then export"), ("tab", "Next"), ("esc", "Close"))

    def __init__(self, models: list[str]) -> None:
        super().__init__()
        self._models = models
        self._wishes = ExportWishes(folder="")
        self._plans: list[ExportPlan] = []
        self._refused: dict[str, MeshtuiError] = {}

    def heading(self) -> str:
        if len(self._models) == 1:
            return f"Export {short_name(self._models[0])}"
        return f"Export {len(self._models)} models"

    def compose_form(self) -> ComposeResult:
        yield line("to folder", PathField("~/", id="folder"))
        yield line("as", Selector(_CONTAINERS, id="container"))
        yield line("volumes of", Field(placeholder="one file; or 4GB, 700MB", id="volume"))
        yield line("checksums", Selector(_CHECKSUMS, id="checksums"))
        yield line("what exists", Selector(_EXISTING, id="existing"))

    def _value(self, name: str) -> str:
        return self.query_one(f"#{name}", Selector).value

    def on_selector_changed(self) -> None:
        if self._plans or self._refused:
            self._plans, self._refused = [], {}
            self.query_one(".plan").remove_class("-planned")
            self.tell(Content.styled("enter looks anew", "$muted"))

    async def ask(self) -> None:
        volume = self.query_one("#volume", Field).value.strip()
        self._wishes = ExportWishes(
            folder=self.query_one(PathField).path,
            container=self._value("container"),  # type: ignore[arg-type]
            volume_bytes=bytes_of(volume) if volume else None,
            checksums=self._value("checksums"),  # type: ignore[arg-type]
            replace=self._value("existing") == "yes",
        )
        self._plans, self._refused = [], {}
        for model in self._models:
            try:
                plan = await workstation(self).client.plan_export(model, self._wishes)
                self._plans.append(plan)
            except MeshtuiError as error:
                self._refused[model] = error

    def show_plan(self) -> None:
        rows = [_row(plan) for plan in self._plans]
        rows += [_refusal_row(model, error) for model, error in self._refused.items()]
        self.items.show(rows)
        size = sum(plan.size_bytes for plan in self._plans)
        lines = [Content(f"{words.size(size)} in {words.plural(len(self._plans), 'model')}")]
        if self._plans:
            free = self._plans[0].free_bytes
            lines = [Content.assemble(lines[0], (f", {words.size(free)} free there", "$muted"))]
            if size > free:
                missing = words.size(size - free)
                lines.append(Content.styled(f"{words.FAILED} {missing} are missing.", "$error"))
        self.tell(*lines)
        self.on_table_moved()

    def on_table_moved(self) -> None:
        current = self.items.current
        if error := self._refused.get(current or ""):
            rule = {"rule": error.code, "level": Level.BLOCKER}
            self.tell_of([Finding(message=error.message, fix=error.hint or "", **rule)])  # type: ignore[arg-type]
        else:
            self.tell_of(
                finding
                for plan in self._plans
                if plan.model == current
                for finding in plan.findings
            )

    def carry_out(self) -> None:
        models = [plan.model for plan in self._plans if not blocked(plan.findings)]
        if models:
            client = workstation(self).client
            starts = [partial(client.export, model, self._wishes) for model in models]
            what = words.plural(len(models), "model")
            acts.begin(self, starts, f"Exporting {what} to {self._wishes.folder}.")
            self.dismiss(None)


def _row(plan: ExportPlan) -> Row:
    more = f" and {len(plan.paths) - 1} more" if len(plan.paths) > 1 else ""
    wrong = blocked(plan.findings)
    sign = (words.FAILED, "$error") if wrong else (" ", "")
    to = one_line(plan.paths[0] if plan.paths else "") + more
    cells = (sign, (short_name(plan.model), "$strong"), (words.size(plan.size_bytes), ""))
    return Row(plan.model, (*cells, (to, "$muted")))


def _refusal_row(model: str, error: MeshtuiError) -> Row:
    sign, dash = (words.FAILED, "$error"), ("–", "$muted")
    return Row(model, (sign, (short_name(model), ""), dash, (one_line(error.message), "$error")))

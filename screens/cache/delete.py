"""Deleting entries: what is freed, who uses them, which may not go."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from meshtui.domain.model_cache import DeletePlan
from meshtui.domain.text import one_line

from .. import words
from ..frame import workstation
from ..widgets.table import Column, Row
from . import acts
from .plan import PlanDialog
from .rows import fit_name, short_name


class DeleteDialog(PlanDialog):
    """Asks once."""

    ASKING = "looking who uses them…"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "go", "Delete", id="delete.yes")]
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("MODEL", 24, most=48, fit=fit_name),
        Column("FREES", 7, right=True),
        Column("", 26, most=60),
    )
    KEYS = (("y", "Delete"), ("esc", "Leave it"))

    def __init__(self, models: list[str]) -> None:
        super().__init__()
        self._models = models
        self._plans: list[DeletePlan] = []

    def heading(self) -> str:
        if len(self._models) == 1:
            return f"Delete {short_name(self._models[0])}?"
        return f"Delete {len(self._models)} models?"

    def on_mount(self) -> None:
        self.look_up()

    async def ask(self) -> None:
        self._plans = await workstation(self).client.plan_delete(self._models)

    @property
    def _going(self) -> list[DeletePlan]:
        return [plan for plan in self._plans if not plan.refusal]

    def show_plan(self) -> None:
        self.items.show([_row(plan) for plan in self._plans])
        going = self._going
        if not going:
            self.tell(Content.styled(f"{words.FAILED} Not now.", "$error"), self._refusals())
            return
        freed = words.size(sum(plan.frees_bytes for plan in going))
        lines = [Content.assemble("It frees ", (freed, "$strong bold"), ".")]
        if enabled := sorted({name for plan in going for name in plan.enabled_on}):
            where = one_line(", ".join(enabled))
            lines.append(
                Content.styled(
                    f"{words.ATTENTION} Enabled on {where}: fetched again at the next start.",
                    "$warning",
                )
            )
        if refusals := self._refusals():
            lines.append(Content.styled(f"{words.FAILED} {refusals}", "$error"))
        self.tell(*lines)

    def _refusals(self) -> str:
        return one_line(" ".join(plan.refusal for plan in self._plans if plan.refusal), 300)

    def carry_out(self) -> None:
        going = [plan.model for plan in self._going]
        if going:
            acts.delete(self, going)
            self.dismiss(None)


def _row(plan: DeletePlan) -> Row:
    note, tone = ", ".join(plan.enabled_on), "$muted"
    if note:
        note = f"enabled on {note}"
    if plan.refusal:
        note, tone = plan.refusal, "$error"
    freed = words.size(0 if plan.refusal else plan.frees_bytes)
    cells = ((short_name(plan.model), ""), (freed, ""), (one_line(note), tone))
    return Row(plan.model, cells)

"""Making room: what may go, then what that would be."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from meshtui.domain.amounts import bytes_of, seconds_of
from meshtui.domain.errors import InvalidInput
from meshtui.domain.model_cache import PruneItem, PrunePlan, PruneWishes
from meshtui.domain.text import one_line

from .. import words
from ..frame import workstation
from ..widgets.fields import Field
from ..widgets.selector import Selector
from ..widgets.table import Column, Row
from . import acts
from .plan import PlanDialog, line
from .rows import fit_name, short_name

_YES = (("no", "stay"), ("yes", "may go"))


class PruneDialog(PlanDialog):
    """Nothing goes before the list of it was seen."""

    HEADING = "Prune the cache"
    ASKING = "looking what may go…"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "prune", "Prune", id="prune.yes")]
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("", 1),
        Column("MODEL", 24, most=44, fit=fit_name),
        Column("FREES", 7, right=True),
        Column("WHY", 26, most=50),
    )
    KEYS = (("enter", "Look"), ("y", "Remove what is listed"), ("esc", "Leave it"))

    def __init__(self) -> None:
        super().__init__()
        self._wishes = PruneWishes()
        self._plan = PrunePlan()

    def compose_form(self) -> ComposeResult:
        yield line("not used for", Field(placeholder="30d, 12h, 8w", id="unused"))
        yield line("keep at most", Field(placeholder="200GB", id="budget"))
        yield line("half downloads", Selector(_YES, id="partials"))
        yield line("detached", Selector(_YES, id="detached"))

    async def ask(self) -> None:
        unused = self.query_one("#unused", Field).value.strip()
        budget = self.query_one("#budget", Field).value.strip()
        self._plan = PrunePlan()
        self._wishes = PruneWishes(
            unused_s=seconds_of(unused) if unused else None,
            budget_bytes=bytes_of(budget) if budget else None,
            partials=self.query_one("#partials", Selector).value == "yes",
            detached=self.query_one("#detached", Selector).value == "yes",
        )
        if self._wishes == PruneWishes():
            raise InvalidInput("Nothing may go yet.", hint="Say above what may.")
        self._plan = await workstation(self).client.plan_prune(self._wishes)

    def show_plan(self) -> None:
        plan = self._plan
        rows = [_row(item, kept=False) for item in plan.items]
        self.items.empty = "nothing has to go"
        self.items.show([*rows, *(_row(item, kept=True) for item in plan.kept)])
        if plan.items:
            freed = (words.size(plan.frees_bytes), "$strong bold")
            count = words.plural(len(plan.items), "item")
            self.tell(Content.assemble(f"{count} would go and free ", freed, ": y removes them."))

    def on_selector_changed(self) -> None:
        self._plan = PrunePlan()
        self.query_one(".plan").remove_class("-planned")
        self.tell()

    def on_input_changed(self) -> None:
        self.on_selector_changed()

    def action_prune(self) -> None:
        if self._plan.items:
            client, freed = workstation(self).client, words.size(self._plan.frees_bytes)
            acts.send(self, client.prune(self._wishes), f"Pruned the cache: {freed} freed.")
            self.dismiss(None)


def _row(item: PruneItem, *, kept: bool) -> Row:
    tone = "$muted" if kept else ""
    sign = (words.READY, "$success") if kept else (words.FAILED, "$error")
    reason = f"kept: {item.reason}" if kept else item.reason
    return Row(
        f"{item.partial or ''}\n{item.model}\n{kept}",
        (
            sign,
            (short_name(item.model), tone),
            (words.size(item.frees_bytes), tone),
            (one_line(reason), "$muted"),
        ),
    )

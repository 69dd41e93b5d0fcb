"""The screen of the checker: what is asked, what the keys do, and what comes of it."""

from collections.abc import Hashable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from meshtui.domain.check import CheckWishes
from meshtui.domain.controller import (
    ControllerEvent,
    Overview,
    RuntimeChanged,
)
from meshtui.domain.errors import MeshtuiError, Unavailable
from meshtui.domain.memory import GpuSpec

from ..frame import workstation
from ..state import Link
from ..work import start
from . import keys, names
from .asking import PATIENCE_S, Asker, Case
from .basis import basis
from .model_field import Suggestions
from .page import Page
from .parameters import Known, proposed
from .suggesting import Suggester
from .turning import Turning

# All parameters are in one row from that width on.
_ONE_ROW_COLUMNS = 150
_MOST_REMEMBERED = 30
_MOST_TO_COMPARE = 500


class CheckScreen(Turning):
    """One model at a time, under wishes that the keys change."""

    AUTO_FOCUS = "#model"
    TITLE_OF_HELP = "Check"
    NOTES = (
        "Left and right turn the marked parameter, up and down go on to the next one. Its letter "
        "turns it from anywhere, the capital letter turns it back. What stands in brackets was "
        "chosen by the checker.",
        "The bar is the memory of one GPU: █ weights, ▓ the KV cache of one request, ▒ what the "
        "server needs besides, ░ what it may need, ╱ what it leaves alone. SIM: the GPU is "
        "imagined, not seen. measured: a server logged the figures.",
    )
    BINDINGS: ClassVar[list[BindingType]] = keys.BINDINGS

    def __init__(self) -> None:
        super().__init__()
        self._case: Case | None = None
        self._gpus: tuple[GpuSpec, ...] = ()
        # Asked for before the controller was there.
        self._early: str | None = None
        # What the newest question's answer rests on.
        self._basis: Hashable = None
        # A name was entered: with the answer, letters are keys.
        self._is_entered = False
        self._possible: set[str] = set()

    # What is shown

    def compose_content(self) -> ComposeResult:
        yield Page()

    def on_mount(self) -> None:
        super().on_mount()
        self._asker = Asker(self, self._answered, self._waits)
        self._suggester = Suggester(self, self._page)
        self._page.field.checked = list(workstation(self).memory.checked)
        self._page.show_nothing()
        self.show_wishes()
        self._fold()

    def on_resize(self) -> None:
        self._fold()
        self._page.explain(self.known.report)

    def _fold(self) -> None:
        self.set_class(self.app.size.width < _ONE_ROW_COLUMNS, "-folded")

    @property
    def _page(self) -> Page:
        return self.query_one(Page)

    @property
    def known(self) -> Known:
        runtimes = workstation(self).state.runtimes.values()
        return Known(self._gpus, tuple(runtimes), self._case.report if self._case else None)

    def show_wishes(self) -> None:
        self._page.show_wishes(self.wishes, self.known, self.current)

    def state_changed(self, event: ControllerEvent | None) -> None:
        if workstation(self).state.link is not Link.CONNECTED:
            return
        if event is None or isinstance(event, Overview):
            start(self, self._list, group="list", latest=True)
        elif isinstance(event, RuntimeChanged):
            self.show_wishes()
        if wanted := workstation(self).take_check():
            self._begin(wanted)
        elif waiting := self._early:
            self._ask(waiting)
        elif (model := self._model) and self._is_outdated(model, event):
            self._ask(model)

    def _is_outdated(self, model: str, event: ControllerEvent | None) -> bool:
        """Whether the newest question would be answered otherwise now."""
        if self._asker.asked is None and self._case and isinstance(self._case.error, Unavailable):
            return event is None
        return self._basis != basis(workstation(self).state, model)

    async def _list(self) -> None:
        """What can be chosen from."""
        state, client = workstation(self).state, workstation(self).client
        try:
            if not self._gpus:
                self._gpus = tuple(await client.gpus())
                self.show_wishes()
            if state.entries_are_old:
                state.await_entries()
                state.take_entries(await client.cache_entries())
            self._suggester.presets = await client.presets()
        except MeshtuiError as error:
            # Names can be typed without it, and the next event of the link tries again.
            self.log.error(error)

    # Asking

    def _ask(self, model: str) -> None:
        """Asks about the model as the parameters stand; the newest question counts."""
        self._early = None
        state = workstation(self).state
        if state.link is Link.CONNECTED:
            self._basis = basis(state, model)
            self._asker.ask(model, self.wishes)
        else:
            self._early = model
            self.show_wishes()

    def _begin(self, text: str) -> None:
        """Asks about a model that was named."""
        model = names.full_name(text)
        if not model:
            return
        page = self._page
        page.field.taken(text)
        option = workstation(self).state.option(None, model)
        if self._model != model:
            # A length that one model allows means nothing to another.
            self.wishes = CheckWishes(
                gpu=self.wishes.gpu,
                gpus=self.wishes.gpus,
                tensor_parallel_size=self.wishes.tensor_parallel_size,
                runtime=self.wishes.runtime,
                connection=option.connection if option else None,
            )
        self._remember(text)
        self._is_entered = True
        self.set_focus(None)
        self._ask(model)
        self.show_wishes()
        self._show_keys()

    def _remember(self, text: str) -> None:
        checked = self._page.field.checked
        checked[:] = [text, *(other for other in checked if other != text)][:_MOST_REMEMBERED]
        workstation(self).memory.checked = list(checked)
        workstation(self).save_memory()

    @property
    def _model(self) -> str | None:
        """The model that is asked about, or was last."""
        if self._early is not None:
            return self._early
        case = self._asker.asked or self._case
        return case.model if case else None

    def _waits(self, seconds: float) -> None:
        self.show_wishes()
        case = self._asker.asked
        if case and seconds >= PATIENCE_S:
            is_new = self._case is None or self._case.model != case.model
            self._page.show_waiting(case, seconds, is_new=is_new)
            self._show_keys()

    def _answered(self, case: Case) -> None:
        before, self._case = self._case, case
        is_other = before is None or before.model != case.model
        anew = is_other or (before is not None and before.report is None)
        page = self._page
        if case.report is None:
            page.show_error(case)
            if is_other:
                page.field.focus()
        else:
            page.show_report(case.report, self.known, anew=anew)
            if self._is_entered or self.focused is None:
                page.findings.focus()
        self._is_entered = False
        self.show_wishes()
        self._show_keys()

    # The model's name

    def on_input_changed(self) -> None:
        self._suggester.suggest()

    def on_input_submitted(self) -> None:
        self._begin(self._page.field.value)

    def on_suggestions_chosen(self, message: Suggestions.Chosen) -> None:
        self._begin(message.value)

    def on_model_field_left(self) -> None:
        self._page.findings.focus()

    def on_descendant_focus(self) -> None:
        page = self._page
        if self.focused is page.field:
            if self._case is None and self._asker.asked is None:
                self._suggester.suggest()
        else:
            self._suggester.stop()
            if self._model is not None and names.full_name(page.field.value) != self._model:
                page.field.put(self._model)
        self.refresh_bindings()

    def action_to_model(self) -> None:
        self._page.field.focus()
        self._page.field.select_all()

    # The parameters

    def wished(self) -> None:
        model = self._model
        # Painted once, with the answer, where that comes at once.
        if model is None or self._asker.asked is not None:
            self.show_wishes()
        if model is not None:
            self._ask(model)

    def action_again(self) -> None:
        if self._model is not None:
            self._ask(self._model)

    def action_cancel(self) -> None:
        """Back to the last answer."""
        self._asker.cancel()
        self._early = None
        if self._case is None:
            self._page.show_nothing()
            self._page.field.focus()
        else:
            self.wishes = self._case.wishes
            self._page.field.put(self._case.model)
            self._answered(self._case)
        self.show_wishes()

    # What comes of it

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        report = self.known.report
        has_report = report is not None
        match action:
            case "explain":
                return has_report and self._page.findings.current is not None
            case "deploy" | "export" | "copy" | "compare":
                return has_report
            case "memory":
                return report is not None and report.memory is not None
            case "apply":
                return proposed(self.wishes, self.known) != self.wishes
            case "cancel":
                return self._asker.asked is not None or self._early is not None
            case "again":
                return self._model is not None
            case "to_model":
                return not self._page.field.has_focus
        return True

    def _show_keys(self) -> None:
        """The footer again, where something else is possible now."""
        possible = {name for name in keys.CONDITIONAL if self.check_action(name, ())}
        if possible != self._possible:
            self._possible = possible
            self.refresh_bindings()

    def on_findings_moved(self) -> None:
        self._page.explain(self.known.report)
        self._show_keys()

    def on_findings_opened(self) -> None:
        self.action_explain()

    def action_explain(self) -> None:
        from .explain import Explanation

        finding = self._page.findings.current
        if finding and self._case and self._case.report:
            self.app.push_screen(Explanation(finding, self._case.report))

    def action_memory(self) -> None:
        from .explain import Arithmetic

        report = self.known.report
        if report and report.memory:
            self.app.push_screen(Arithmetic(report.memory))

    def action_deploy(self) -> None:
        from .deploy import deploy

        if self._case and self._model:
            # A key may have changed the wishes a moment ago.
            is_answered = (self._case.model, self._case.wishes) == (self._model, self.wishes)
            deploy(self, self._case if is_answered else Case(self._model, self.wishes))

    def action_export(self) -> None:
        from .export import save

        if self._case:
            save(self, self._case)

    def action_copy(self) -> None:
        from .export import markdown

        if self._case and self._case.report:
            workstation(self).copy(markdown(self._case), "Report")

    def action_compare(self) -> None:
        from .comparing import compare

        if self._case and self._case.report:
            models = self._suggester.known("", _MOST_TO_COMPARE)
            compare(self, self._case, self.known, models, self._go_on_with)

    def _go_on_with(self, case: Case) -> None:
        """With a column of the comparison."""
        self.wishes = case.wishes
        self._page.field.taken(case.model)
        self._ask(case.model)
        self.show_wishes()

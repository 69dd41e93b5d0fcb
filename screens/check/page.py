"""The widgets of the checker, and what they show of a case; it decides nothing."""

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from meshtui.domain.check import CheckReport, CheckWishes
from meshtui.domain.text import one_line

from .. import words
from ..widgets.rows import Prose
from .asking import Case
from .explain import finding_lines
from .findings import Findings
from .knob import Knob
from .model_field import ModelField, Suggestions
from .parameters import PARAMETERS, Known, Parameter
from .picture import Picture
from .verdict import error_text, facts, headline, ordered, verdict_sign

# Where there is no room for all parameters in one row.
_FIRST_ROW = 4
_WELCOME = (
    "Which GPU does it need, how long may a prompt be, how many fit at a time, and what is in "
    "the way? Type the name of a model on the Hub, of one in the cache, or a folder that holds a "
    "config.json. No weights are downloaded for it."
)


class Page(Vertical):
    """Top to bottom: model and verdict, facts, parameters, memory, findings."""

    def __init__(self) -> None:
        super().__init__()
        # The model that the answer on the page is about.
        self.answered: str | None = None
        self._texts: dict[str, Content] = {}

    def compose(self) -> ComposeResult:
        suggestions = Suggestions(id="suggestions")
        with Horizontal(id="top"):
            yield Static("Model", id="label")
            yield ModelField(suggestions, id="model")
            yield Static("", id="verdict")
        yield Static("", id="facts")
        with Horizontal(id="knobs"):
            for row in (PARAMETERS[:_FIRST_ROW], PARAMETERS[_FIRST_ROW:]):
                with Horizontal(classes="knobs"):
                    yield from map(Knob, row)
        yield Picture(id="picture")
        yield Static("", id="said")
        with Horizontal(id="below"):
            yield Findings(id="findings")
            yield Prose(id="explanation")
        yield suggestions

    @property
    def field(self) -> ModelField:
        return self.query_one("#model", ModelField)

    @property
    def suggestions(self) -> Suggestions:
        return self.query_one("#suggestions", Suggestions)

    @property
    def findings(self) -> Findings:
        return self.query_one("#findings", Findings)

    def knob(self, parameter: Parameter) -> Knob:
        return self.query_one(f"#knob-{parameter.name}", Knob)

    def show_wishes(self, wishes: CheckWishes, known: Known, current: Parameter) -> None:
        """The parameters, as they are wished for or were taken."""
        for parameter in PARAMETERS:
            text = parameter.shown(wishes, known)
            self.knob(parameter).show(text, current=parameter is current)

    def show_nothing(self) -> None:
        """What this is for, before anything was asked."""
        self._say(Content.styled(_WELCOME, "$muted"))
        self._head(Content(""), [])
        self.set_class(True, "-empty")

    def show_waiting(self, case: Case, seconds: float, *, is_new: bool) -> None:
        """An answer takes its time; what is there stays, and is seen to be of before."""
        self.set_class(True, "-waiting")
        so_long = f" {words.clock(seconds)}" if seconds >= 1 else ""
        self._head(
            Content.assemble((f"{words.WORKING} ", "$warning"), (f"checking…{so_long}", "$muted"))
        )
        if is_new and self.has_class("-empty"):
            text = f"Reading what is known of {one_line(case.model, 200)}."
            self._say(Content.styled(text, "$muted"))

    def show_report(self, report: CheckReport, known: Known, *, anew: bool) -> None:
        """The answer. `anew`: it is of another model than what was shown."""
        self.answered = report.model
        self.set_class(False, "-waiting", "-empty", "-failed")
        sign, tone = verdict_sign(report.verdict)
        self._head(Content.assemble((f"{sign} {headline(report)}", tone)), facts(report))
        self.query_one("#picture", Picture).show(report, known)
        self.findings.show(ordered(report.findings), anew=anew)
        self.explain(report)

    def show_error(self, case: Case) -> None:
        """The question itself failed: why, and what to do about it."""
        error = case.error
        if error is None:
            return
        self.set_class(False, "-waiting", "-empty")
        self.set_class(True, "-failed")
        self._head(Content.styled(f"{words.FAILED} could not check", "$error"), [])
        parts = [Content(error_text(error))]
        if error.hint:
            parts += [Content(""), Content(one_line(error.hint, 1000))]
        self._say(Content("\n").join(parts))

    def explain(self, report: CheckReport | None) -> None:
        """The marked finding, beside the list where there is room for it."""
        place = self.query_one("#explanation", Prose)
        if not place.display:
            return
        finding = self.findings.current
        lines: Sequence[Content] = []
        if finding is not None and report is not None:
            lines = list(finding_lines(finding, report, place.size.width - 1))
        place.show(Content("\n").join(lines))

    def _head(self, verdict: Content, about: Sequence[str] | None = None) -> None:
        self._put("#verdict", verdict)
        if about is not None:
            self._put("#facts", Content.styled(" · ".join(about), "$muted"))

    def _say(self, text: Content) -> None:
        self._put("#said", text)

    def _put(self, selector: str, text: Content) -> None:
        """Shows a text, if it is another one. All is laid out again only where it takes more room
        or less."""
        before = self._texts.get(selector, Content(""))
        if not text.is_same(before):
            self._texts[selector] = text
            place = self.query_one(selector, Static)
            place.update(text, layout=_room(text, place) != _room(before, place))


def _room(text: Content, place: Static) -> tuple[int, int]:
    """Cells, and rows in the width that there is."""
    return text.cell_length, text.get_height(place.styles.get_rules(), max(1, place.size.width))

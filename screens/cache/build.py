"""Making an entry of a plain folder or a git clone; asks for what the files do not tell."""

from functools import partial

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input

from meshtui.domain.model_cache import BuildPlan, BuildWishes
from meshtui.domain.text import one_line

from .. import words
from ..frame import workstation
from ..widgets.dialogs import Confirm
from ..widgets.fields import Field
from . import acts
from .paths import PathField
from .plan import PlanDialog, blocked, line

_ASKED = (
    ("model", "model", "org/name"),
    ("task", "task", "text-generation, …; may be empty"),
    ("library", "library", "transformers, …; may be empty"),
    ("commit", "revision", "the commit, where it is known"),
    ("languages", "languages", "en, fr"),
    ("tags", "tags", "words, with commas between"),
)


class BuildDialog(PlanDialog):
    """The folder first; then the fields have what its files tell, and may be changed."""

    HEADING = "Build an entry from a folder"
    ASKING = "reading the folder…"
    KEYS = (("enter", "Look, then build"), ("tab", "Next"), ("esc", "Close"))

    def __init__(self) -> None:
        super().__init__()
        self._path = ""
        self._wishes = BuildWishes()
        self._plan: BuildPlan | None = None
        self._building = False

    def compose_form(self) -> ComposeResult:
        yield line("folder", PathField(placeholder="a folder of model files", id="path"))
        for name, label, hint in _ASKED:
            yield line(label, Field(placeholder=hint, id=name))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """On the path: read it. On what is asked: build with it."""
        self._building = message.input.id != "path" and self._plan is not None
        self._path = self.query_one(PathField).path
        self._wishes = self._said() if self._building else BuildWishes()
        self.look_up()

    async def ask(self) -> None:
        self._plan = await workstation(self).client.plan_build(self._path, self._wishes)

    def show_plan(self) -> None:
        plan = self._plan
        if plan is None:
            return
        self.query_one(".plan").remove_class("-planned")
        how = "linked, no byte is copied" if plan.links else "copied"
        text = f"{words.plural(plan.files, 'file')}, {words.size(plan.size_bytes)}: {how}"
        self.tell(Content.assemble(text, (f" · {words.size(plan.free_bytes)} free", "$muted")))
        self.tell_of(plan.findings)
        if not self._building:
            for name, value in (
                *(("model", plan.model), ("task", plan.task), ("library", plan.library)),
                *(("commit", plan.commit), ("languages", ", ".join(plan.languages))),
                ("tags", ", ".join(plan.tags)),
            ):
                self.query_one(f"#{name}", Field).value = value or ""
            self.query_one("#model").focus()
        elif plan.model is None:
            self.refuse("The files do not tell which model they are.", "Say it above: org/name.")
        elif not blocked(plan.findings):
            self._build(plan, plan.model)

    def _build(self, plan: BuildPlan, model: str) -> None:
        if plan.replaces:
            question = Confirm("Replace what is in the cache?", [one_line(model)], "Replace")
            self.app.push_screen(question, lambda yes: self._start(model, True) if yes else None)
        else:
            self._start(model, False)

    def _start(self, model: str, replace: bool) -> None:
        client = workstation(self).client
        begin = partial(client.build_entry, self._path, self._wishes, replace)
        acts.begin(self, [begin], f"Building {model}.")
        self.dismiss(model)

    def _said(self) -> BuildWishes:
        """What differs from what the files tell."""
        plan = self._plan
        assert plan is not None
        texts = {name: self.query_one(f"#{name}", Field).value.strip() for name, *_ in _ASKED}

        def words_of(name: str, known: tuple[str, ...]) -> tuple[str, ...] | None:
            said = tuple(part.strip() for part in texts[name].split(",") if part.strip())
            return None if said == known else said

        return BuildWishes(
            model=texts["model"] or None,
            commit=texts["commit"] or None,
            task=texts["task"] or None,
            library=texts["library"] or None,
            languages=words_of("languages", plan.languages),
            tags=words_of("tags", plan.tags),
        )

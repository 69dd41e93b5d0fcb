"""The prompt studio: the prompt at the left, its answers at the right."""

from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content

from meshtui.domain.controller import ControllerEvent, ModelOption, RunRecorded
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.generation import ChatMessage, ChatRequest
from meshtui.domain.images import ImageRequest, picture_name
from meshtui.domain.server import Phase
from meshtui.domain.task import Task

from .. import words
from ..frame import WorkScreen, workstation
from ..state import Link
from ..work import start
from . import keys
from .answer import Answer
from .answers import Answers
from .block import Block
from .editor import FIRST_PROMPT, PromptSide
from .passages import report
from .running import Runner


class StudioScreen(WorkScreen):
    """One prompt at a time; answers collect in the pane."""

    AUTO_FOCUS = "#user"
    TITLE_OF_HELP = "Studio"
    NOTES = (
        "Running a prompt starts its model's server when needed. The server lives on when the "
        "answer is there, when you leave, and when the connection drops; it stops when idle.",
        "Keys that are single letters act on the marked answer: esc leads there and back.",
        "Empty parameter fields leave the choice to the model's defaults, shown in grey. "
        "Several stop texts are separated by |, and \\n means a new line.",
    )
    BINDINGS: ClassVar[list[BindingType]] = keys.BINDINGS

    def __init__(self) -> None:
        super().__init__()
        self._option: ModelOption | None = None
        self._chat = False
        self._turns: tuple[ChatMessage, ...] = ()
        self._raw = False
        self._first_start = False
        self._asked_early = False

    # What is shown

    def compose_content(self) -> ComposeResult:
        with Horizontal(id="sides"):
            yield PromptSide(id="prompt")
            yield Answers(id="answers")

    def on_mount(self) -> None:
        super().on_mount()
        self._runner = Runner(self, self._ended)
        remembered = workstation(self).memory
        self._first_start = remembered.user is None
        side = self._side
        side.system.load(remembered.system)
        side.user.load(FIRST_PROMPT if remembered.user is None else remembered.user)
        side.fill(remembered.parameters)
        self._chat = remembered.chat
        self._say_kind()
        self._say_hint()
        self._answers.say_empty("Answers appear here.")

    @property
    def _side(self) -> PromptSide:
        return self.query_one(PromptSide)

    @property
    def _answers(self) -> Answers:
        return self.query_one(Answers)

    def state_changed(self, event: ControllerEvent | None) -> None:
        state, remembered = workstation(self).state, workstation(self).memory
        wanted = self._option
        if remembered.model and (known := state.option(remembered.connection, remembered.model)):
            wanted = known
        elif wanted:
            wanted = state.option(wanted.connection, wanted.enabled.model) or wanted
        elif state.models:
            wanted = state.models[0]
        if wanted != self._option:
            self._take_option(wanted)
        if self._option:
            server = state.server_of(self._option.connection, self._option.enabled.model)
            self._side.query_one("#model").show(self._option, server)  # type: ignore[attr-defined]
        if isinstance(event, RunRecorded):
            for block in self._answers.blocks:
                if block.answer.run_id == event.run.id:
                    block.answer.amend(event.run)
                    block.tick()
        self._say_hint()
        self.refresh_bindings()
        if self._asked_early and self._option:
            self._asked_early = False
            self.action_run()

    def _take_option(self, option: ModelOption | None) -> None:
        self._option = option
        if option:
            self._side.show_defaults(option.enabled.generation)
        self._side.for_pictures(self._makes_pictures)
        self._say_kind()

    @property
    def _makes_pictures(self) -> bool:
        return self._option is not None and self._option.enabled.task is Task.TEXT_TO_IMAGE

    def _say_kind(self) -> None:
        turns = sum(message.role == "user" for message in self._turns)
        so_far = f", {words.plural(turns, 'turn')} so far" if turns else ""
        text = f"chat{so_far}" if self._chat else "single prompt"
        if self._makes_pictures:
            self._side.kind(Content.styled("what the picture shows", "$muted"))
            return
        self._side.kind(Content.assemble((text, "$muted"), ("  ^g", "$faint")))

    def _say_hint(self) -> None:
        state = workstation(self).state
        if self._asked_early:
            text = Content.styled(
                f"{words.WORKING} Runs as soon as the controller is there", "$key"
            )
        elif state.controller_stays_away:
            text = Content.styled(f"{words.ATTENTION} {state.link_problem}", "$error")
        elif state.link is Link.CONNECTED and not state.models:
            text = Content.styled(
                f"{words.ATTENTION} No model is enabled on any connection; F9 lists problems.",
                "$warning",
            )
        elif self._first_start and not self._answers.blocks:
            text = Content.assemble(("^r", "$key bold"), (" runs it on this machine", "$muted"))
        else:
            text = Content("")
        self._side.hint(text)

    def on_prompt_side_changed(self) -> None:
        """Keeps the draft."""
        side, remembered = self._side, workstation(self).memory
        remembered.system, remembered.user = side.system.text, side.user.text
        remembered.parameters = side.values

    # Running

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        block = self._answers.current
        if action == "cancel_run":
            return self._runner.block is not None or self._asked_early
        if action == "run":
            return self._runner.block is None and not self._asked_early
        if action in ("copy", "star", "edit", "save", "rerun", "toggle_raw", "log"):
            return block is not None and keys.allows(block.answer, action)
        on_answers = self.focused is self._answers
        if action == "page":
            return on_answers != (parameters == ("answers",))
        if action == "to_answers":
            return not on_answers and block is not None
        if action == "to_prompt":
            return on_answers
        return True

    def action_run(self) -> None:
        """Runs what is in the editor."""
        app = workstation(self)
        if self._runner.block:
            app.say("An answer is on its way; esc cancels it.", "warning")
            return
        if self._option is None:
            if app.state.link is Link.CONNECTED:
                app.say("No model is enabled on any connection.", "warning")
            else:
                # The first frame is there before the controller is: the key counts all the same.
                self._asked_early = True
                self._say_hint()
                self.refresh_bindings()
            return
        text = self._side.user.text
        answer = self._picture(text) if self._makes_pictures else self._answer(text)
        if answer is None:
            return
        if not text.strip():
            app.say("The prompt is empty.", "warning")
            self._side.user.focus()
            return
        self._start(answer)
        app.memory.model = self._option.enabled.model
        app.memory.connection = self._option.connection
        app.memory.user = text
        app.save_memory()
        if self._chat and not answer.shows_pictures:
            self._side.user.load("")

    def _answer(self, text: str) -> Answer | None:
        """None where a field is wrong, which is said."""
        generation, option = self._side.check(), self._option
        if generation is None or option is None:
            return None
        system = self._side.system.text
        before = (ChatMessage("system", system),) if system.strip() else ()
        turns = self._turns if self._chat else ()
        request = ChatRequest(
            model=option.enabled.model,
            connection=option.connection,
            messages=(*before, *turns, ChatMessage("user", text)),
            parameters=generation,
        )
        return Answer(request, option.label)

    def _picture(self, text: str) -> Answer | None:
        """As `_answer`."""
        from .picture_answer import PREVIEWS, PictureAnswer

        wanted, option = self._side.check_pictures(), self._option
        if wanted is None or option is None:
            return None
        asked = ImageRequest(
            model=option.enabled.model,
            connection=option.connection,
            prompt=text,
            previews=PREVIEWS,
            **wanted,
        )
        return PictureAnswer(asked, option.label)

    def _start(self, answer: Answer) -> None:
        state, request = workstation(self).state, answer.request
        server = state.server_of(request.connection, request.model) if request.connection else None
        if server and server.phase is Phase.READY:
            answer.server = server
        block = self._answers.add(answer, raw=self._raw)
        self._runner.start(block)
        if self.has_class("-narrow"):
            self.action_page("answers")
        self._say_hint()
        self.refresh_bindings()

    def _ended(self, block: Block) -> None:
        answer = block.answer
        untouched = self._side.user.text in ("", answer.prompt)
        kept = [message for message in answer.turns if message.role != "system"]
        if self._chat and kept:
            self._turns = tuple(kept)
        elif self._chat and not self._side.user.text:
            self._side.user.load(answer.prompt)
        if answer.explanation and untouched and self.is_current:
            # What helps now are the keys that the failure names, and they are letters.
            self._answers.focus()
        self._say_kind()
        self._say_hint()
        self.refresh_bindings()

    def action_cancel_run(self) -> None:
        self._asked_early = False
        self._say_hint()
        self._runner.cancel()

    def action_rerun(self) -> None:
        """The same request again, as a new answer."""
        block = self._answers.current
        if block and self._runner.block is None:
            self._start(block.answer.again())

    # The answers

    def action_copy(self) -> None:
        """Copies the answer, or the report of a failure."""
        block = self._answers.current
        if block is None:
            return
        answer = block.answer
        if answer.gives_report:
            text = report(answer.explanation, answer.server, answer.request.model)
            workstation(self).copy(text, "Report")
        elif answer.text:
            what = f"Answer of {len(answer.text):,} characters"
            workstation(self).copy(answer.text, what, "If it does not arrive: w saves to a file.")

    def action_star(self) -> None:
        if block := self._answers.current:
            start(self, partial(self._star, block))

    async def _star(self, block: Block) -> None:
        answer, app = block.answer, workstation(self)
        if answer.run_id is None:
            return
        try:
            await app.client.star_run(answer.run_id, not answer.starred)
        except MeshtuiError as error:
            app.say(str(error), "error")
            return
        answer.starred = not answer.starred
        block.tick()

    def action_toggle_raw(self) -> None:
        """Between Markdown and plain text, for the marked answer and those to come."""
        if block := self._answers.current:
            block.toggle_raw()
            self._raw = block.raw

    def action_edit(self) -> None:
        """Puts the answer's prompt back into the editor."""
        if block := self._answers.current:
            self._restore(block.answer)

    def action_log(self) -> None:
        block = self._answers.current
        if block and block.answer.server_id:
            from ..servers.log import ServerLog

            self.app.push_screen(ServerLog(block.answer.server_id, block.answer.label))

    def action_save(self) -> None:
        """Writes the answer to a file."""
        from ..widgets.dialogs import Ask

        block = self._answers.current
        if block is None:
            return
        answer = block.answer
        if answer.pictures:
            made = answer.pictures[-1]
            name, data = picture_name(answer.prompt, made.seed), made.data
            title = (
                "Save the last picture as" if len(answer.pictures) > 1 else "Save the picture as"
            )
        else:
            name, title = f"answer-{answer.run_id or 'draft'}.md", "Save the answer as"
            data = (answer.text.removesuffix("\n") + "\n").encode()
        question = Ask(title, str(Path.cwd() / name), "Save")
        self.app.push_screen(question, lambda name: self._save(name, data) if name else None)

    def _save(self, name: str, data: bytes) -> None:
        from ..files import save_new

        start(self, partial(save_new, workstation(self), name, data))

    # The prompt

    def action_new(self) -> None:
        """Clears the conversation and the pane; the history keeps everything."""
        self._runner.cancel()
        self._turns = ()
        self._answers.clear()
        self._side.user.load("")
        self._say_kind()
        self._say_hint()
        self.action_page("prompt")

    def action_chat(self) -> None:
        """Between single prompts and a conversation."""
        self._chat = workstation(self).memory.chat = not self._chat
        block = self._answers.current
        if not self._chat:
            self._turns = ()
        elif block and block.answer.standing.is_over:
            kept = [message for message in block.answer.turns if message.role != "system"]
            self._turns = tuple(kept)
        self._say_kind()

    def action_model(self) -> None:
        from .finders import ModelPicker

        option = self._option
        current = f"{option.connection}\n{option.enabled.model}" if option else None
        picker = ModelPicker(workstation(self).state, current)
        self.app.push_screen(picker, self._model_chosen)

    def _model_chosen(self, key: str | None) -> None:
        if key:
            connection, _, model = key.partition("\n")
            remembered = workstation(self).memory
            remembered.connection, remembered.model = connection, model
            self._take_option(workstation(self).state.option(connection, model))
            self.state_changed(None)

    def action_history(self) -> None:
        from .finders import History

        self.app.push_screen(History(), self._run_chosen)

    def _run_chosen(self, run_id: str | None) -> None:
        if run_id:
            start(self, partial(self._show_run, run_id))

    async def _show_run(self, run_id: str) -> None:
        app = workstation(self)
        try:
            run = await app.client.run(run_id)
        except MeshtuiError as error:
            app.say(str(error), "error")
            return
        option = app.state.option(run.connection, run.model)
        answer = Answer.from_run(run, option)
        block = self._answers.add(answer, raw=self._raw)
        block.update()
        self._restore(answer)
        if option:
            self._model_chosen(f"{run.connection}\n{run.model}")
        if self.has_class("-narrow"):
            self.action_page("answers")

    def _restore(self, answer: Answer) -> None:
        side = self._side
        systems = [m.content for m in answer.request.messages if m.role == "system"]
        side.system.load(systems[0] if systems else "")
        side.user.load(answer.prompt)
        side.fill(side.values | {field.name: "" for field in answer.fields} | answer.field_values())
        self.action_page("prompt")
        side.user.focus()

    # The pages of a narrow screen

    def action_page(self, page: str) -> None:
        """Goes to one of the two sides, and shows it where there is room for one only."""
        self.set_class(page == "answers", "-answers")
        (self._answers if page == "answers" else self._side.user).focus()
        self.refresh_bindings()

    def action_to_answers(self) -> None:
        """Letters are keys there."""
        self.action_page("answers")

    def action_to_prompt(self) -> None:
        self.action_page("prompt")

    def on_answers_moved(self) -> None:
        self.refresh_bindings()

    def on_descendant_focus(self, _event: events.DescendantFocus) -> None:
        """The side with the focus is the one to be seen, also after the screen grew narrow."""
        # What has it by now: a dialog that closes tells of the focus from before it opened.
        self.set_class(self.focused is self._answers, "-answers")
        self.refresh_bindings()

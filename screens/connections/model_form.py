"""The form of an enabled model, with the checker's verdict above it."""

import shlex
from collections.abc import Awaitable, Sequence
from typing import Any

import msgspec
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from meshtui.client.connections import wishes_for
from meshtui.domain.check import CheckReport
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.described import help_of
from meshtui.domain.editing import EditableConnection
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.generation import GenerationParameters
from meshtui.domain.task import EngineChoice, Task
from meshtui.domain.text import one_line

from .. import words
from ..check.verdict import headline, verdict_sign
from ..frame import workstation
from ..work import start
from .form import Form, Line, options

_YES_NO = (("no", "no"), ("yes", "yes"))
_FRACTIONS = {"temperature": "a number", "top_p": "a number", "idle_timeout_s": "seconds"}


class ModelForm(Form):
    """`enabled` as it is, or as it is proposed; saving it leaves the others as they are."""

    def __init__(self, seen: EditableConnection, enabled: EnabledModel) -> None:
        super().__init__()
        self._seen = seen
        self._before = enabled
        self._asked: EnabledModel | None = None
        models = [one.model for one in seen.connection.enabled_models]
        self._index = models.index(enabled.model) if enabled.model in models else len(models)
        self.value = enabled
        is_new = self._index == len(models)
        self.HEADING = f"{'Enable' if is_new else 'Change'} a model on " + one_line(
            seen.connection.name
        )

    def above(self) -> ComposeResult:
        yield Static(Content.styled(one_line(self._before.model), "$strong bold"), id="model")
        yield Static("", id="verdict")

    def locked(self) -> str:
        return self._seen.locked

    def lines(self) -> Sequence[Line]:
        before, says = self._before, help_of(EnabledModel)
        generation, says_of = before.generation, help_of(GenerationParameters)
        engine = before.engine.value if before.engine else ""
        return (
            Line("task", "task", before.task.value, says["task"], options(before.task, [*Task])),
            Line("display_name", "called", before.display_name or "", says["display_name"],
                 hint=before.model.rpartition("/")[2]),
            Line("max_tokens", "max tokens", _shown(before.max_tokens), says["max_tokens"],
                 hint="auto"),
            Line("quantization", "quantization", before.quantization or "", says["quantization"],
                 hint="none"),
            Line("tensor_parallel_size", "GPUs", str(before.tensor_parallel_size),
                 says["tensor_parallel_size"]),
            Line("engine", "engine", engine, says["engine"],
                 options(engine, [*EngineChoice], (("", "as the connection says"),))),
            Line("idle_timeout_s", "idle stop, s", _shown(before.idle_timeout_s),
                 says["idle_timeout_s"], hint="0: never"),
            Line("temperature", "temperature", _shown(generation.temperature),
                 says_of["temperature"], hint="as the model says"),
            Line("top_p", "top p", _shown(generation.top_p), says_of["top_p"],
                 hint="as the model says"),
            Line("answer_tokens", "answer tokens", _shown(generation.max_tokens),
                 says_of["max_tokens"], hint="no limit"),
            Line("extra_engine_args", "engine args", shlex.join(before.extra_engine_args),
                 says["extra_engine_args"], hint="--enforce-eager"),
            Line("trust_remote_code", "remote code", "yes" if before.trust_remote_code else "no",
                 says["trust_remote_code"], _YES_NO),
        )  # fmt: skip

    def gather(self) -> dict[str, str]:
        before, faults = self._before, dict[str, str]()
        generation = before.generation
        arguments: tuple[str, ...] = before.extra_engine_args
        if self.text("extra_engine_args") != one_line(shlex.join(arguments)).strip():
            try:
                arguments = tuple(shlex.split(self.text("extra_engine_args")))
            except ValueError:
                faults["extra_engine_args"] = "a quotation mark is missing"

        def number(key: str, before: Any) -> Any:
            """The number in a field; None where it is empty or `auto`."""
            text = self.text(key)
            if text == _shown(before):
                return before
            if text in ("", "auto"):
                return None
            try:
                return float(text) if key in _FRACTIONS else int(text.replace(",", ""))
            except ValueError:
                faults[key] = f"must be {_FRACTIONS.get(key, 'a whole number')}"
                return before

        engine = self.text("engine")
        gpus = number("tensor_parallel_size", before.tensor_parallel_size)
        idle_s = number("idle_timeout_s", before.idle_timeout_s)
        self.value = msgspec.structs.replace(
            before,
            task=Task(self.text("task")),
            display_name=self.kept("display_name", before.display_name),
            max_tokens=number("max_tokens", before.max_tokens),
            quantization=self.kept("quantization", before.quantization),
            tensor_parallel_size=1 if gpus is None else gpus,
            engine=EngineChoice(engine) if engine else None,
            idle_timeout_s=self._seen.default_idle_timeout_s if idle_s is None else idle_s,
            generation=msgspec.structs.replace(
                generation,
                temperature=number("temperature", generation.temperature),
                top_p=number("top_p", generation.top_p),
                max_tokens=number("answer_tokens", generation.max_tokens),
            ),
            extra_engine_args=arguments,
            trust_remote_code=self.text("trust_remote_code") == "yes",
        )
        return faults

    @property
    def connection(self) -> Connection:
        """The connection with this model as it is to be."""
        models = list(self._seen.connection.enabled_models)
        models[self._index : self._index + 1] = [self.value]
        return msgspec.structs.replace(self._seen.connection, enabled_models=tuple(models))

    def is_changed(self) -> bool:
        return self.value != self._before

    async def look(self) -> dict[str, str]:
        if self.value != self._asked:
            start(self, self._judge, group="verdict", latest=True)
        name = self._seen.connection.name
        found = await workstation(self).client.connection_faults(self.connection, name)
        fields = {}
        for fault in reversed(found):
            if fault.at[:2] == ("enabled_models", self._index):
                in_generation = "generation" in fault.at
                key = str(fault.at[-1])
                key = "answer_tokens" if in_generation and key == "max_tokens" else key
                fields[key if any(key == line.key for line in self._lines) else "task"] = (
                    fault.reason
                )
        return fields

    async def _judge(self) -> None:
        """Asks the checker about what is to be enabled."""
        self._asked = self.value
        self._tell(Content.styled(f"{words.WORKING} checking…", "$muted"))
        wishes = wishes_for(self._seen.connection, self.value)
        try:
            report = await workstation(self).client.check(self.value.model, wishes)
        except MeshtuiError as error:
            self._tell(Content.styled(f"{words.ABSENT} {one_line(error.message, 200)}", "$muted"))
            return
        self._tell(verdict(report))

    def _tell(self, text: Content) -> None:
        self.query_one("#verdict", Static).update(text)

    def save(self) -> Awaitable[str]:
        return self._saved()

    async def _saved(self) -> str:
        name = self._seen.connection.name
        client = workstation(self).client
        await client.save_connection(name, self.connection, self._seen.revision)
        return self.value.model


def verdict(report: CheckReport) -> Content:
    """The verdict on one line."""
    sign, tone = verdict_sign(report.verdict)
    return Content.assemble((f"{sign} ", tone), (one_line(headline(report), 200), ""))


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

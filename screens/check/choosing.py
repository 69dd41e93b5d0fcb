"""The lists of the checker: all values of a parameter, and what to compare with."""

from collections.abc import Sequence

from textual.content import Content

from meshtui.domain.memory import GpuSpec
from meshtui.domain.text import one_line

from ..widgets.dialogs import Choice, Finder
from .names import Suggestion
from .parameters import GPU, Known, Parameter, Value, short_name

_DEFAULT = "="
# How the keys of a comparison begin.
GPU_KEY, MODEL_KEY = "gpu\n", "model\n"


class ValuePicker(Finder):
    """Every value of a parameter; where it takes more than those, also what is typed. The key is
    what `value_of` reads."""

    PLACEHOLDER = "type to narrow"
    EMPTY = "No value has that in its name."

    def __init__(self, parameter: Parameter, known: Known, current: Value) -> None:
        super().__init__()
        self._parameter, self._known, self._current = parameter, known, current
        self.HEADING = parameter.name_for_people
        if parameter.typed is not None:
            self.PLACEHOLDER = "type a number, or choose"

    def chosen_at_first(self) -> str | None:
        return _key(self._current)

    async def choices(self, query: str) -> Sequence[Choice]:
        parameter, needles = self._parameter, query.casefold().split()
        found: list[Choice] = []
        typed = parameter.typed(query) if parameter.typed else None
        if typed is not None:
            found.append((_key(typed), Content.styled(f"{typed:,}", "$strong bold")))
        values = list(parameter.values(self._known))
        for value in (*(() if None in values else (None,)), *values):
            name, note = self._described(value)
            text = f"{name} {name.replace(',', '')} {note}".casefold()
            if value != typed and all(needle in text for needle in needles):
                content = Content.assemble((f"{name:<18}", "$strong"), (f"  {note}", "$muted"))
                found.append((_key(value), content))
        return found

    def _described(self, value: Value) -> tuple[str, str]:
        parameter = self._parameter
        if value is None and None not in parameter.values(self._known):
            return "auto", "what the connection says, or what fits best"
        gpu = self._known.gpu(str(value)) if parameter is GPU else None
        return parameter.text(value, self._known), gpu_note(gpu) if gpu else ""


def value_of(parameter: Parameter, key: str) -> Value:
    """The value that a key of the picker stands for."""
    if key == _DEFAULT:
        return None
    return int(key) if parameter.name in ("gpus", "max_tokens") else key


def _key(value: Value) -> str:
    return _DEFAULT if value is None else str(value)


def gpu_note(gpu: GpuSpec) -> str:
    """`22.06 GiB, compute capability 8.6, 600 GB/s`."""
    capability = f"{gpu.capability // 10}.{gpu.capability % 10}"
    speed = f", {gpu.bandwidth_bytes_s / 1e9:,.0f} GB/s" if gpu.bandwidth_bytes_s else ""
    return f"{gpu.memory_gib:6.2f} GiB, compute capability {capability}{speed}"


class ComparePicker(Finder):
    """The same model on other GPUs, and other models. Keys begin with what they name."""

    HEADING = "Compare with"
    PLACEHOLDER = "a GPU, or a model: type to narrow, or a whole name"
    EMPTY = "Nothing known has that in its name."

    def __init__(self, known: Known, models: Sequence[Suggestion]) -> None:
        super().__init__()
        self._known, self._models = known, models

    async def choices(self, query: str) -> Sequence[Choice]:
        needles = query.casefold().split()
        found: list[Choice] = []
        for model in self._models:
            if _matches(f"{model.value} {model.note}", needles):
                found.append(_choice(MODEL_KEY + model.value, one_line(model.value), model.note))
        for gpu in self._known.gpus:
            if _matches(f"{short_name(gpu)} {gpu.label}", needles):
                found.append(_choice(GPU_KEY + gpu.name, short_name(gpu), gpu_note(gpu)))
        typed = one_line(query)
        if "/" in typed and all(typed != model.value for model in self._models):
            found.append(_choice(MODEL_KEY + typed, typed, "as it was typed"))
        return found


def _matches(text: str, needles: Sequence[str]) -> bool:
    return all(needle in text.casefold() for needle in needles)


def _choice(key: str, name: str, note: str) -> Choice:
    return key, Content.assemble((f"{name:<18}", "$strong"), (f"  {one_line(note)}", "$muted"))

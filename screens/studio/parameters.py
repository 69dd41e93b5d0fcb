"""The fields of the generation parameters: what they accept and what they mean."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshtui.domain.generation import GenerationParameters


@dataclass(frozen=True)
class FieldSpec:
    """`rule` is said when a value is not accepted."""

    name: str
    label: str
    rule: str


FIELDS = (
    FieldSpec("max_tokens", "Max tokens", "a whole number from 1 up"),
    FieldSpec("temperature", "Temperature", "a number from 0 to 2"),
    FieldSpec("top_p", "Top-p", "a number above 0, at most 1"),
    FieldSpec("seed", "Seed", "a whole number"),
    FieldSpec("stop", "Stop", "texts, separated by |"),
)


class BadParameter(ValueError):
    """A field holds what it cannot mean."""

    def __init__(self, field: FieldSpec) -> None:
        super().__init__(f"{field.label} must be {field.rule}.")
        self.field = field


def read(values: Mapping[str, str]) -> GenerationParameters:
    """The parameters that the texts mean; empty ones are left open. Raises `BadParameter`."""
    return GenerationParameters(
        max_tokens=_whole(values, FIELDS[0], least=1),
        temperature=_number(values, FIELDS[1], least=0.0, most=2.0),
        top_p=_number(values, FIELDS[2], least=1e-9, most=1.0),
        seed=_whole(values, FIELDS[3], least=-(2**63)),
        stop=tuple(part for part in _unescape(values.get("stop", "")).split("|") if part),
    )


def write(parameters: GenerationParameters) -> dict[str, str]:
    """The texts that mean the parameters."""
    found: dict[str, str] = {}
    for field in FIELDS[:4]:
        value = getattr(parameters, field.name)
        if value is not None:
            found[field.name] = f"{value:g}" if isinstance(value, float) else str(value)
    if parameters.stop:
        found["stop"] = "|".join(parameters.stop).replace("\n", "\\n").replace("\t", "\\t")
    return found


def _unescape(text: str) -> str:
    return text.replace("\\n", "\n").replace("\\t", "\t")


def _whole(values: Mapping[str, str], field: FieldSpec, *, least: int) -> int | None:
    text = values.get(field.name, "").strip().replace(",", "")
    if not text:
        return None
    try:
        value = int(text)
    except ValueError:
        raise BadParameter(field) from None
    if value < least or value >= 2**63:
        raise BadParameter(field)
    return value


def _number(
    values: Mapping[str, str], field: FieldSpec, *, least: float, most: float
) -> float | None:
    text = values.get(field.name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise BadParameter(field) from None
    if not least <= value <= most:
        raise BadParameter(field)
    return value

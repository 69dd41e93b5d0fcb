"""Which kind of layer is where, for configurations that leave the list out."""

from collections.abc import Mapping
from typing import Any, Protocol

# Names of older configurations (transformers 5.19, `_LEGACY_LAYER_TYPE_REMAP`).
LEGACY_NAMES = {
    "mamba": "linear_attention",
    "attention": "full_attention",
    "deepseek_sparse_attention": "indexed_attention",
    "qwen_sparse_attention": "indexed_attention",
}


class Values(Protocol):
    """What a rule asks of a configuration."""

    @property
    def sliding_window(self) -> int | None: ...

    def get_int(self, name: str, default: int | None = None) -> int | None: ...

    def ints(self, name: str) -> tuple[int, ...]: ...


def layer_types_by_rule(rule: Mapping[str, Any], values: Values, layers: int) -> tuple[str, ...]:
    """The list that the configuration's class would make (a `layers` rule of
    `config/model_defaults/`).

    `each` stands at every `every`th layer (`at` modulo `every`), `others` elsewhere. `interval`
    names the value that overrides `every`. `head` fills the first `head_count` layers, `last` the
    last one. Where there is a window, `window_from` names the value from which on layers slide, and
    `window_where_zero` a list in whose zeros they do (every `zero_every`th where it is left out).
    `without_window` fills all where there is none. `from_end` counts from the last layer.
    """
    if "from_end" in rule:
        return layer_types_by_rule(rule["from_end"], values, layers)[::-1]
    if "without_window" in rule and values.sliding_window is None:
        return (rule["without_window"],) * layers
    every, at = rule["every"], rule["at"]
    if "interval" in rule:
        given = values.get_int(rule["interval"])
        if given is not None and given > 0:
            at = given - 1 if at == every - 1 else at
            every = given
    types = [rule["each"] if i % every == at % every else rule["others"] for i in range(layers)]
    if "head" in rule:
        count = rule["head_count"]
        if "head_count_from" in rule:
            count = max(0, values.get_int(rule["head_count_from"]) or 0)
        count = min(count, layers)
        types[:count] = [rule["head"]] * count
    if types and "last" in rule:
        types[-1] = rule["last"]
    if "window_from" in rule and values.sliding_window is not None:
        start = values.get_int(rule["window_from"]) or 0
        types = ["sliding_attention" if i >= start else t for i, t in enumerate(types)]
    if "window_where_zero" in rule and values.sliding_window is not None:
        zeros = values.ints(rule["window_where_zero"])
        every = max(1, values.get_int(rule["zero_every"]) or 1)
        for i in range(layers):
            if (zeros[i] == 0) if i < len(zeros) else (i + 1) % every == 0:
                types[i] = "sliding_attention"
    return tuple(types)

"""A part of a model's configuration, read without trusting it.

What has the wrong type counts as absent. Where a configuration leaves a value out, the default of
its class holds, from the tables of `config/model_defaults/` (made from the engine's own classes by
`scripts/make_model_defaults.py`).
"""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from meshtui.compat.layer_types import LEGACY_NAMES, layer_types_by_rule
from meshtui.domain.errors import InvalidInput

# No real model comes near these; lists of that many layers are still quick to make.
MOST_LAYERS = 2000
_LARGEST = 1 << 48


class ClassDefaults:
    """What one configuration class makes of values that are left out."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.fields: Mapping[str, Any] = entry.get("fields", {})
        self.names: Mapping[str, str] = entry.get("names", {})
        self.sections: Mapping[str, str] = entry.get("sections", {})
        self.section_fields: Mapping[str, Mapping[str, Any]] = entry.get("section_fields", {})
        self.text: str = entry.get("text", "")
        self.same_as: Mapping[str, str] = entry.get("same_as", {})
        self.head_dim_is_quotient = "head_dim" in entry
        self.layers: Mapping[str, Mapping[str, Any]] = entry.get("layers", {})
        self.gated_window = bool(entry.get("gated_window"))
        self.known = bool(entry)


NO_DEFAULTS = ClassDefaults({})


class Section:
    """Values of a configuration (or of a nested one) with the defaults of its class."""

    def __init__(self, raw: Mapping[str, Any], defaults: ClassDefaults, model_type: str) -> None:
        self.raw = raw
        self.defaults = defaults
        self.model_type = model_type
        self._positive: dict[tuple[str, ...], int | None] = {}

    def value(self, name: str) -> Any:
        """What the configuration says or its class sets; None where neither does.

        An explicit null is None, and does not fall back to the class's default, unless the class
        itself fills it.
        """
        found, value = self._given(name)
        if found and value is not None:
            return value
        if name in self.defaults.same_as:
            return self.value(self.defaults.same_as[name])
        return None if found else self._default(name)

    def has(self, name: str) -> bool:
        """Whether the configuration has the attribute at all, be it null."""
        return self._given(name)[0] or self._default(name) is not None

    def get_int(self, name: str, default: int | None = None) -> int | None:
        """A whole number (floats without a fraction count); others and huge ones are absent."""
        for value in (self.value(name), self._default(name)):
            if value is None:
                break
            number = whole_number(value)
            if number is not None:
                return number
        return default

    def positive(self, *names: str) -> int | None:
        """The first of these that is a number above zero."""
        # Estimates ask the same for every layer, number of GPUs and kind of GPU.
        if names not in self._positive:
            found = (n for name in names if (n := self.get_int(name)) is not None and n > 0)
            self._positive[names] = next(found, None)
        return self._positive[names]

    def get_float(self, name: str, default: float | None = None) -> float | None:
        for value in (self.value(name), self._default(name)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if abs(value) < _LARGEST and math.isfinite(value):
                return float(value)
        return default

    def get_bool(self, name: str, default: bool = False) -> bool:
        value = self.value(name)
        if isinstance(value, int) and value in (0, 1):
            return bool(value)
        fallback = self._default(name)
        return fallback if isinstance(fallback, bool) else default

    def get_str(self, name: str, default: str | None = None) -> str | None:
        value = self.value(name)
        return value if isinstance(value, str) else default

    def strings(self, name: str) -> tuple[str, ...]:
        """The strings of a list; nothing where it is none."""
        value = self.value(name)
        if not isinstance(value, list | tuple):
            return ()
        return tuple(item for item in value if isinstance(item, str))

    def ints(self, name: str) -> tuple[int, ...]:
        """The whole numbers of a list; nothing where it is none or one entry is no number."""
        value = self.value(name)
        if not isinstance(value, list | tuple) or len(value) > MOST_LAYERS * 4:
            return ()
        numbers = [whole_number(item) for item in value]
        return tuple(n for n in numbers if n is not None) if None not in numbers else ()

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A nested object as it is written; empty where it is none."""
        value = self.value(name)
        return value if isinstance(value, Mapping) else {}

    def plain(self, name: str) -> "Section":
        """A nested object without defaults of a class."""
        return Section(self.mapping(name), NO_DEFAULTS, "")

    @cached_property
    def num_layers(self) -> int:
        """`num_hidden_layers`. Raises `InvalidInput` where it is missing or beyond reason."""
        layers = self.get_int("num_hidden_layers")
        if layers is None or not 0 <= layers <= MOST_LAYERS:
            raise InvalidInput(
                "The configuration does not say how many layers the model has."
                if layers is None
                else f"The configuration names {layers:,} layers, which no model has.",
                hint="Check that config.json is complete and belongs to this model.",
            )
        return layers

    @cached_property
    def num_heads(self) -> int:
        """Attention heads, 0 where there is none."""
        return self.positive("num_attention_heads") or 0

    @cached_property
    def head_dim(self) -> int | None:
        """The size of one head: named, or the hidden size over the heads."""
        named = self.positive("head_dim")
        if named is not None:
            return named
        hidden = self.positive("hidden_size")
        return hidden // self.num_heads if hidden and self.num_heads else None

    @cached_property
    def sliding_window(self) -> int | None:
        """The window in tokens; None where it is off."""
        if self.defaults.gated_window and not self.get_bool("use_sliding_window"):
            return None
        return self.positive("sliding_window")

    @cached_property
    def layer_types(self) -> tuple[str, ...]:
        """One type a layer, in the names of today; empty where the class knows no such list."""
        return self.per_layer("layer_types")

    def per_layer(self, name: str) -> tuple[str, ...]:
        """A list with one word a layer: as written, else by the rule of the class."""
        written = self.strings(name)
        if written:
            return tuple(LEGACY_NAMES.get(word, word) for word in written[:MOST_LAYERS])
        rule = self.defaults.layers.get(name)
        return layer_types_by_rule(rule, self, self.num_layers) if rule else ()

    def _given(self, name: str) -> tuple[bool, Any]:
        own = self.defaults.names.get(name)
        for key in (own, name):
            if isinstance(key, str) and key in self.raw:
                return True, self.raw[key]
        return False, None

    def _default(self, name: str) -> Any:
        fields = self.defaults.fields
        value = fields.get(self.defaults.names.get(name, name))
        return fields.get(name) if value is None else value


def whole_number(value: Any) -> int | None:
    """A whole number of a size that a model may name (floats without a fraction count)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        if not math.isfinite(value) or not value.is_integer():
            return None
        value = int(value)
    return value if isinstance(value, int) and -_LARGEST < value < _LARGEST else None

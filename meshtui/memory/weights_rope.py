"""Buffers: tables of cosines and sines, one for each distinct kind of rotary positions.

A table has one row a position and one column a rotated element, in the model's type. Scaling that
stretches positions lengthens it. Source: vllm/model_executor/layers/rotary_embedding of vLLM 0.32
(`get_rope` and the classes' `_compute_cos_sin_cache`).
"""

from collections.abc import Mapping
from typing import Any

from meshtui.compat.section import NO_DEFAULTS, Section
from meshtui.memory.weights_context import WeightsContext

# What a table may hold: nothing real comes near.
_MOST_ROWS = 1 << 27
_MOST_FACTOR = 10_000.0
# Scaling that starts from the length before it, and the other kinds that lengthen the table.
_FROM_ORIGINAL = ("yarn", "deepseek_yarn", "deepseek_llama_scaling")
_STRETCHING = ("linear", "ntk")
_MAPPED = {"su": "longrope", "mrope": "default"}


def rope_tables(
    context: WeightsContext,
    head_dim: int | None = None,
    *,
    element_bytes: int | None = None,
    positions: int | None = None,
    times: int = 1,
) -> list[tuple[str, int]]:
    """The tables of the language model: one, or one for each kind of layer that has rotary
    settings of its own."""
    text = context.text
    dim = head_dim or context.head_dim
    rows = positions or text.positive("max_position_embeddings", "n_positions", "max_seq_len")
    width = element_bytes or context.element_bytes
    kinds = rope_settings(text)
    distinct = {str(sorted(rope.raw.items(), key=str)): rope for rope in kinds.values()}
    return [
        ("buffers", table_bytes(dim, rows or 8192, rope, text, width) * times)
        for rope in distinct.values()
    ]


def rope_settings(text: Section) -> dict[str, Section]:
    """Rotary settings by the kind of layer they hold for (empty: all)."""
    legacy = text.raw.get("rope_scaling")
    of_class = text.mapping("rope_parameters")
    if (
        isinstance(legacy, Mapping)
        and "rope_parameters" not in text.raw
        and any(isinstance(part, Mapping) for part in of_class.values())
    ):
        # Older configurations scale full attention only (transformers' Gemma3TextConfig).
        return {
            "full_attention": Section(legacy, NO_DEFAULTS, ""),
            "sliding_attention": Section({}, NO_DEFAULTS, ""),
        }
    for key in ("rope_parameters", "rope_scaling"):
        value = text.mapping(key)
        nested = {str(name): part for name, part in value.items() if isinstance(part, Mapping)}
        if nested and not any(isinstance(value.get(k), str) for k in ("rope_type", "type")):
            return {name: Section(part, NO_DEFAULTS, "") for name, part in list(nested.items())[:8]}
        if value:
            return {"": Section(value, NO_DEFAULTS, "")}
    return {"": Section({}, NO_DEFAULTS, "")}


def table_bytes(
    head_dim: int, positions: int, rope: Section, text: Section, element_bytes: int
) -> int:
    """Bytes of one table."""
    return rope_rows(positions, rope) * rotary_dim(head_dim, rope, text) * element_bytes


def rotary_dim(head_dim: int, rope: Section, text: Section) -> int:
    """How many elements of a head are rotated."""
    named = rope.positive("rope_dim") or text.positive("rotary_dim")
    if named is not None:
        return min(named, head_dim)
    share = rope.get_float("partial_rotary_factor")
    for key in ("partial_rotary_factor", "rotary_pct", "rope_pct", "rotary_percent"):
        share = share if share is not None else text.get_float(key)
    return int(head_dim * (share if share is not None and 0 < share <= 1 else 1.0))


def rope_rows(positions: int, rope: Section) -> int:
    """How many positions a table has."""
    kind = rope.get_str("rope_type") or rope.get_str("type") or "default"
    kind = _MAPPED.get(kind, kind)
    factor = rope.get_float("factor") or 1.0
    factor = factor if 0 < factor <= _MOST_FACTOR else 1.0
    original = rope.positive("original_max_position_embeddings") or positions
    rows: Any = positions
    if kind in _FROM_ORIGINAL:
        rows = original * factor
    elif kind in _STRETCHING:
        rows = positions * factor
    elif kind == "longrope":
        rows = original + positions
    return min(int(rows), _MOST_ROWS)

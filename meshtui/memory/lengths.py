"""The longest input that a model allows, as vLLM derives it."""

from collections.abc import Mapping
from typing import Any

from meshtui.compat.configuration import Configuration
from meshtui.compat.section import NO_DEFAULTS, Section

# vllm/transformers_utils/model_arch_config_convertor.py, `derive_max_model_len_and_key`.
_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# Types of rope scaling whose factor is in the named length already, or does not lengthen it.
_NOT_SCALED = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")


def model_length(configuration: Configuration) -> int | None:
    """The length in tokens; None where the configuration names none.

    The smallest of the keys, times the factor of the rope scaling where that is not contained in
    it already (vllm/config/model.py, `_get_and_verify_max_len`). LongRoPE starts from the length
    before scaling.
    """
    text = configuration.text
    named = text.positive("model_max_length")
    lengths = [length for key in _KEYS if (length := text.positive(key)) is not None]
    if not lengths:
        return None
    length = float(named or min(lengths))
    ropes = _ropes(text)
    if any(kind == "longrope" for kind, _ in ropes):
        return text.positive("original_max_position_embeddings") or int(length)
    for kind, factor in ropes:
        if kind not in _NOT_SCALED and factor is not None and 0 < factor < 1e4:
            length = (named or min(lengths)) * factor
    return int(length)


def _ropes(text: Section) -> list[tuple[str, float | None]]:
    """Type and factor of the rope scaling: one, or one for each type of layer."""
    found: list[Mapping[str, Any]] = []
    for key in ("rope_parameters", "rope_scaling"):
        value = text.mapping(key)
        nested = [part for part in value.values() if isinstance(part, Mapping)]
        if value:
            found = nested[:8] if nested else [value]
    ropes = []
    for rope in found:
        section = Section(rope, NO_DEFAULTS, "")
        kind = section.get_str("rope_type") or section.get_str("type") or "default"
        kind = {"su": "longrope", "mrope": "default"}.get(kind, kind)
        ropes.append((kind, section.get_float("factor")))
    return ropes

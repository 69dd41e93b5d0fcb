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
# What vLLM assumes where no key names a length.
_ASSUMED = 2048

# Types of rope scaling whose factor is in the named length already, or does not lengthen it.
_NOT_SCALED = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")


def model_length(configuration: Configuration) -> int | None:
    """The length in tokens; None without a configuration.

    The smallest of the keys, times the factor of the rope scaling where that is not contained in
    it already (vllm/config/model.py, `_get_and_verify_max_len`). LongRoPE starts from the length
    before scaling.
    """
    text = configuration.text
    named = text.positive("model_max_length")
    lengths = [length for key in _KEYS if (length := text.positive(key)) is not None]
    if not lengths:
        return _ASSUMED if configuration.has_config else None
    named = named or min(lengths)
    ropes = _ropes(text)
    if any(kind == "longrope" for kind, _ in ropes):
        return text.positive("original_max_position_embeddings") or named
    if "gemma3" in text.model_type:
        return named
    scaled = [
        factor
        for kind, factor in ropes
        if kind not in _NOT_SCALED and factor is not None and 0 < factor < 1e4
    ]
    return int(named * scaled[-1]) if scaled else named


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

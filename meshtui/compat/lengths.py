"""The longest input that a model allows, as vLLM derives it."""

from collections.abc import Mapping
from typing import Any

from meshtui.compat.configuration import Configuration
from meshtui.compat.section import NO_DEFAULTS, Section
from meshtui.settings.shipped import first_applying, toml_data

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
_LONGEST = 1 << 40


def model_length(configuration: Configuration, version: str | None = None) -> int | None:
    """The length in tokens that a server of that vLLM (None: the newest) allows where none is asked
    for; None without a configuration. LongRoPE starts from the length before scaling."""
    if not configuration.has_config:
        return None
    longest = longest_length(configuration, version) or _ASSUMED
    if not is_longrope(configuration):
        return longest
    return configuration.text.positive("original_max_position_embeddings") or longest


def longest_length(configuration: Configuration, version: str | None = None) -> int | None:
    """The most tokens that vLLM lets one ask for; None where nothing limits them.

    The smallest of the keys, times the factor of the rope scaling where that is not contained in
    it already; encoders say it beside their configuration.
    """
    if not configuration.has_config:
        return None
    if beside := Section(configuration.sentence, NO_DEFAULTS, "").positive("max_seq_length"):
        return beside
    text = configuration.text
    lengths = [length for key in _KEYS if (length := text.positive(key)) is not None]
    if not lengths:
        return None
    longest = text.positive("model_max_length") or min(lengths)
    if configuration.top.raw.get("position_embedding_type") == "absolute":
        of_tokenizer = Section(configuration.tokenizer, NO_DEFAULTS, "").positive(
            "model_max_length"
        )
        longest = min(longest, of_tokenizer or longest)
    if "gemma3" in text.model_type:
        # It names the scaled length.
        return longest
    return _scaled(longest, text, version)


def is_longrope(configuration: Configuration) -> bool:
    """Whether two sets of rope factors share the lengths out, so that allowing long inputs makes
    short ones a little worse."""
    return any(kind == "longrope" for kind, _, _ in _ropes(configuration.text))


def is_scaled(configuration: Configuration) -> bool:
    """Whether a rope scaling of any type lengthens what the model was trained for."""
    return any(kind != "default" for kind, _, _ in _ropes(configuration.text))


def _scaled(length: int, text: Section, version: str | None) -> int:
    rule = first_applying(toml_data("lengths.toml")["scaling"], version)
    factor = 1.0
    for kind, of_rope, original in _ropes(text):
        if kind in rule["contained"] or of_rope is None or not 0 < of_rope < 1e4:
            continue
        factor = of_rope
        if kind in rule["from_original"] and original is not None:
            length = original
    return min(int(length * factor), _LONGEST)


def _ropes(text: Section) -> list[tuple[str, float | None, int | None]]:
    """Type, factor and original length of the rope scaling: one, or one for each type of layer."""
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
        original = section.positive("original_max_position_embeddings")
        ropes.append((kind, section.get_float("factor"), original))
    return ropes

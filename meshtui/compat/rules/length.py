"""Is the wanted context length within the model's own limit?"""

from collections.abc import Iterator

from meshtui.compat.configuration import Configuration
from meshtui.compat.rules.say import blocker, ok
from meshtui.compat.section import Section
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.domain.finding import Finding

RULE = "max-tokens"
# The keys that configurations use (vllm/config/model.py, `_get_and_verify_max_len`).
_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
)
# Kinds of rope scaling whose factor does not lengthen the limit that the configuration names.
_NOT_LENGTHENED = ("llama3", "longrope", "su", "mrope", "default", "")
_LARGEST = 1 << 40


def own_context_length(configuration: Configuration) -> int | None:
    """The longest sequence in tokens that the model was made for, as vLLM derives it (its
    `_get_and_verify_max_len`): the smallest of the usual keys, times the factor of rope scaling."""
    text = configuration.text
    found = [n for key in _KEYS if (n := text.positive(key)) is not None]
    if not found:
        return None
    length = min(found)
    kind, factor, original = _scaling(text)
    if kind == "yarn" and original:
        length = original
    if kind not in _NOT_LENGTHENED and factor:
        length = int(length * factor)
    if configuration.model_type == "gemma3" or text.model_type.startswith("gemma3"):
        # Its configuration names the lengthened limit already.
        length = min(found)
    return length if length < _LARGEST else None


def _scaling(text: Section) -> tuple[str, float | None, int | None]:
    for name in ("rope_parameters", "rope_scaling"):
        section = text.plain(name)
        if section.raw:
            kind = section.get_str("rope_type") or section.get_str("type") or ""
            original = section.positive("original_max_position_embeddings")
            return kind, section.get_float("factor"), original
    return "", None, None


def max_tokens(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """The wanted length against the model's own."""
    if subject.is_pipeline:
        return
    own = own_context_length(subject.configuration)
    if own is None:
        return
    wanted = setting.max_tokens
    if wanted is not None and wanted > own:
        yield blocker(
            RULE,
            f"The model was made for {own:,} tokens; {wanted:,} are asked for.",
            f"Set max tokens to {own:,} at most.",
        )
    elif wanted is None:
        yield ok(RULE, f"up to {own:,} tokens, the model's own limit")
    else:
        yield ok(RULE, f"{wanted:,} of the model's {own:,} tokens")

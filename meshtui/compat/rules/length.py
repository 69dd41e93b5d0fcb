"""Is the wanted context length within the model's own limit?"""

from collections.abc import Iterator

from meshtui.compat.lengths import is_longrope, is_scaled, longest_length, model_length
from meshtui.compat.rules.say import blocker, ok, warning
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.domain.finding import Finding

RULE = "max-tokens"


def max_tokens(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """The wanted length against the model's own, as the runtime's vLLM derives it from keys and
    rope scaling."""
    if subject.is_pipeline:
        return
    configuration, version = subject.configuration, setting.vllm_version
    longest = longest_length(configuration, version)
    usual = model_length(configuration, version)
    if usual is None:
        return
    wanted = setting.max_tokens
    if longest is None:
        yield ok(RULE, f"{wanted or usual:,} tokens; config.json names no limit")
    elif wanted is not None and wanted > longest:
        yield blocker(
            RULE,
            f"The model was made for {longest:,} tokens; {wanted:,} are asked for.",
            f"Set max tokens to {longest:,} at most{_or_extend(subject)}.",
        )
    elif is_longrope(configuration) and (wanted or usual) > usual:
        yield warning(
            RULE,
            f"{wanted:,} of the model's {longest:,} tokens. From {usual:,} on all requests are "
            "answered with the rope factors for long inputs (LongRoPE), short ones a little worse.",
            f"Set max tokens to {usual:,} where that is enough.",
        )
    elif wanted is not None:
        yield ok(RULE, f"{wanted:,} of the model's {longest:,} tokens")
    elif usual < longest:
        yield ok(RULE, f"{usual:,} tokens, or up to {longest:,} where that is asked for")
    else:
        yield ok(RULE, f"up to {longest:,} tokens, the model's own limit")


def _or_extend(subject: Subject) -> str:
    """Models with rotary positions can be lengthened, with a loss that their authors know."""
    text = subject.configuration.text
    rotary = text.get_float("rope_theta") or text.mapping("rope_parameters")
    if not rotary or is_scaled(subject.configuration):
        return ""
    return ", or add to config.json the rope scaling (YaRN) that its authors may describe"

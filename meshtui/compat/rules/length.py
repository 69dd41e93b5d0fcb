"""Is the wanted context length within the model's own limit?"""

from collections.abc import Iterator

from meshtui.compat.lengths import model_length
from meshtui.compat.rules.say import blocker, ok
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.domain.finding import Finding

RULE = "max-tokens"


def max_tokens(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """The wanted length against the model's own."""
    if subject.is_pipeline:
        return
    own = model_length(subject.configuration)
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

"""Does the runtime's engine have the architecture?"""

from collections.abc import Iterator

from meshtui.compat.rules.say import blocker, ok, warning
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.compat.support import transformers_has, vllm_support, wants_chat
from meshtui.domain.finding import Finding

RULE = "architecture"
CODE = "custom-code"


def architecture(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """The model's class against the tables of vLLM's release, and of transformers' as fallback.

    A class that nobody knows is a warning here: what cannot be told is no reason to refuse."""
    if subject.is_pipeline or not subject.configuration.architectures:
        return
    found = vllm_support(subject, setting)
    installed = setting.transformers_version
    if found.possible:
        yield (ok if found.sure else warning)(RULE, found.reason, found.fix)
    elif not found.known or found.consent:
        yield warning(RULE, found.reason, found.fix)
    elif installed and wants_chat(subject, setting) and transformers_has(subject, setting):
        yield warning(RULE, f"{found.reason} transformers {installed} has it.", found.fix)
    else:
        yield blocker(
            RULE,
            found.reason,
            found.fix or "Choose another model, or add a package that knows it to the runtime.",
        )


def custom_code(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """`auto_map`: whoever loads the model may run its authors' code."""
    configuration = subject.configuration
    if not configuration.custom_code:
        return
    native = any(
        name in setting.vllm.generating | setting.vllm.pooling
        for name in configuration.architectures
    )
    if native:
        yield ok(CODE, "brings Python code, which vLLM does not need: it has the class itself")
    elif setting.trust_remote_code:
        yield warning(
            CODE,
            "trust_remote_code is on: the model's own Python code runs with your rights.",
            "Pin the revision that you have read.",
        )
    else:
        yield warning(
            CODE,
            "It needs Python code that comes with the model, which would run with your rights; "
            "trust_remote_code is off.",
            "Read that code, pin its revision, then set trust_remote_code for this model.",
        )

"""Does the runtime's engine have the architecture?"""

from collections.abc import Iterator

from meshtui.compat.rules.say import blocker, ok, warning
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.compat.tables import versions_that_run
from meshtui.domain.finding import Finding
from meshtui.domain.task import Task
from meshtui.domain.text import one_line
from meshtui.settings.shipped import release

RULE = "architecture"
CODE = "custom-code"
CHAT = (Task.TEXT_GENERATION, Task.IMAGE_TEXT_TO_TEXT)


def architecture(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """The model's class against the tables of vLLM's release, and of transformers' as fallback."""
    names = subject.configuration.architectures
    if subject.is_pipeline or not names:
        return
    table = setting.vllm
    shown = one_line(names[0], 80)
    version = setting.vllm_version or table.version
    wanted = setting.task or subject.task
    served = table.pooling if wanted not in (None, *CHAT) else table.generating
    if setting.vllm_version is None and setting.runtime:
        yield from _through_transformers(subject, setting, shown, "The runtime has no vLLM.")
    elif any(name in served for name in names):
        yield ok(RULE, f"{shown} is in vLLM {version}{_since(names[0])}")
    elif wanted not in (None, *CHAT) and any(name in table.generating for name in names):
        yield ok(RULE, f"{shown} is in vLLM {version}, which turns it into a pooling model")
    elif any(name in table.pooling for name in names):
        yield blocker(
            RULE,
            f"vLLM {version} serves {shown} for embeddings, ranking or classes, not for chat.",
            "Enable it with the task that it was made for.",
        )
    else:
        yield from _not_in_vllm(subject, setting, shown, version)


def _not_in_vllm(subject: Subject, setting: Setting, shown: str, version: str) -> Iterator[Finding]:
    names, table = subject.configuration.architectures, setting.vllm
    known = versions_that_run(names[0])
    last = next((table.previously_supported[n] for n in names if n in table.previously_supported),
                None)  # fmt: skip
    plugin = next((table.plugins[name] for name in names if name in table.plugins), None)
    if plugin:
        yield warning(
            RULE,
            f"{shown} left the core of vLLM {version}; the plugin {one_line(plugin, 80)} has it.",
            "Add the plugin to the runtime.",
        )
    elif last or (known and _older(known[-1], version)):
        until = last or known[-1]
        seen = f"vLLM supported {shown} up to {until}; this runtime has {version}."
        yield from _through_transformers(
            subject, setting, shown, seen, f"Use a runtime with vLLM {until}."
        )
    elif known:
        yield from _through_transformers(
            subject,
            setting,
            shown,
            f"vLLM {version} does not have {shown} yet.",
            f"Use a runtime with vLLM {known[0]} or newer.",
        )
    else:
        yield from _through_transformers(
            subject, setting, shown, f"No known release of vLLM has {shown}."
        )


def _through_transformers(
    subject: Subject, setting: Setting, shown: str, seen: str, fix: str = ""
) -> Iterator[Finding]:
    """What can be done where vLLM has no class of its own for it."""
    known = setting.transformers.architectures
    installed = setting.transformers_version
    if subject.configuration.custom_code:
        allowed = "" if setting.trust_remote_code else ", once trust_remote_code allows it"
        yield warning(RULE, f"{seen} vLLM will try the code that the model brings{allowed}.", fix)
    elif shown in known and installed:
        yield warning(
            RULE,
            f"{seen} transformers {installed} has it: slower, one request at a time, "
            "no JSON schema, no forced tool calls.",
            fix,
        )
    else:
        yield blocker(
            RULE,
            f"{seen} transformers {installed or setting.transformers.version} lacks it as well.",
            fix or "Choose another model, or add a package that knows it to the runtime.",
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


def _since(name: str) -> str:
    known = versions_that_run(name)
    return f", which has had it since {known[0]}" if known and known[0] != "0.8.5" else ""


def _older(one: str, other: str) -> bool:
    return release(one) < release(other)

"""Whether an engine of the runtime has what it takes to load a model's class.

The one answer for the checker's findings and for the choice of an engine when a server starts.
"""

from collections.abc import Sequence

import msgspec

from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.compat.tables import VllmTable, versions_that_run
from meshtui.domain.task import CHAT
from meshtui.domain.text import one_line
from meshtui.settings.shipped import first_applying, release, toml_data

_CLASSIFIER = "ForSequenceClassification"


class Support(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it does, and why (not), in a sentence.

    `sure` is False where only the start will tell; `known` is False where the class is in no table
    at all, so that nobody can tell. `consent`: it would, if the settings allowed the model's own
    code. `fix` says what would change it.
    """

    possible: bool
    reason: str
    fix: str = ""
    sure: bool = True
    known: bool = True
    consent: bool = False


def wants_chat(subject: Subject, setting: Setting) -> bool:
    """Whether the model is to answer prompts (and not to embed, rank, classify or paint)."""
    return (setting.task or subject.task) in (None, *CHAT)


def vllm_support(subject: Subject, setting: Setting) -> Support:
    """The classes that the configuration names, against those of the runtime's vLLM."""
    if not setting.has_vllm:
        return Support(possible=False, reason=f"The runtime {setting.runtime} has no vLLM.")
    names = subject.configuration.architectures
    if not names:
        return Support(possible=False, reason="config.json names no architecture.")
    table, version = setting.vllm, setting.vllm_version or setting.vllm.version
    shown = _shown(names)
    chat = wants_chat(subject, setting)
    served = table.generating if chat else table.pooling
    native = next((name for name in names if name in served), None)
    if native is not None:
        since = _since(native)
        return Support(possible=True, reason=f"vLLM {version} supports {one_line(native)}{since}.")
    if not chat and any(name in table.generating for name in names):
        return Support(
            possible=True,
            reason=f"vLLM {version} supports {shown} and makes a pooling model of it.",
        )
    if not chat and (base := _classifier_of(names, table)):
        return Support(
            possible=True, reason=f"vLLM {version} makes a classifier of its {one_line(base)}."
        )
    if chat and any(name in table.pooling for name in names):
        return Support(
            possible=False,
            reason=f"vLLM {version} serves {shown} for embeddings or classes, not for chat.",
            fix="Enable it with the task that it was made for.",
        )
    return _gone(names, table, setting) or _through_others(subject, setting, shown, version)


def _classifier_of(names: Sequence[str], table: VllmTable) -> str | None:
    """The class that vLLM turns into the classifier that is asked for."""
    if not first_applying(toml_data("engines/vllm.toml")["pooling"], table.version)["converts"]:
        return None
    bases = (
        name.removesuffix(_CLASSIFIER) + "ForCausalLM"
        for name in names
        if name.endswith(_CLASSIFIER)
    )
    return next((base for base in bases if base in table.generating), None)


def _gone(names: Sequence[str], table: VllmTable, setting: Setting) -> Support | None:
    """Classes that this release knows only to say where they went."""
    for name in names:
        if name in table.previously_supported:
            last = table.previously_supported[name]
            return Support(
                possible=False,
                reason=f"vLLM supported {one_line(name)} up to version {last} only; this runtime "
                f"has {setting.vllm_version or table.version}.",
                fix=f"Use a runtime with vLLM {last}.",
            )
        if name in table.plugins:
            plugin = one_line(table.plugins[name], 120)
            if plugin.rpartition("/")[2] in setting.packages:
                return Support(
                    possible=True, reason=f"The plugin {plugin} brings {one_line(name)} to vLLM."
                )
            return Support(
                possible=False,
                reason=f"vLLM needs the plugin {plugin} for {one_line(name)}.",
                fix="Add the plugin to the runtime.",
            )
    return None


def _through_others(subject: Subject, setting: Setting, shown: str, version: str) -> Support:
    """vLLM can wrap the implementation of transformers, or the one that the model brings."""
    configuration = subject.configuration
    known = versions_that_run(configuration.architectures[0])
    newer = [one for one in known if release(one) > release(version)]
    fix = f"Use a runtime with vLLM {newer[0]} or newer." if newer else ""
    if not newer and known:
        fix = f"Use a runtime with vLLM {known[-1]}."
    if configuration.custom_code:
        if not setting.trust_remote_code:
            return Support(
                possible=False,
                reason=f"{shown} comes with Python code of its own, which runs only when the "
                "model's setting trust_remote_code allows it.",
                fix=fix or "Read that code, pin its revision, then set trust_remote_code.",
                consent=True,
            )
        return Support(
            possible=True,
            reason=f"vLLM {version} has no implementation of {shown} and will try the one of the "
            "model itself.",
            fix=fix,
            sure=False,
        )
    if transformers_has(subject, setting):
        return Support(
            possible=True,
            reason=f"vLLM {version} has no implementation of {shown} and will try the one of "
            "transformers.",
            fix=fix,
            sure=False,
        )
    if known:
        seen = "does not have" if newer else "no longer has"
        return Support(
            possible=False,
            reason=f"vLLM {version} {seen} {shown}{'' if not newer else ' yet'}.",
            fix=fix,
        )
    return Support(
        possible=False,
        reason=f"Neither vLLM {version} nor its transformers knows {shown}.",
        fix="Try a newer runtime, or choose another model.",
        known=False,
    )


def transformers_has(subject: Subject, setting: Setting) -> bool:
    """Whether transformers can generate with the model's first class. `transformers serve` takes it
    by name from the package itself, so that a class which the model brings is of no use."""
    table = setting.transformers
    configuration = subject.configuration
    if configuration.model_type in table.multimodal_model_types:
        return True
    names = configuration.architectures
    return bool(names) and names[0] in table.architectures


def _shown(names: Sequence[str]) -> str:
    return one_line(", ".join(names[:3]), 120)


def _since(name: str) -> str:
    known = versions_that_run(name)
    return f", as it has since {known[0]}" if known and known[0] != "0.8.5" else ""

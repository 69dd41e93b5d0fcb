"""Was the model taught to answer?"""

import re
from collections.abc import Iterator

from meshtui.compat.rules.say import blocker, ok, warning
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.compat.tuning import Answering, tuning
from meshtui.domain.finding import Finding
from meshtui.domain.task import CHAT
from meshtui.domain.text import one_line
from meshtui.settings.shipped import toml_data

RULE = "instruct"


def instruct(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """Chat needs a model that was taught turns; others continue the prompt."""
    if (setting.task or subject.task) not in CHAT or subject.is_pipeline:
        return
    found = tuning(subject)
    if found.answering is Answering.INSTRUCT and found.sure:
        yield ok(RULE, f"instruct: {found.signal}")
    elif found.answering is Answering.INSTRUCT:
        yield ok(RULE, f"most likely instruct: {found.signal}")
    elif found.answering is Answering.UNKNOWN:
        yield warning(
            RULE,
            f"It cannot be told whether it answers or only continues text: {found.signal}.",
            "Try a prompt; if the answers ramble, use an instruct model.",
        )
    else:
        likely = "This is" if found.sure else "This is most likely"
        yield blocker(
            RULE,
            f"{likely} a base model, which continues text and does not answer: {found.signal}.",
            _instead(subject.name),
        )


def _instead(name: str) -> str:
    model = one_line(name.partition("@")[0], 120)
    families = toml_data("families.toml")
    if known := families["instruct"].get(model):
        return f"Use {known}."
    for sibling in families["siblings"]:
        if re.search(sibling["name"], model):
            return f"Use {re.sub(sibling['name'], sibling['use'], model)}."
    if "-Base" in model:
        return f"Look for {model.replace('-Base', '-Instruct')} or {model.replace('-Base', '')}."
    if model.endswith("-pt"):
        return f"Look for {model.removesuffix('pt')}it."
    return f"Look for {model}-Instruct or {model}-Chat."

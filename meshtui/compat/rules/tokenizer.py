"""Is there a tokenizer?"""

from collections.abc import Iterator

from meshtui.compat.rules.say import blocker, warning
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.domain.finding import Finding

RULE = "tokenizer"
# Any one of these is enough (transformers, `tokenization_utils_base.py`, and the files that
# mistral-common and tiktoken read).
_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
)
_SUFFIXES = (".tiktoken", ".model")


def tokenizer(subject: Subject, _setting: Setting) -> Iterator[Finding]:
    """Without one no engine can turn a prompt into numbers. Only its absence is told."""
    if subject.files is None or subject.is_pipeline or not subject.has("config.json"):
        return
    if any(subject.has(name) for name in _FILES) or subject.paths(*_SUFFIXES):
        return
    if subject.source == "configuration":
        return
    if subject.json("config.json").get("auto_map"):
        yield warning(
            RULE,
            "No tokenizer file is among the model's files; its own code may bring one.",
            "Try it; if it does not start, name a tokenizer in the engine's arguments.",
        )
    else:
        yield blocker(
            RULE,
            "No tokenizer file is among the model's files, so that no engine can read a prompt.",
            "Download the model again with all of its files, or use the repository that it was "
            "made from.",
        )

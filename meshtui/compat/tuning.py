"""Whether a model was taught to answer, and which signal decided it.

A chat template alone proves nothing: several families ship one with their base models. What tells
them apart is where generation ends. A model that was taught turns lists the token that closes one
among its end-of-sequence tokens; a base model lists only the end of a document. (Qwen's maintainers
say so of theirs in QwenLM/Qwen3#927; Llama 3.1 and Gemma differ in the same way.)
"""

import re
from enum import StrEnum

import msgspec

from meshtui.compat.configuration import Configuration
from meshtui.compat.subject import Subject
from meshtui.domain.text import one_line

_MOST_TEMPLATE_CHARS = 400_000
# What authors call models that only continue text, and those that answer: whole parts of a name.
# `pt` is "pre-trained" as Google and Meta write it.
_BASE_NAME = re.compile(r"(?:^|[-_.])(base|pt|pretrain|pretrained|foundation)(?=$|[-_.])", re.I)
_INSTRUCT_NAME = re.compile(
    r"(?:^|[-_.])(instruct|inst|chat|it|sft|dpo|rlhf|thinking|reasoning)(?=$|[-_.\d])", re.I
)
# Special tokens as templates write them: `<|im_end|>`, `<end_of_turn>`, `</s>`, `[/INST]`.
_SPECIAL = re.compile(r"<[|｜/]?[^<>\s{}'\"]{1,40}>|\[/?[A-Z_]{2,30}\]")
# Tokens that close a turn and never a document.
_CLOSES_TURN = re.compile(r"end|eot|eom|turn|/inst|return|<\|im_|<\|user", re.I)
# Families whose tokenizer carries the chat format in its own code; they ship no template.
_WITHOUT_TEMPLATE = ("deepseek_v32", "deepseek_v4")


class Answering(StrEnum):
    """What a model was taught."""

    INSTRUCT = "instruct"
    BASE = "base"
    UNKNOWN = "unknown"


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """The answer; `signal` says in words what decided, `sure` is False for weak evidence."""

    answering: Answering
    signal: str
    sure: bool = True


def tuning(subject: Subject) -> Tuning:
    """Whether the model answers. The first signal that tells decides; raises `InvalidInput` where
    the configuration cannot be read."""
    name = subject.name.rpartition("/")[2].partition("@")[0]
    base, instruct = _BASE_NAME.search(name), _INSTRUCT_NAME.search(name)
    if base and not instruct:
        return _answer(Answering.BASE, f"its name says {base[1]}")
    if subject.template:
        return _by_template(subject, subject.template, instruct[1] if instruct else None)
    configuration = subject.configuration
    if configuration.model_type in _WITHOUT_TEMPLATE:
        return _answer(Answering.INSTRUCT, "the chat format is part of this family's tokenizer")
    if instruct:
        return _answer(
            Answering.INSTRUCT, f"its name says {instruct[1]}, but no chat template", sure=False
        )
    if subject.relation in ("finetune", "adapter"):
        return _answer(
            Answering.UNKNOWN, "a fine-tuned model, but it has no chat template", sure=False
        )
    if "tokenizer_config.json" not in subject.texts:
        return _answer(Answering.UNKNOWN, "there is no tokenizer_config.json to read", sure=False)
    return _answer(Answering.BASE, "it has no chat template, and its name promises none")


def _by_template(subject: Subject, template: str, named: str | None) -> Tuning:
    configuration = subject.configuration
    ends = _ends_of_generation(configuration)
    document_end = _token_text(configuration.tokenizer.get("eos_token"))
    special = set(_SPECIAL.findall(template[:_MOST_TEMPLATE_CHARS]))
    closers = {token for token in special if _CLOSES_TURN.search(token)}
    stopping = sorted(token for token in closers & ends if token != document_end)
    if stopping:
        return _answer(
            Answering.INSTRUCT, f"its template ends turns with {_show(stopping)}, where it stops"
        )
    if document_end and document_end in closers and (not ends or document_end in ends):
        # A tokenizer whose end of sequence is the end of a turn was made for chats.
        return _answer(
            Answering.INSTRUCT, f"its template and its tokenizer end with {_show([document_end])}"
        )
    unheeded = sorted(closers - ends)
    if ends and unheeded and not _writes_end(template, document_end):
        return _answer(
            Answering.BASE,
            f"it has a chat template, but does not stop at {_show(unheeded)}",
            sure=named is None,
        )
    if named:
        return _answer(Answering.INSTRUCT, f"its name says {named}, and it has a chat template")
    if _writes_end(template, document_end):
        return _answer(
            Answering.INSTRUCT, "its template ends answers with the end of sequence", sure=False
        )
    return _answer(
        Answering.UNKNOWN,
        "it has a chat template, and nothing tells whether it was taught to follow it",
        sure=False,
    )


def _ends_of_generation(configuration: Configuration) -> set[str]:
    """The texts of the tokens where generation stops; empty where they cannot be told."""
    ids = configuration.generation.get("eos_token_id")
    if ids is None:
        ids = configuration.text.value("eos_token_id") or configuration.top.value("eos_token_id")
    wanted = {str(i) for i in (ids if isinstance(ids, list) else [ids]) if isinstance(i, int)}
    added = configuration.tokenizer.get("added_tokens_decoder")
    known = added if isinstance(added, dict) else {}
    texts = {_token_text(known.get(number)) for number in wanted}
    return {text for text in texts if text}


def _token_text(value: object) -> str | None:
    """A token as text: some files hold `{"content": ...}` instead."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _writes_end(template: str, document_end: str | None) -> bool:
    """Whether the template puts the end of sequence behind answers."""
    return "eos_token" in template or bool(document_end and document_end in template)


def _show(tokens: list[str]) -> str:
    return one_line(tokens[0], 40)


def _answer(answering: Answering, signal: str, *, sure: bool = True) -> Tuning:
    return Tuning(answering=answering, signal=signal, sure=sure)

"""Instruct or base, and which signal decided it: no base model is taken for one that answers."""

import pytest

from meshtui.compat.rules.instruct import instruct
from meshtui.compat.subject import Subject
from meshtui.compat.tuning import Answering, tuning
from meshtui.domain.task import Task
from tests.support.subjects import (
    CHATML,
    GEMMA,
    GEMMA_CHAT,
    LLAMA3,
    LLAMA3_CHAT,
    MISTRAL,
    MISTRAL_CHAT,
    QWEN,
    found,
    generation,
    on,
    said,
    subject,
    tokenizer,
)

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
DEEPSEEK = {"0": "<｜begin▁of▁sentence｜>", "1": "<｜end▁of▁sentence｜>"}
DEEPSEEK_CHAT = (
    "{{ bos_token }}{% for m in messages %}<｜User｜>{{ m.content }}<｜Assistant｜>"
    "{{ m.answer }}<｜end▁of▁sentence｜>{% endfor %}"
)


def model(name: str, **texts: bytes) -> Subject:
    """Texts are given by their names with underscores for the dot."""
    files = {f"{key}.json": value for key, value in texts.items() if key != "jinja"}
    if "jinja" in texts:
        files["chat_template.jinja"] = texts["jinja"]
    return subject(name, CONFIG, texts=files)


def with_template(
    name: str, tokens: dict[str, str], eos: str, template: str, *ends: int
) -> Subject:
    return model(
        name,
        tokenizer_config=tokenizer(tokens, eos, template),
        generation_config=generation(*ends),
    )


BASES = [
    # These ship a template, and stop at the end of documents only.
    with_template("Qwen/Qwen2.5-7B", QWEN, "<|endoftext|>", CHATML, 151643),
    with_template("Qwen/Qwen1.5-7B", QWEN, "<|endoftext|>", CHATML, 151643),
    with_template("acme/my-finetune-of-qwen", QWEN, "<|endoftext|>", CHATML, 151643),
    with_template("Qwen/Qwen3-8B-Base", QWEN, "<|endoftext|>", CHATML, 151643),
    with_template("Qwen/Qwen2.5-72B", QWEN, "<|endoftext|>", CHATML, 151643),
    with_template("deepseek-ai/DeepSeek-V3-Base", DEEPSEEK, "<｜end▁of▁sentence｜>", DEEPSEEK_CHAT,
                  1),
    # These ship none.
    model("meta-llama/Llama-3.1-8B", tokenizer_config=tokenizer(LLAMA3, "<|end_of_text|>"),
          generation_config=generation(128001)),
    model("meta-llama/Llama-2-7b-hf", tokenizer_config=tokenizer(MISTRAL, "</s>"),
          generation_config=generation(2)),
    model("mistralai/Mistral-7B-v0.1", tokenizer_config=tokenizer(MISTRAL, "</s>"),
          generation_config=generation(2)),
    model("google/gemma-3-27b-pt", tokenizer_config=tokenizer(GEMMA, "<eos>"),
          generation_config=generation(1)),
    model("google/gemma-7b", tokenizer_config=tokenizer(GEMMA, "<eos>"),
          generation_config=generation(1)),
    # The name alone says so.
    model("mistralai/Mistral-Small-24B-Base-2501"),
    model("ibm-granite/granite-3.3-8b-base"),
    model("acme/pretrained-7b"),
]  # fmt: skip
INSTRUCT = [
    with_template("Qwen/Qwen2.5-7B-Instruct", QWEN, "<|im_end|>", CHATML, 151645, 151643),
    with_template("Qwen/Qwen3-8B", QWEN, "<|im_end|>", CHATML, 151645, 151643),
    with_template("meta-llama/Llama-3.1-8B-Instruct", LLAMA3, "<|eot_id|>", LLAMA3_CHAT,
                  128001, 128008, 128009),
    with_template("acme/llama-tuned", LLAMA3, "<|end_of_text|>", LLAMA3_CHAT, 128001, 128009),
    with_template("google/gemma-3-27b-it", GEMMA, "<eos>", GEMMA_CHAT, 1, 106),
    with_template("mistralai/Mistral-7B-Instruct-v0.3", MISTRAL, "</s>", MISTRAL_CHAT, 2),
    with_template("deepseek-ai/DeepSeek-V3", DEEPSEEK, "<｜end▁of▁sentence｜>", DEEPSEEK_CHAT, 1),
    # The template in a file of its own.
    model("openai/gpt-oss-20b", jinja=b"{{ m }}<|return|>{{ x }}<|end|>",
          tokenizer_config=tokenizer({"200002": "<|return|>", "199999": "<|endoftext|>"},
                                     "<|return|>"),
          generation_config=generation(200002, 199999)),
    subject("deepseek-ai/DeepSeek-V4-Pro", {"model_type": "deepseek_v4",
                                            "architectures": ["DeepseekV4ForCausalLM"]}),
]  # fmt: skip


@pytest.mark.parametrize("base", BASES, ids=lambda one: one.name)
def test_no_base_model_is_taken_for_one_that_answers(base: Subject) -> None:
    answer = tuning(base)
    assert answer.answering is Answering.BASE, answer
    level, message, fix = said(instruct, base)
    assert level == "blocker" and answer.signal in message and fix


@pytest.mark.parametrize("chat", INSTRUCT, ids=lambda one: one.name)
def test_models_that_answer_are_known_by_where_they_stop(chat: Subject) -> None:
    answer = tuning(chat)
    assert answer.answering is Answering.INSTRUCT, answer
    level, message, _ = said(instruct, chat)
    assert level == "ok" and answer.signal in message


def test_a_base_model_names_its_sibling() -> None:
    for name, sibling in (
        ("mistralai/Mistral-Small-24B-Base-2501", "mistralai/Mistral-Small-24B-Instruct-2501"),
        ("deepseek-ai/DeepSeek-V3-Base", "deepseek-ai/DeepSeek-V3"),
        ("google/gemma-3-27b-pt", "google/gemma-3-27b-it"),
        ("google/gemma-7b", "google/gemma-7b-it"),
        ("google/gemma-2-9b", "google/gemma-2-9b-it"),
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen/Qwen1.5-7B", "Qwen/Qwen1.5-7B-Chat"),
        ("Qwen/Qwen3-8B-Base", "Use Qwen/Qwen3-8B."),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("meta-llama/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("ibm-granite/granite-3.1-2b-base", "ibm-granite/granite-3.1-2b-instruct"),
        ("tiiuae/falcon-40b", "tiiuae/falcon-40b-instruct"),
        ("acme/Small-Base", "acme/Small-Instruct"),
    ):
        base = model(name, tokenizer_config=tokenizer({}, "</s>"))
        assert sibling in said(instruct, base)[2]


def test_a_base_model_with_a_template_is_likely_base() -> None:
    base = with_template("Qwen/Qwen2.5-7B", QWEN, "<|endoftext|>", CHATML, 151643)
    answer = tuning(base)
    assert "does not stop at <|im_end|>" in answer.signal
    # A promising name makes it less sure.
    named = with_template("acme/qwen-chat", QWEN, "<|endoftext|>", CHATML, 151643)
    assert not tuning(named).sure
    assert "most likely" in said(instruct, named)[1]


def test_templates_are_found_wherever_they_lie() -> None:
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": CHATML}]
    listed = tokenizer(QWEN, "<|im_end|>", chat_template=named)
    of_file = {"chat_template.json": b'{"chat_template": "abc<|im_end|>"}'}
    assert subject(texts={"tokenizer_config.json": listed}).template == CHATML
    assert subject(texts=of_file).template == "abc<|im_end|>"
    assert subject(texts={"chat_template.jinja": b"jinja", **of_file}).template == "jinja"
    assert subject(texts={"tokenizer_config.json": tokenizer(QWEN, "x", "first"),
                          "chat_template.jinja": b"second"}).template == "first"  # fmt: skip
    for nonsense in (3, [], [3], [{"name": 1}], {"a": 1}, ""):
        odd = tokenizer(QWEN, "x", chat_template=nonsense)
        assert subject(texts={"tokenizer_config.json": odd}).template is None


def test_without_evidence_it_is_not_known() -> None:
    assert tuning(subject("acme/thing", CONFIG)).answering is Answering.UNKNOWN
    assert said(instruct, subject("acme/thing", CONFIG))[0] == "warning"
    tuned = subject("acme/thing", CONFIG, relation="finetune")
    assert tuning(tuned).answering is Answering.UNKNOWN


def test_only_chat_is_asked_about() -> None:
    base = model("acme/embed-Base")
    assert not found(instruct, base, on(task=Task.FEATURE_EXTRACTION))
    flux = subject("acme/flux-base", texts={"model_index.json": b"{}"})
    assert not found(instruct, flux)


def test_endless_templates_are_read_in_bounded_time() -> None:
    hostile = "<|im_end" * 200_000 + "{%" * 100_000
    chat = with_template("acme/x", QWEN, "<|endoftext|>", hostile, 151643)
    assert tuning(chat).signal

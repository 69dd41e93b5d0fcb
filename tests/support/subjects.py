"""Models to be judged, put together from real configurations and what tokenizers say."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from meshtui.compat.rules import Rule
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject, SubjectFile
from meshtui.domain.finding import Finding
from meshtui.memory.gpus import gpus
from tests.support.memory_data import configuration_files

# Special tokens of families, by their numbers.
QWEN = {"151643": "<|endoftext|>", "151644": "<|im_start|>", "151645": "<|im_end|>"}
LLAMA3 = {"128000": "<|begin_of_text|>", "128001": "<|end_of_text|>", "128009": "<|eot_id|>"}
GEMMA = {"1": "<eos>", "105": "<start_of_turn>", "106": "<end_of_turn>"}
MISTRAL = {"1": "<s>", "2": "</s>", "3": "[INST]", "4": "[/INST]"}
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
LLAMA3_CHAT = (
    "{% for m in messages %}<|start_header_id|>{{ m.role }}{{ m.content }}<|eot_id|>{% endfor %}"
)
GEMMA_CHAT = (
    "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>{% endfor %}"
)
MISTRAL_CHAT = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)


def files_of(*paths: str) -> tuple[SubjectFile, ...]:
    return tuple(SubjectFile(path=path, size_bytes=1000) for path in paths)


def subject(
    name: str = "acme/model",
    config: Mapping[str, Any] | None = None,
    *,
    like: str | None = None,
    files: Sequence[str] | None = None,
    texts: Mapping[str, bytes] | None = None,
    **more: Any,
) -> Subject:
    """A model with that config.json, or with the files of one that we have (`like`)."""
    found: dict[str, bytes] = {}
    if like is not None:
        known = configuration_files(like)
        assert known is not None, like
        found |= known
    if config is not None:
        found["config.json"] = json.dumps(config).encode()
    found |= texts or {}
    paths = ("config.json", "tokenizer.json", "model.safetensors") if files is None else files
    more.setdefault("source", "hub")
    return Subject(name=name, texts=found, files=files_of(*paths), **more)


def tokenizer(
    tokens: Mapping[str, str], eos: str, template: str | None = None, **more: Any
) -> bytes:
    """A tokenizer_config.json."""
    said: dict[str, Any] = {
        "eos_token": eos,
        "added_tokens_decoder": {number: {"content": text} for number, text in tokens.items()},
        **more,
    }
    if template is not None:
        said["chat_template"] = template
    return json.dumps(said).encode()


def generation(*eos: int) -> bytes:
    """A generation_config.json."""
    return json.dumps({"eos_token_id": list(eos) if len(eos) > 1 else eos[0]}).encode()


def on(gpu: str | None = None, vllm: str = "0.32.0", **more: Any) -> Setting:
    """A runtime with that vLLM, on a GPU of the catalogue."""
    more.setdefault("packages", frozenset({"vllm", "transformers", "fastapi", "uvicorn"}))
    return Setting(
        runtime="test",
        vllm_version=vllm,
        transformers_version=more.pop("transformers", "5.19.0"),
        gpu=gpus()[gpu] if gpu else None,
        **more,
    )


def found(rule: Rule, model: Subject, setting: Setting | None = None) -> list[Finding]:
    return list(rule(model, setting or on()))


def said(rule: Rule, model: Subject, setting: Setting | None = None) -> tuple[str, str, str]:
    """Level, message and fix of the only finding."""
    [one] = found(rule, model, setting)
    assert one.message and one.message[-1] != " "
    return one.level.value, one.message, one.fix

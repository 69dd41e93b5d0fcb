"""What the files of an entry tell, and that strange files tell nothing instead of failing."""

import json
import random
from pathlib import Path

import pytest

from meshtui.cache.card import parse_card
from meshtui.cache.facts import files_below, read_entry_facts, unsafe_files, weights_by_name
from meshtui.domain.model_cache import WeightsFormat
from tests.support.models import CONFIG, files, safetensors, write

CARD = b"""---
license: apache-2.0
language:
- en
- de
pipeline_tag: text-generation
library_name: transformers
tags: [chat, small]
base_model: org/base
base_model_relation: finetune
---
# A model

It answers.
"""


def test_the_weights_and_the_card_are_read(tmp_path: Path) -> None:
    write(tmp_path, files(README__md=CARD))
    facts = read_entry_facts(tmp_path)
    assert facts.weights.format is WeightsFormat.SAFETENSORS and facts.weights.dtype == "BF16"
    assert facts.weights.shards == 1 and facts.weights.size_bytes == len(safetensors())
    assert facts.task == "text-generation" and facts.licence == "apache-2.0"
    assert facts.card.languages == ("en", "de") and facts.card.tags == ("chat", "small")
    assert facts.card.base_relation == "finetune" and facts.card.text.startswith("# A model")
    assert facts.architectures == ("LlamaForCausalLM",) and facts.context_length == 2048


def test_without_a_card_the_files_say_what_it_is_for(tmp_path: Path) -> None:
    write(tmp_path, files(modules__json=b"[]"))
    assert read_entry_facts(tmp_path).task == "feature-extraction"
    assert read_entry_facts(tmp_path).library == "sentence-transformers"


def test_quantization_is_named(tmp_path: Path) -> None:
    config = CONFIG | {"quantization_config": {"quant_method": "AWQ", "bits": 4}}
    write(tmp_path, files(config__json=json.dumps(config).encode()))
    assert read_entry_facts(tmp_path).weights.quantization == "awq"


@pytest.mark.parametrize(
    ("names", "kind", "unsafe"),
    [
        (["a.safetensors", "pytorch_model.bin"], WeightsFormat.SAFETENSORS, ()),
        (["pytorch_model.bin"], WeightsFormat.PICKLE, ("pytorch_model.bin",)),
        (["training_args.bin"], WeightsFormat.NONE, ("training_args.bin",)),
        (["m.gguf", "modeling.py"], WeightsFormat.GGUF, ("modeling.py",)),
        (["config.json"], WeightsFormat.NONE, ()),
    ],
)
def test_formats_and_what_can_run_code(
    names: list[str], kind: WeightsFormat, unsafe: tuple[str, ...]
) -> None:
    assert weights_by_name(names).format is kind
    assert unsafe_files(names) == unsafe


def test_files_of_git_are_not_the_models(tmp_path: Path) -> None:
    write(tmp_path, {".git/config": b"x", ".cache/huggingface/y": b"", "a/b.json": b"123"})
    assert files_below(tmp_path) == {"a/b.json": 3}


@pytest.mark.parametrize(
    "card",
    [
        b"---\n*a\n---\n",
        b"---\na: &x [1]\nb: *x\n---\n",
        b"---\n" + b"[" * 5000 + b"\n---\n",
        b"---\nlicense: [1, 2\n---\n",
        b"---\n!!python/object/apply:os.system ['true']\n---\n",
        b"---\nlicense:\n  a: b\nlanguage: {x: y}\ntags: 3\n---\n",
        b"---\n- 1\n---\n",
        b"\xff\xfe\x00",
        b"---\nlicense: 2026-01-01\n1: 2\n---\n",
        b"---\nx: 99999999999999999999-01-01\n---\n",
    ],
)
def test_strange_front_matter_says_nothing(card: bytes) -> None:
    found = parse_card(card)
    assert found.licence is None and found.languages == ()


def test_text_of_a_card_cannot_reach_a_terminal_as_it_is() -> None:
    card = parse_card(b'---\nlicense: "\\e]52;c;aGk=\\a"\n---\nhi\x1b[2J\xe2\x80\xae')
    assert "\x1b" not in card.text and "\u202e" not in card.text
    assert card.licence is None or "\x1b" not in card.licence


def test_mutated_cards_are_read(tmp_path: Path) -> None:
    rng = random.Random(3)
    for _ in range(400):
        content = bytearray(CARD)
        for _ in range(rng.randint(1, 6)):
            content[rng.randrange(len(content))] = rng.choice(b"&*!{}[]:-\n\t%@`\"'|>\x00\xff#?,")
        parse_card(bytes(content))


@pytest.mark.parametrize("config", [b"[]", b"{", b"{" * 100_000, b"\xff", b"null", b'{"a": 1e999}'])
def test_a_configuration_that_is_none_leaves_the_rest(tmp_path: Path, config: bytes) -> None:
    write(tmp_path, files(config__json=config, model__safetensors=b"rubbish"))
    facts = read_entry_facts(tmp_path)
    assert facts.weights.shards == 1 and facts.weights.dtype is None

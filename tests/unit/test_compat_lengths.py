"""How long an input a model takes, by what scales it and by the release of vLLM."""

import json
from typing import Any

import pytest

from meshtui.compat.lengths import longest_length, model_length
from meshtui.compat.rules.length import max_tokens
from meshtui.compat.subject import Subject
from meshtui.memory.kv_cache import kv_cache
from meshtui.memory.settings import ServingSettings
from tests.support.subjects import found, on, said, subject, tokenizer

LONGROPE = {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def llama(longest: int = 32768, **more: Any) -> Subject:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 100,
        "max_position_embeddings": longest,
        "rope_theta": 10000.0,
    }
    return subject(config={**config, **more})


@pytest.mark.parametrize(
    ("vllm", "longest", "scaling", "own"),
    [
        # What vllm/config/model.py of these releases says of the same configuration.
        ("0.8.5", 32768, YARN, 131072),
        ("0.29.0", 32768, YARN, 131072),
        ("0.30.0", 32768, YARN, 32768),
        ("0.32.0", 32768, YARN, 32768),
        ("0.29.0", 131072, YARN, 131072),
        ("0.32.0", 131072, YARN, 131072),
        ("0.29.0", 131072, {**YARN, "rope_type": "deepseek_yarn"}, 524288),
        ("0.32.0", 131072, {**YARN, "rope_type": "deepseek_yarn"}, 131072),
        ("0.32.0", 8192, {"type": "dynamic", "factor": 2.0}, 16384),
        ("0.32.0", 131072, {"rope_type": "llama3", "factor": 8.0}, 131072),
        ("0.32.0", 8192, {"type": "linear", "factor": None}, 8192),
        ("0.32.0", 8192, {"type": "linear", "factor": -3}, 8192),
        ("0.32.0", 8192, {"type": 7, "factor": "x"}, 8192),
    ],
)
def test_what_a_scaling_lengthens_depends_on_its_type_and_on_the_release(
    vllm: str, longest: int, scaling: dict[str, Any], own: int
) -> None:
    model = llama(longest, rope_scaling=scaling)
    assert longest_length(model.configuration, vllm) == own
    assert said(max_tokens, model, on(vllm=vllm, max_tokens=own))[0] == "ok"
    assert said(max_tokens, model, on(vllm=vllm, max_tokens=own + 1))[0] == "blocker"
    settings = ServingSettings(vllm_version=vllm)
    assert kv_cache(model.configuration, settings).longest == own


def test_long_rope_starts_with_the_original_length_and_takes_more_where_that_is_asked_for() -> None:
    model = llama(131072, original_max_position_embeddings=4096, rope_scaling=LONGROPE)
    assert model_length(model.configuration) == 4096
    assert longest_length(model.configuration) == 131072
    assert said(max_tokens, model)[:2] == (
        "ok",
        "4,096 tokens, or up to 131,072 where that is asked for",
    )
    assert said(max_tokens, model, on(max_tokens=4096))[0] == "ok"
    level, message, fix = said(max_tokens, model, on(max_tokens=65536))
    assert level == "warning" and "short ones a little worse" in message and "4,096" in fix
    assert said(max_tokens, model, on(max_tokens=131073))[0] == "blocker"


def test_a_model_that_was_never_scaled_may_be() -> None:
    fix = said(max_tokens, llama(), on(max_tokens=100_000))[2]
    assert "32,768" in fix and "YaRN" in fix
    scaled = said(max_tokens, llama(rope_scaling=YARN), on(vllm="0.28.0", max_tokens=1_000_000))[2]
    assert "131,072" in scaled and "YaRN" not in scaled


def test_models_that_name_no_limit_take_what_is_asked_for() -> None:
    mamba = subject(config={"architectures": ["MambaForCausalLM"], "model_type": "mamba"})
    assert model_length(mamba.configuration) == 2048
    assert longest_length(mamba.configuration) is None
    assert said(max_tokens, mamba)[0] == said(max_tokens, mamba, on(max_tokens=10**6))[0] == "ok"
    assert model_length(subject(config={}).configuration) is None


def test_encoders_say_it_beside_their_configuration() -> None:
    config = {"architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": 512,
              "position_embedding_type": "absolute"}  # fmt: skip
    beside = {"sentence_bert_config.json": json.dumps({"max_seq_length": 256}).encode()}
    assert model_length(subject(config=config, texts=beside).configuration) == 256
    short = {"tokenizer_config.json": tokenizer({}, "[SEP]", model_max_length=384)}
    assert model_length(subject(config=config, texts=short).configuration) == 384
    endless = {"tokenizer_config.json": tokenizer({}, "[SEP]", model_max_length=10**30)}
    assert model_length(subject(config=config, texts=endless).configuration) == 512
    broken = {"sentence_bert_config.json": b'{"max_seq_length": "long"}'}
    assert model_length(subject(config=config, texts=broken).configuration) == 512


def test_pipelines_have_no_length() -> None:
    flux = subject(texts={"model_index.json": b'{"_class_name": "FluxPipeline"}'})
    assert not found(max_tokens, flux)

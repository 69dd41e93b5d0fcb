"""Our estimates beside what the vLLM of the test runtime computes with its own functions."""

import json
from pathlib import Path
from typing import Any

import pytest

from meshtui.compat.configuration import read_configuration
from meshtui.domain.check import CheckWishes
from meshtui.domain.errors import Unavailable
from meshtui.domain.runtime import Package, RuntimeStatus
from meshtui.engines.check.case import Place
from meshtui.engines.check.known import Known
from meshtui.engines.check.verdict import check
from meshtui.engines.exact import ExactAnswer, ask_vllm
from meshtui.memory.gpus import gpus
from meshtui.memory.kv_cache import kv_cache
from meshtui.memory.settings import ServingSettings
from meshtui.memory.weights import estimate_weights
from tests.support.memory_data import configuration_files
from tests.support.subjects import subject

H100 = gpus()["h100"]
LENGTHS = (1, 17, 1000, 4096)
# What is not alike: small buffers that the classes keep beside the tables of rope, and units of
# 512 bytes for each small tensor.
MOST_APART = 0.001
SMALL_BYTES = 64 * 1024


def like(model: str, **changes: Any) -> dict[str, Any]:
    """The real configuration of a family with fewer, narrower layers."""
    files = configuration_files(model)
    assert files is not None
    config: dict[str, Any] = json.loads(files["config.json"])
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    assert isinstance(text, dict)
    for key, value in {"num_hidden_layers": 4, "vocab_size": 1024, **changes}.items():
        text[key] = value
    return config


TINY: dict[str, dict[str, Any]] = {
    "grouped queries": like(
        "Qwen/Qwen3-0.6B", hidden_size=256, num_attention_heads=4, num_key_value_heads=2,
        head_dim=64, intermediate_size=512, max_position_embeddings=4096, layer_types=None,
        max_window_layers=4,
    ),
    "all heads": like(
        "meta-llama/Llama-2-7b-hf", hidden_size=256, num_attention_heads=4,
        num_key_value_heads=4, intermediate_size=512, max_position_embeddings=4096,
    ),
    "a window": like(
        "mistralai/Mistral-7B-Instruct-v0.1", hidden_size=256, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=512, max_position_embeddings=8192,
        sliding_window=512,
    ),
    "windows and full attention": like(
        "google/gemma-2-9b-it", hidden_size=256, num_attention_heads=4, num_key_value_heads=2,
        head_dim=64, intermediate_size=512, max_position_embeddings=8192, sliding_window=512,
        layer_types=None,
    ),
    "experts": like(
        "Qwen/Qwen3-30B-A3B", hidden_size=256, num_attention_heads=4, num_key_value_heads=2,
        head_dim=64, intermediate_size=512, moe_intermediate_size=128, num_experts=8,
        num_experts_per_tok=2, max_position_embeddings=4096, layer_types=None, max_window_layers=4,
    ),
    "latent attention": like(
        "zai-org/GLM-4.7-Flash", num_hidden_layers=3, hidden_size=256, num_attention_heads=4,
        num_key_value_heads=4, intermediate_size=512, moe_intermediate_size=128,
        n_routed_experts=8, num_experts_per_tok=2, max_position_embeddings=8192,
    ),
    "a state beside attention": like(
        "Qwen/Qwen3-Next-80B-A3B-Thinking", hidden_size=256, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, intermediate_size=512, moe_intermediate_size=128,
        shared_expert_intermediate_size=128, num_experts=8, num_experts_per_tok=2,
        linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=64,
        linear_value_head_dim=64, max_position_embeddings=8192, layer_types=None,
    ),
}  # fmt: skip


async def asked(python: Path, config: dict[str, Any], ranks: int = 1) -> ExactAnswer:
    texts = {"config.json": json.dumps(config).encode()}
    return await ask_vllm(python, texts, H100, tensor_parallel_size=ranks, lengths=LENGTHS)


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("ranks", [1, 2])
async def test_the_engine_itself_computes_the_same(
    engine_python: Path, family: str, ranks: int
) -> None:
    config = {key: value for key, value in TINY[family].items() if value is not None}
    config = {
        key: {k: v for k, v in value.items() if v is not None} if key == "text_config" else value
        for key, value in config.items()
    }
    theirs = await asked(engine_python, config, ranks)
    settings = ServingSettings(
        gpu=H100, vllm_version=theirs.vllm_version, tensor_parallel_size=ranks
    )
    configuration = read_configuration({"config.json": json.dumps(config).encode()})
    cache = kv_cache(configuration, settings)
    ours = {str(length): cache.bytes_for(length) for length in LENGTHS}
    assert ours == theirs.request_bytes
    items = estimate_weights(configuration, settings).items
    # That vLLM was asked before it loads; what it makes of loaded weights comes on top.
    weights = sum(item.likely_bytes for item in items if item.name != "repacking")
    apart = abs(weights - theirs.weights_bytes)
    assert apart <= max(SMALL_BYTES, MOST_APART * theirs.weights_bytes), (
        weights,
        theirs.weights_bytes,
        theirs.tensor_bytes,
    )


async def test_a_model_that_vllm_refuses_is_said_in_words(engine_python: Path) -> None:
    with pytest.raises(Unavailable, match="could not be asked") as refused:
        await asked(engine_python, {"architectures": ["NobodysForCausalLM"], "model_type": "x"})
    assert refused.value.hint


async def test_a_runtime_without_vllm_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be started"):
        await asked(tmp_path / "python", {})


async def test_the_exact_mode_agrees_with_the_estimate(engine_python: Path) -> None:
    files = configuration_files("Qwen/Qwen3-0.6B")
    assert files is not None
    answer = await ask_vllm(engine_python, files, H100, lengths=(8192,))
    runtime = RuntimeStatus(name="cpu", packages=(Package("vllm", answer.vllm_version),))
    wishes = CheckWishes(gpu="H100", max_tokens=8192)
    known = Known(subject("Qwen/Qwen3-0.6B", like="Qwen/Qwen3-0.6B"))
    exact = check(known, wishes, Place(runtime=runtime, exact=answer)).memory
    estimated = check(known, wishes, Place(runtime=runtime)).memory
    assert exact is not None and estimated is not None
    assert exact.kv_cache_bytes_per_request == answer.request_bytes["8192"]
    assert exact.weights_bytes == pytest.approx(estimated.weights_bytes, rel=MOST_APART)

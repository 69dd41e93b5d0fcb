"""The KV cache, against vLLM's own answers and known figures."""

import json
import time
from typing import Any

import pytest

from meshtui.compat.configuration import Configuration, read_configuration
from meshtui.compat.lengths import model_length
from meshtui.domain.errors import InvalidInput
from meshtui.domain.memory import GIB
from meshtui.memory.gpus import gpus
from meshtui.memory.kv_cache import KvCache, kv_cache, pipeline_stages
from meshtui.memory.settings import ServingSettings
from tests.support.memory_data import SAME_SHAPES, configuration, oracle_rows, records

# Published, and not among the configurations.
SHAPES: dict[str, dict[str, Any]] = {
    "google/gemma-4-26B-A4B-it": {
        "architectures": ["Gemma4ForCausalLM"], "model_type": "gemma4_text",
        "num_hidden_layers": 30, "num_attention_heads": 16, "num_key_value_heads": 8,
        "head_dim": 256, "global_head_dim": 512, "num_global_key_value_heads": 2,
        "attention_k_eq_v": True, "sliding_window": 1024, "torch_dtype": "bfloat16",
    },
}  # fmt: skip


def known(model: str) -> Configuration:
    found = configuration(model) or configuration(SAME_SHAPES.get(model, ""))
    if found is None:
        found = read(SHAPES[model])
    return found


def read(config: dict[str, Any]) -> Configuration:
    return read_configuration({"config.json": json.dumps(config).encode()})


def cached(config: dict[str, Any], **settings: Any) -> KvCache:
    return kv_cache(read(config), ServingSettings(gpu=gpus()["h100"], **settings))


def llama(**changed: Any) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "num_hidden_layers": 8, "num_attention_heads": 32, "num_key_value_heads": 8,
        "hidden_size": 4096, "max_position_embeddings": 8192, **changed,
    }  # fmt: skip


def test_every_answer_of_the_engine_is_met() -> None:
    checked, wrong, refused = 0, [], 0
    for row in oracle_rows():
        found = configuration(row["model"])
        assert found is not None, row["model"]
        settings = ServingSettings(
            gpu=gpus()[row["gpu"]], vllm_version=row["vllm"], tensor_parallel_size=row["tp"]
        )
        # Some rows failed for want of a module on the machine that asked; ours have no such want.
        if "kv_needed" not in row:
            refused += 1
            continue
        model = kv_cache(found, settings)
        assert model.none == (not row["kv_needed"]), row["model"]
        assert model_length(found) == row["max_model_len"], row["model"]
        for length, needed in row["kv_needed"].items():
            checked += 1
            ours = model.bytes_for(int(length))
            if abs(ours - needed) > 0.0005 * needed:
                wrong.append((row["model"], row["gpu"], row["tp"], length, ours, needed))
    assert not wrong
    assert checked > 1400 and refused <= 15


def test_what_the_engine_refuses_to_split_is_refused() -> None:
    rows = [row for row in oracle_rows() if "must be divisible" in row.get("error", "")]
    assert rows
    for row in rows:
        found = configuration(row["model"])
        assert found is not None
        settings = ServingSettings(gpu=gpus()["h100"], tensor_parallel_size=row["tp"])
        with pytest.raises(InvalidInput, match="split"):
            kv_cache(found, settings)


def test_known_figures() -> None:
    model = kv_cache(known("meta-llama/Llama-3.1-8B-Instruct"), ServingSettings())
    assert model.bytes_for(131072) == 16 * GIB
    assert model.bytes_for(32768) == 4 * GIB


# Which GPU these logs are from is not told; the step of smaller ones fits their windows.
SMALL_STEPS = ("openai/gpt-oss-20b", "google/gemma-4-26B-A4B-it")
SINCE_WINDOWS_WAIT = "0.20.0"


def test_what_logs_say_is_needed_is_met_to_the_printed_digit() -> None:
    checked = []
    for record in records():
        needed, length = record.gib("kv_needed_gib"), record.said.get("kv_needed_at_len")
        if needed is None or length is None:
            continue
        try:
            found = known(record.model)
        except KeyError:
            continue
        settings = record.settings
        if record.model in SMALL_STEPS:
            settings = ServingSettings(gpu=gpus()["l4"], vllm_version=SINCE_WINDOWS_WAIT)
        elif settings.vllm_version is None or settings.pipeline_parallel_size == 1:
            settings = ServingSettings(gpu=gpus()["h100"], vllm_version=settings.vllm_version)
        ours = kv_cache(found, settings).bytes_for(length) / GIB
        checked.append(record.model)
        digits = len(str(record.said["kv_needed_gib"]).partition(".")[2])
        assert f"{ours:.{max(1, digits)}f}" == f"{needed:.{max(1, digits)}f}", record.model
    assert len(checked) >= 9


def test_the_concurrency_that_logs_print_is_met() -> None:
    errors = []
    for record in records():
        printed, pool = record.gib("max_concurrency"), record.gib("available_kv_gib")
        length = record.said.get("max_model_len")
        # Of several stages only one logs its pool, and the smallest counts.
        if printed is None or pool is None or length is None or not record.started:
            continue
        if record.settings.pipeline_parallel_size > 1 or record.settings.gpu is None:
            continue
        try:
            found = known(record.model)
        except KeyError:
            continue
        ours = kv_cache(found, record.settings).concurrency(int(pool * GIB), length)
        errors.append(abs(ours / printed - 1))
    errors.sort()
    assert len(errors) >= 35
    assert errors[len(errors) // 2] < 0.001
    assert errors[-1] < 0.005


def test_windows_hold_what_is_under_way_besides() -> None:
    config = llama(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=1024)
    one, two = (
        cached(config, async_scheduling=on, max_num_batched_tokens=2048, max_model_len=8192)
        for on in (False, True)
    )
    page = 16 * 8 * 128 * 2 * 2 * 8
    assert one.bytes_for(8192) == (-(-(1023 + 2048) // 16) + 1) * page
    assert two.bytes_for(8192) == (-(-(1023 + 4096) // 16) + 1) * page
    older = cached(config, vllm_version="0.19.0", max_num_batched_tokens=2048)
    assert older.bytes_for(8192) == one.bytes_for(8192)


def test_an_fp8_cache_is_half_and_kv_heads_are_repeated() -> None:
    plain = cached(llama()).bytes_for(8192)
    assert cached(llama(), kv_cache_dtype="fp8").bytes_for(8192) * 2 == plain
    assert cached(llama(), tensor_parallel_size=8).bytes_for(8192) * 8 == plain
    two_heads = llama(num_key_value_heads=2)
    split = [cached(two_heads, tensor_parallel_size=n).bytes_for(8192) for n in (1, 2, 4)]
    assert split[0] == 2 * split[1] == 2 * split[2]
    with pytest.raises(InvalidInput, match="KV heads"):
        cached(llama(num_key_value_heads=10, num_attention_heads=40), tensor_parallel_size=4)


def test_stages_share_the_layers_and_the_largest_counts() -> None:
    assert pipeline_stages(10, 4) == [(0, 2), (2, 5), (5, 8), (8, 10)]
    assert pipeline_stages(8, 2) == [(0, 4), (4, 8)]
    whole = cached(llama()).bytes_for(8192)
    staged = cached(llama(), pipeline_parallel_size=2)
    assert staged.bytes_for(8192) * 2 == whole
    older = cached(llama(), pipeline_parallel_size=2, vllm_version="0.15.0")
    assert older.bytes_for(8192) == whole
    assert older.concurrency(whole, 8192) == staged.concurrency(whole, 8192) == 2


def test_the_longest_request_is_the_last_that_fits() -> None:
    for config in (llama(), llama(model_type="gemma2", architectures=["Gemma2ForCausalLM"])):
        model = cached(config)
        for pool in (10**7, 10**8, 2 * 10**8):
            longest = model.longest_that_fits(pool)
            assert longest == 0 or model.fits(pool, longest)
            assert longest == model.longest or not model.fits(pool, longest + 1)
    assert cached(llama()).longest_that_fits(10**12) == 8192
    assert cached(llama()).longest_that_fits(10**12, limit=100) == 100


def test_encoders_keep_nothing() -> None:
    for model in ("BAAI/bge-m3", "sentence-transformers/all-MiniLM-L6-v2"):
        kept = kv_cache(known(model), ServingSettings())
        assert kept.none and kept.bytes_for(512) == 0
    both_ways = llama(architectures=["LlamaModel"], is_causal=False)
    assert cached(both_ways).none


def test_an_architecture_with_an_unknown_cache_is_not_guessed() -> None:
    with pytest.raises(InvalidInput, match="not known"):
        cached(llama(architectures=["DeepseekV41ForCausalLM"]))


def test_an_estimate_is_quick() -> None:
    models = ("meta-llama/Llama-3.1-8B-Instruct", "deepseek-ai/DeepSeek-V4-Pro",
              "nvidia/Nemotron-H-56B-Base-8K", "google/gemma-3-27b-it")  # fmt: skip
    for model in models:
        found = known(model)
        kv_cache(found, ServingSettings()).bytes_for(8192)
        times = []
        for _ in range(20):
            before = time.thread_time()
            kv_cache(found, ServingSettings()).bytes_for(8192)
            times.append(time.thread_time() - before)
        assert min(times) < 0.005, model

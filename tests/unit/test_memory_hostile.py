"""Spoilt configurations give an estimate or a refusal in words, quickly, and nothing else."""

import json
import time
from typing import Any

import pytest

from meshtui.compat.configuration import read_configuration
from meshtui.domain.errors import InvalidInput
from meshtui.memory.fit import fit
from meshtui.memory.gpus import gpus
from meshtui.memory.settings import ServingSettings
from meshtui.memory.weights import estimate_weights
from tests.support.memory_data import all_configurations
from tests.support.mutations import every_field_wrong, mutated

# A generous bound for one estimate of a spoilt configuration: seconds of the thread's processor.
QUICK_S = 0.5
# A collection of the whole process's garbage may fall into one measurement, not into all three.
ATTEMPTS = 3


def judge(config: dict[str, Any], seed: int) -> bool:
    """Whether an estimate came out; raises what must not be raised."""
    for _attempt in range(ATTEMPTS):
        before = time.thread_time()
        came_out = judge_once(config, seed)
        if time.thread_time() - before < QUICK_S:
            return came_out
    raise AssertionError(f"more than {QUICK_S} s, each of {ATTEMPTS} times")


def judge_once(config: dict[str, Any], seed: int) -> bool:
    settings = ServingSettings(
        gpu=gpus()[("h100", "t4", "b200")[seed % 3]],
        tensor_parallel_size=(1, 2, 8)[seed // 3 % 3],
        pipeline_parallel_size=(1, 3)[seed % 2],
        vllm_version=(None, "0.9.0", "0.19.0")[seed % 3],
    )
    try:
        model = read_configuration({"config.json": json.dumps(config).encode()})
        found = fit(
            model,
            settings,
            lambda tried: estimate_weights(model, tried),
            with_changes=seed % 5 == 0,
        )
    except InvalidInput as refusal:
        assert refusal.message and "\x1b" not in str(refusal)
        return False
    assert found.kv_request_bytes >= 0 and found.longest >= 0 and found.concurrency >= 0
    return True


@pytest.mark.parametrize("part", range(4))
def test_mutations_of_every_model_are_estimated_or_refused(part: int) -> None:
    judged = came_out = 0
    for number, files in enumerate(all_configurations().values()):
        if number % 4 != part:
            continue
        source = json.loads(files["config.json"])
        for seed in range(12):
            judged += 1
            came_out += judge(mutated(source, seed * 1000 + number), seed)
    assert judged > 200
    assert came_out > judged // 5


def test_a_wrong_value_in_any_field_is_estimated_or_refused() -> None:
    kept = (
        "deepseek-ai/DeepSeek-V4-Pro",
        "Qwen/Qwen3.5-27B",
        "google/gemma-3-4b-it",
        "nvidia/Nemotron-H-56B-Base-8K",
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        "ai21labs/AI21-Jamba-1.5-Mini",
        "MiniMaxAI/MiniMax-M3",
        "tiiuae/falcon-40b-instruct",
    )
    for model in kept:
        source = json.loads(all_configurations()[model]["config.json"])
        for seed, config in enumerate(every_field_wrong(source)):
            judge(config, seed)

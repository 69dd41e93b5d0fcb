"""What the weights of one rank take: against vLLM's own figures, logs, and headers."""

import pytest

from meshtui.memory.gpus import gpus
from meshtui.memory.settings import ServingSettings
from meshtui.memory.weights import Weights, estimate_weights
from tests.support.memory_data import configuration, oracle_rows


def weights(model: str, *, tp: int = 1, vllm: str = "0.32.0") -> Weights:
    found = configuration(model)
    assert found is not None
    settings = ServingSettings(gpu=gpus()["h100"], vllm_version=vllm, tensor_parallel_size=tp)
    return estimate_weights(found, settings)


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_a_plain_decoder_is_exact(tp: int) -> None:
    rows = {(row["model"], row["tp"]): row for row in oracle_rows()}
    row = rows["meta-llama/Llama-3.1-8B-Instruct", tp]
    found = weights("meta-llama/Llama-3.1-8B-Instruct", tp=tp)
    tensors = sum(item.likely_bytes for item in found.items if item.name != "allocator")
    assert tensors == pytest.approx(row["param_bytes"] + row["buffer_bytes"], rel=1e-5)

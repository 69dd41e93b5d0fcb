"""Whether a model fits, the longest request, the fewest GPUs, and what would have to change."""

import json
from typing import Any

import msgspec
import pytest

from meshtui.compat.configuration import Configuration, read_configuration
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.memory import GIB, Fit
from meshtui.memory.fit import fit, smallest_sets
from meshtui.memory.gpus import find_gpu, gpus
from meshtui.memory.overhead import overheads
from meshtui.memory.settings import ServingSettings
from tests.support.memory_data import configuration, records
from tests.support.overhead_fit import left_out_errors


class Weights(msgspec.Struct, frozen=True):
    low_bytes: int
    likely_bytes: int
    high_bytes: int


def weights(gib: float) -> Any:
    """Weights that are split evenly over the ranks."""

    def of(settings: ServingSettings) -> Weights:
        ranks = settings.tensor_parallel_size * settings.pipeline_parallel_size
        size = int(gib * GIB / ranks)
        return Weights(size, size, size)

    return of


def known(model: str) -> Configuration:
    found = configuration(model)
    assert found is not None
    return found


LLAMA, LLAMA_GIB = "meta-llama/Llama-3.1-8B-Instruct", 14.99


def judged(gpu: str, **settings: Any) -> Fit:
    chosen = ServingSettings(gpu=gpus()[gpu], **settings)
    return fit(known(LLAMA), chosen, weights(LLAMA_GIB))


def test_a_model_that_fits_says_how_much_it_can_do() -> None:
    found = judged("h100", max_model_len=8192)
    assert found.fits and found.surely and not found.problem and not found.changes
    assert found.kv_request_bytes == GIB
    assert found.longest == 131072
    assert found.concurrency == pytest.approx(found.pool.likely_bytes / GIB, rel=0.001)
    assert sum(item.likely_bytes for item in found.items) + found.pool.likely_bytes == (
        found.requested_bytes
    )


def test_a_model_that_does_not_fit_says_what_would_change_that() -> None:
    found = judged("rtx-3090")
    assert not found.fits and "16.00 GiB of KV cache" in found.problem
    by_name = {change.name: change.value for change in found.changes}
    assert by_name["shorter-length"] == str(found.longest)
    assert by_name["more-gpus"] in ("2", "4")
    assert "larger-gpu" in by_name and "quantized-sibling" in by_name
    shorter = judged("rtx-3090", max_model_len=found.longest)
    assert shorter.fits
    assert judged("rtx-3090", tensor_parallel_size=int(by_name["more-gpus"])).fits


def test_weights_that_are_too_large_are_named() -> None:
    found = judged("t4")
    assert not found.fits and "weights alone" in found.problem
    assert found.longest == 0 and found.concurrency == 0


def test_memory_that_others_use_counts() -> None:
    chosen = ServingSettings(gpu=gpus()["h100"], max_model_len=8192)
    busy = fit(known(LLAMA), chosen, weights(LLAMA_GIB), free_bytes=60 * GIB)
    assert not busy.fits and "60.0 GiB of the GPU are free" in busy.problem


def test_the_smallest_sets_are_the_smallest() -> None:
    found = smallest_sets(known(LLAMA), ServingSettings(max_model_len=8192), weights(LLAMA_GIB))
    assert [(f.gpu_count, f.gpu.memory_bytes) for f in found] == sorted(
        (f.gpu_count, f.gpu.memory_bytes) for f in found
    )
    by_gpu = {f.gpu.name: f.gpu_count for f in found}
    assert by_gpu["h100"] == 1 and by_gpu["l4"] == 1 and by_gpu["t4"] == 2
    for one in found:
        if one.gpu_count > 1:
            half = ServingSettings(
                gpu=one.gpu, max_model_len=8192, tensor_parallel_size=one.gpu_count // 2
            )
            assert not fit(known(LLAMA), half, weights(LLAMA_GIB)).fits


def test_a_model_without_a_cache_fits_by_its_weights() -> None:
    found = fit(known("BAAI/bge-m3"), ServingSettings(gpu=gpus()["t4"]), weights(1.06))
    assert found.fits and found.kv_request_bytes == 0 and found.concurrency == 0
    assert found.longest == found.max_tokens == 8194


def test_impossible_settings_are_refused() -> None:
    for settings in (
        ServingSettings(),
        ServingSettings(gpu=gpus()["l4"], gpu_memory_utilization=2),
    ):
        with pytest.raises(InvalidInput):
            fit(known(LLAMA), settings, weights(1))


def test_gpus_are_found_by_the_names_that_people_and_drivers_use() -> None:
    for name, expected in {
        "A10": "a10", "a10g": "a10g", "NVIDIA A100-SXM4-80GB": "a100-80", "H100": "h100",
        "NVIDIA H100 80GB HBM3": "h100", "NVIDIA H100 PCIe": "h100-pcie", "Tesla T4": "t4",
        "NVIDIA GeForce RTX 4090": "rtx-4090", "NVIDIA L40S": "l40s", "H200": "h200",
        "A100-40": "a100-40", "NVIDIA A100-SXM4-40GB": "a100-40", "rtx3090": "rtx-3090",
    }.items():  # fmt: skip
        assert find_gpu(name).name == expected, name
    for name in ("", "Voodoo", "\x1b[2J" * 100):
        with pytest.raises(NotFound) as refused:
            find_gpu(name)
        assert "\x1b" not in str(refused.value)


def test_real_gib_are_less_than_the_label() -> None:
    assert len(gpus()) >= 35
    for gpu in gpus().values():
        label = max(int(word[:-2]) for word in gpu.label.split() if word.endswith("GB"))
        assert 0.85 < gpu.memory_bytes / (label * 1e9) < 1.08, gpu.name
        assert gpu.capability >= 70 and gpu.bandwidth_bytes_s > 0 and gpu.source


def test_overheads_of_models_left_out_of_the_fit() -> None:
    errors = left_out_errors(records())
    peaks = sorted(abs(e.predicted - e.seen) for e in errors if e.part == "activations")
    assert len(peaks) >= 25
    assert peaks[len(peaks) // 2] <= 0.03
    assert peaks[-1] <= 0.3
    # And the interval that estimates carry covers them.
    shown = overheads(known(LLAMA), ServingSettings(vllm_version="0.19.0"), 8192)
    spread = (shown.activations.high_bytes - shown.activations.likely_bytes) / GIB
    assert peaks[-1] <= spread + 0.005


def test_overheads_elsewhere_are_less_sure() -> None:
    sure = overheads(known(LLAMA), ServingSettings(gpu=gpus()["h100"], vllm_version="0.19.0"), 8192)
    for settings in (
        ServingSettings(gpu=gpus()["a10"], vllm_version="0.19.0"),
        ServingSettings(gpu=gpus()["h100"], vllm_version="0.32.0"),
    ):
        unsure = overheads(known(LLAMA), settings, 8192)
        assert sure.known and not unsure.known
        width = unsure.activations.high_bytes - unsure.activations.likely_bytes
        assert width > sure.activations.high_bytes - sure.activations.likely_bytes


def test_a_model_that_only_embeds_has_no_sampler() -> None:
    config = {"model_type": "qwen3", "torch_dtype": "bfloat16"}
    embeds = read_configuration(
        {"config.json": json.dumps({**config, "architectures": ["Qwen3Model"]}).encode()}
    )
    settings = ServingSettings(gpu=gpus()["h100"], vllm_version="0.19.0")
    chats = overheads(embeds, settings, 8192).activations.likely_bytes
    pooled = msgspec.structs.replace(settings, pooling=True)
    assert overheads(embeds, pooled, 8192).activations.likely_bytes < 0.7 * chats

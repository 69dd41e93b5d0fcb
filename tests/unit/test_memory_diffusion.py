"""What diffusion pipelines take, from headers and for well-known classes."""

import json
from typing import Any

import pytest

from meshtui.domain.errors import InvalidInput
from meshtui.domain.memory import GIB
from meshtui.memory.diffusion import estimate_diffusion
from meshtui.memory.gpus import gpus
from meshtui.memory.weights_checkpoint import Checkpoint
from tests.support.memory_data import DATA
from tests.support.mutations import every_field_wrong, mutated

FLUX = "black-forest-labs__FLUX.1-schnell"
SDXL = "stabilityai__stable-diffusion-xl-base-1.0"


def index(stem: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / "configs" / f"{stem}.model_index.json").read_text())
    return found


def one_tensor(*shape: int, dtype: str = "BF16") -> Checkpoint:
    return Checkpoint.of_tensors([("blocks.0.weight", dtype, shape)])


def test_flux_needs_a_gpu_of_40_gb() -> None:
    found = estimate_diffusion(index(FLUX))
    assert sum(one.likely_bytes for one in found.components) / 1e9 == pytest.approx(33.7, abs=0.3)
    smallest = found.smallest_gpu()
    assert smallest is not None
    assert 38 * GIB < smallest.memory_bytes <= 48 * GIB
    assert found.resident.low_bytes > gpus()["rtx-3090"].memory_bytes
    assert found.resident.low_bytes > 31 * GIB


def test_offload_needs_less() -> None:
    found = estimate_diffusion(index(FLUX))
    for end in ("low_bytes", "likely_bytes", "high_bytes"):
        resident, model, sequential = (
            getattr(one, end)
            for one in (found.resident, found.model_offload, found.sequential_offload)
        )
        assert sequential < model < resident
    transformer = next(one for one in found.components if one.name == "transformer")
    assert found.model_offload.low_bytes > transformer.likely_bytes


def test_sdxl_fits_a_gpu_of_16_gb() -> None:
    found = estimate_diffusion(index(SDXL))
    assert sum(one.likely_bytes for one in found.components) / 1e9 == pytest.approx(6.9, abs=0.1)
    assert found.resident.high_bytes < 16 * GIB


def test_headers_come_before_what_is_known_of_the_class() -> None:
    parts = {
        "transformer": one_tensor(1000, 1000, dtype="F32"),
        "vae": one_tensor(10, 10),
        "text_encoder": one_tensor(10),
    }
    found = estimate_diffusion(index(FLUX), parts)
    assert found.source == "headers"
    assert {one.name: one.likely_bytes for one in found.components} == {
        "transformer": 2_000_000,
        "vae": 200,
        "text_encoder": 20,
    }


def test_larger_images_need_more() -> None:
    small = estimate_diffusion(index(SDXL), width=512, height=512)
    large = estimate_diffusion(index(SDXL), width=2048, height=2048)
    assert small.resident.likely_bytes < large.resident.likely_bytes


@pytest.mark.parametrize("size", [(0, 10), (-5, -5), (1 << 20, 1 << 20)])
def test_impossible_images_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput):
        estimate_diffusion(index(SDXL), width=size[0], height=size[1])


def test_an_unknown_pipeline_is_refused_in_words() -> None:
    with pytest.raises(InvalidInput, match="not known"):
        estimate_diffusion({"_class_name": "StrangePipeline", "transformer": ["a", "b"]})
    with pytest.raises(InvalidInput, match="beyond any model"):
        estimate_diffusion(index(FLUX), {"transformer": one_tensor(1 << 40, 1 << 40)})


def test_spoilt_indexes_are_estimated_or_refused() -> None:
    source = index(FLUX)
    for spoilt in [*every_field_wrong(source), *(mutated(source, seed) for seed in range(200))]:
        try:
            assert estimate_diffusion(spoilt).resident.likely_bytes > 0
        except InvalidInput as refusal:
            assert refusal.message

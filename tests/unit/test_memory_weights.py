"""What the weights of one rank take: against vLLM's own figures, logs, and headers."""

import json
import struct
import time
from pathlib import Path

import pytest

from meshtui.compat.configuration import Configuration, read_configuration
from meshtui.domain.errors import InvalidInput
from meshtui.domain.memory import GIB
from meshtui.memory.gpus import gpus
from meshtui.memory.settings import ServingSettings
from meshtui.memory.weights import Weights, estimate_weights
from meshtui.memory.weights_checkpoint import Checkpoint
from meshtui.memory.weights_tally import allocated
from tests.support.accuracy import weights_of_engine, weights_of_logs
from tests.support.memory_data import all_configurations, configuration

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 32,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def weights(model: str, **settings: object) -> Weights:
    found = configuration(model)
    assert found is not None
    return of(found, **settings)


def of(found: Configuration, checkpoint: Checkpoint | None = None, **settings: object) -> Weights:
    chosen = {"gpu": gpus()["h100"], "vllm_version": "0.32.0"} | settings
    return estimate_weights(found, ServingSettings(**chosen), checkpoint)  # type: ignore[arg-type]


def tiny(**changed: object) -> Configuration:
    return read_configuration({"config.json": json.dumps(TINY | changed).encode()})


def tiny_checkpoint(*, head: bool = True, dtype: str = "BF16") -> Checkpoint:
    tensors: list[tuple[str, str, tuple[int, ...]]] = [
        ("model.embed_tokens.weight", dtype, (100, 64)),
        ("model.norm.weight", dtype, (64,)),
    ]
    for i in range(2):
        layer = f"model.layers.{i}"
        tensors += [
            (f"{layer}.self_attn.q_proj.weight", dtype, (64, 64)),
            (f"{layer}.self_attn.k_proj.weight", dtype, (32, 64)),
            (f"{layer}.self_attn.v_proj.weight", dtype, (32, 64)),
            (f"{layer}.self_attn.o_proj.weight", dtype, (64, 64)),
            (f"{layer}.mlp.gate_proj.weight", dtype, (128, 64)),
            (f"{layer}.mlp.up_proj.weight", dtype, (128, 64)),
            (f"{layer}.mlp.down_proj.weight", dtype, (64, 128)),
            (f"{layer}.input_layernorm.weight", dtype, (64,)),
            (f"{layer}.post_attention_layernorm.weight", dtype, (64,)),
        ]
    if head:
        tensors.append(("lm_head.weight", dtype, (100, 64)))
    return Checkpoint.of_tensors(tensors)


def item(found: Weights, name: str) -> int:
    return sum(one.likely_bytes for one in found.items if one.name == name)


def test_every_model_that_the_engine_was_asked_about_is_within_a_tenth_of_a_per_cent() -> None:
    found = weights_of_engine()
    assert found.models >= 90
    assert max(abs(error) for error in found.errors) <= 0.1


def test_logs_of_real_starts_are_met() -> None:
    errors = sorted(abs(error) for error in weights_of_logs().errors)
    assert errors[len(errors) // 2] <= 0.05
    assert errors[int(len(errors) * 0.95)] <= 1


@pytest.mark.parametrize(
    ("model", "gigabytes"),
    [("mistralai/Mistral-Small-24B-Instruct-2501", 48), (LLAMA, 16.1)],
)
def test_reference_figures(model: str, gigabytes: float) -> None:
    assert weights(model).likely_bytes / 1e9 == pytest.approx(gigabytes, rel=0.03)


def test_fp8_halves_a_model_of_24_billion_parameters() -> None:
    found = weights("mistralai/Mistral-Small-24B-Instruct-2501", quantization="fp8_per_tensor")
    assert found.likely_bytes / 1e9 == pytest.approx(25, rel=0.05)
    assert found.high_bytes > 1.8 * found.likely_bytes
    assert any("while it loads" in note for note in found.notes)


def test_items_add_up_and_say_how_they_come_about() -> None:
    found = weights(LLAMA, tensor_parallel_size=2)
    assert sum(one.likely_bytes for one in found.items) == found.likely_bytes
    assert all(one.formula for one in found.items)
    assert found.low_bytes < found.likely_bytes < found.high_bytes
    assert found.source == "configuration"


def test_key_value_heads_are_repeated_where_there_are_more_ranks() -> None:
    two, four = (item(of(tiny(), tensor_parallel_size=n), "attention") for n in (2, 4))
    # Queries and output halve, one KV head is left on every rank.
    assert two == 2 * 2 * 64 * (2 * 32 + 2 * 16)
    assert four == 2 * 2 * 64 * (2 * 16 + 2 * 16)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(InvalidInput, match="4 attention heads"):
        of(tiny(), tensor_parallel_size=8)


def test_the_largest_pipeline_stage_counts() -> None:
    whole, half = weights(LLAMA), weights(LLAMA, pipeline_parallel_size=2)
    assert half.likely_bytes / GIB == pytest.approx(7.51, abs=0.01)
    assert half.likely_bytes > whole.likely_bytes / 2
    assert (item(half, "embedding") > 0) != (item(half, "head") > 0)


def test_a_tied_head_is_copied_to_a_last_stage_of_its_own() -> None:
    tied = tiny(tie_word_embeddings=True)
    assert item(of(tied), "head") == 0
    assert item(of(tied, pipeline_parallel_size=2), "head") in (0, 128 * 64 * 2)


def test_a_checkpoint_decides_whether_there_is_a_head() -> None:
    with_head = of(tiny(tie_word_embeddings=True), tiny_checkpoint())
    without = of(tiny(), tiny_checkpoint(head=False))
    assert item(with_head, "head") == 128 * 64 * 2
    assert item(without, "head") == 0
    assert with_head.source == without.source == "headers"


def test_padding_that_headers_lack_does_not_correct_a_known_model() -> None:
    # The vocabulary of 100 is padded to 128, which is much for so small a model.
    alone, confirmed = of(tiny()), of(tiny(), tiny_checkpoint())
    assert confirmed.likely_bytes == alone.likely_bytes
    assert confirmed.source == "headers"
    beside = item(confirmed, "buffers") + item(confirmed, "allocator")
    assert confirmed.low_bytes - beside <= tiny_checkpoint().total_bytes


def test_files_that_hold_something_else_than_the_configuration_describes_are_told() -> None:
    assert of(tiny(), tiny_checkpoint()).disagreement == ""
    assert of(tiny(tie_word_embeddings=True), tiny_checkpoint(head=False)).disagreement == ""
    found = of(tiny(num_hidden_layers=3, hidden_size=64), tiny_checkpoint())
    assert found.disagreement.startswith("The files hold ")
    assert sum(one.likely_bytes for one in found.items) == found.likely_bytes
    strange = tiny(architectures=["StrangeForCausalLM"], num_hidden_layers=3)
    assert of(strange, tiny_checkpoint()).disagreement == ""


def test_headers_correct_a_model_that_is_not_known() -> None:
    strange = tiny(architectures=["StrangeForCausalLM"], vocab_size=128, intermediate_size=1024)
    guessed, corrected = of(strange), of(strange, tiny_checkpoint())
    assert any("not known" in note for note in guessed.notes)
    assert guessed.high_bytes - guessed.low_bytes > 0.15 * guessed.likely_bytes
    said = tiny_checkpoint().total_bytes
    buffers = item(corrected, "buffers") + item(corrected, "allocator")
    assert corrected.likely_bytes - buffers == pytest.approx(said, rel=0.01)
    assert item(corrected, "correction") < 0


def test_a_float32_checkpoint_is_counted_as_it_is_served() -> None:
    found = of(tiny(vocab_size=100), tiny_checkpoint(dtype="F32"))
    half = of(tiny(vocab_size=100), tiny_checkpoint())
    assert found.likely_bytes == half.likely_bytes


def test_a_checkpoint_of_many_tensors_stays_small() -> None:
    names = (
        (f"model.layers.{i}.mlp.experts.{j}.{part}_proj.weight", "BF16", (8, 8))
        for i in range(61)
        for j in range(384)
        for part in ("gate", "up", "down")
    )
    found = Checkpoint.of_tensors(names)
    assert len(found.kinds) == 3
    assert sum(kind.count for kind in found.kinds) == 61 * 384 * 3
    assert found.total_bytes == 61 * 384 * 3 * 128


def test_a_checkpoint_is_read_from_a_folder(tmp_path: Path) -> None:
    assert Checkpoint.of_folder(tmp_path) is None
    header = json.dumps(
        {"lm_head.weight": {"dtype": "F16", "shape": [4, 2], "data_offsets": [0, 16]}}
    ).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(16)
    (tmp_path / "model.safetensors").write_bytes(content)
    found = Checkpoint.of_folder(tmp_path)
    assert found is not None and found.total_bytes == 16 and found.has_head
    (tmp_path / "model.safetensors").write_bytes(content[:-8])
    with pytest.raises(InvalidInput):
        Checkpoint.of_folder(tmp_path)


def test_lying_headers_are_refused_or_bounded() -> None:
    with pytest.raises(InvalidInput):
        Checkpoint.of_tensors([("a", "BF17", (1,))])
    huge = Checkpoint.of_tensors([("model.layers.0.a.weight", "BF16", (1 << 40, 1 << 40))])
    with pytest.raises(InvalidInput, match="beyond any model"):
        of(tiny(), huge)
    assert of(tiny(), Checkpoint.of_tensors([])).likely_bytes > 0


def test_the_allocator_rounds_large_tensors_to_segments() -> None:
    mib = 1 << 20
    assert allocated(1) == 512
    assert allocated(9 * mib + 1) == 9 * mib + 512
    assert allocated(11 * mib + 1) == 12 * mib
    # More than a MiB would be left: the rest is split off.
    assert allocated(12 * mib + 512) == 12 * mib + 512


def test_an_estimate_is_quick() -> None:
    settings = ServingSettings(gpu=gpus()["h100"])
    times = []
    for model in all_configurations():
        found = configuration(model)
        if found is None or not found.architectures:
            continue
        best = float("inf")
        for _ in range(3):
            before = time.thread_time()
            try:
                estimate_weights(found, settings)
            except InvalidInput:
                break
            best = min(best, time.thread_time() - before)
        else:
            times.append(best)
    times.sort()
    assert times[len(times) // 2] < 0.005
    assert times[-1] < 0.25

"""Families without a configuration in the shipped data, against answers of vLLM itself.

Small configurations were asked of vLLM 0.32.0 as the exact mode does (`meshtui.engines.exact`): the
bytes of parameters and buffers of one rank, and the KV cache of requests of `LENGTHS`.
"""

import contextlib
import json
from typing import Any

import pytest

from meshtui.compat.configuration import Configuration, read_configuration
from meshtui.domain.errors import InvalidInput
from meshtui.memory.gpus import gpus
from meshtui.memory.kv_cache import kv_cache
from meshtui.memory.settings import ServingSettings
from meshtui.memory.weights import estimate_weights

LENGTHS = (1, 17, 1000, 4096)
# Scalars and views that classes keep as buffers; each takes 512 bytes.
SMALL_BYTES = 40 * 1024
SIZES = {
    "num_hidden_layers": 4,
    "vocab_size": 1024,
    "hidden_size": 256,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}
MAMBA = {"state_size": 16, "expand": 2, "intermediate_size": 512, "conv_kernel": 4,
         "time_step_rank": 16}  # fmt: skip
LFM2 = {"conv_L_cache": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"]}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "mamba": {"architectures": ["MambaForCausalLM"], **MAMBA},
    "falcon_mamba": {"architectures": ["FalconMambaForCausalLM"], **MAMBA},
    "mamba2": {
        "architectures": ["Mamba2ForCausalLM"],
        "num_heads": 8,
        "head_dim": 64,
        "state_size": 64,
        "n_groups": 2,
        "expand": 2,
        "conv_kernel": 4,
    },
    "zamba2": {
        "architectures": ["Zamba2ForCausalLM"],
        "num_hidden_layers": 6,
        "layers_block_type": ["mamba", "hybrid"] * 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "n_mamba_heads": 8,
        "mamba_d_state": 64,
        "mamba_ngroups": 2,
        "num_mem_blocks": 2,
        "intermediate_size": 512,
        "adapter_rank": 64,
        "use_shared_attention_adapter": True,
        "use_mem_rope": True,
    },
    "lfm2": {
        "architectures": ["Lfm2ForCausalLM"],
        "block_dim": 256,
        "conv_dim": 256,
        "block_ff_dim": 512,
        "block_multiple_of": 64,
        **LFM2,
    },
    "lfm2_moe": {
        "architectures": ["Lfm2MoeForCausalLM"],
        "intermediate_size": 512,
        "moe_intermediate_size": 128,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "num_dense_layers": 1,
        "use_expert_bias": True,
        **LFM2,
    },
    "gemma3n_text": {
        "architectures": ["Gemma3nForCausalLM"],
        "num_hidden_layers": 10,
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "num_kv_shared_layers": 5,
        "altup_num_inputs": 4,
        "laurel_rank": 16,
        "hidden_size_per_layer_input": 32,
        "vocab_size_per_layer_input": 1024,
        "sliding_window": 512,
    },
}
MODELS["whisper"] = {
    "architectures": ["WhisperForConditionalGeneration"],
    "d_model": 256,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 512,
    "decoder_ffn_dim": 512,
    "max_source_positions": 1500,
    "max_target_positions": 448,
    "num_mel_bins": 80,
}
DECODER = {"intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2,
           "head_dim": 64}  # fmt: skip
MODELS |= {
    "glm4_moe": {
        "architectures": ["Glm4MoeForCausalLM"],
        "moe_intermediate_size": 128,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "use_qk_norm": True,
        "attention_bias": True,
        "partial_rotary_factor": 0.5,
        **DECODER,
    },
    "ernie4_5_moe": {
        "architectures": ["Ernie4_5_MoeForCausalLM"],
        "moe_intermediate_size": 128,
        "moe_num_experts": 8,
        "moe_k": 2,
        "moe_num_shared_experts": 1,
        "moe_layer_start_index": 1,
        "moe_layer_interval": 1,
        "moe_layer_end_index": 3,
        **DECODER,
    },
    "olmoe": {"architectures": ["OlmoeForCausalLM"], "num_experts": 8, **DECODER},
    "granitemoe": {"architectures": ["GraniteMoeForCausalLM"], "num_local_experts": 8, **DECODER},
    "exaone4": {
        "architectures": ["Exaone4ForCausalLM"],
        "sliding_window": 512,
        "sliding_window_pattern": "LLLG",
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        **DECODER,
    },
    "granitemoehybrid": {
        "architectures": ["GraniteMoeHybridForCausalLM"],
        "layer_types": ["mamba", "attention", "mamba", "mamba"],
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 128,
        "mamba_n_heads": 8,
        "mamba_d_head": 64,
        "mamba_d_state": 64,
        "mamba_n_groups": 1,
        "mamba_expand": 2,
        "mamba_d_conv": 4,
        "position_embedding_type": "rope",
        **DECODER,
    },
    "stablelm": {"architectures": ["StableLmForCausalLM"], **DECODER},
}
# Model type, ranks, weights and requests of `LENGTHS`, in bytes.
ANSWERS = [
    ("mamba", 1, 4094464, (77824, 77824, 77824, 77824)),
    ("mamba", 2, 2048512, (38912, 38912, 38912, 38912)),
    ("falcon_mamba", 1, 4094464, (77824, 77824, 77824, 77824)),
    ("mamba2", 1, 4803072, (280576, 280576, 280576, 280576)),
    ("mamba2", 2, 2406912, (140288, 140288, 140288, 140288)),
    ("zamba2", 1, 15569408, (2064384, 2064384, 7962624, 27131904)),
    ("zamba2", 2, 9042432, (1032192, 1032192, 3981312, 13565952)),
    ("lfm2", 1, 5780992, (49152, 65536, 1064960, 4227072)),
    ("lfm2", 2, 3420672, (24576, 32768, 532480, 2113536)),
    ("lfm2_moe", 1, 8940544, (49152, 65536, 1064960, 4227072)),
    ("lfm2_moe", 2, 5007360, (24576, 32768, 532480, 2113536)),
    ("gemma3n_text", 1, 15972864, (73728, 114688, 2613248, 10518528)),
    ("gemma3n_text", 2, 9255424, (36864, 57344, 1306624, 5259264)),
    ("glm4_moe", 1, 9287680, (32768, 65536, 2064384, 8388608)),
    ("ernie4_5_moe", 1, 9279488, (32768, 65536, 2064384, 8388608)),
    ("olmoe", 1, 28869120, (32768, 65536, 2064384, 8388608)),
    ("granitemoe", 1, 28865024, (32768, 65536, 2064384, 8388608)),
    ("exaone4", 1, 6832640, (57344, 90112, 2088960, 8413184)),
    ("granitemoehybrid", 1, 31076864, (737280, 737280, 1179648, 2801664)),
    ("granitemoehybrid", 2, 16178688, (368640, 368640, 589824, 1400832)),
    ("stablelm", 1, 6046720, (32768, 65536, 2064384, 8388608)),
    ("whisper", 1, 7320576, (16809984, 16842752, 18841600, 25165824)),
    ("whisper", 2, 4694016, (8404992, 8421376, 9420800, 12582912)),
]


def configuration(model_type: str, **changes: Any) -> Configuration:
    config = {**SIZES, "model_type": model_type, **MODELS[model_type], **changes}
    return read_configuration({"config.json": json.dumps(config).encode()})


def on(ranks: int) -> ServingSettings:
    return ServingSettings(gpu=gpus()["h100"], vllm_version="0.32.0", tensor_parallel_size=ranks)


@pytest.mark.parametrize(("model_type", "ranks", "weights", "requests"), ANSWERS)
def test_the_engines_own_answers_are_met(
    model_type: str, ranks: int, weights: int, requests: tuple[int, ...]
) -> None:
    found = estimate_weights(configuration(model_type), on(ranks))
    assert abs(found.likely_bytes - weights) <= SMALL_BYTES and not found.notes
    cache = kv_cache(configuration(model_type), on(ranks))
    assert tuple(cache.bytes_for(length) for length in LENGTHS) == requests


@pytest.mark.parametrize("model_type", MODELS)
def test_sizes_that_make_no_sense_are_refused_or_survived(model_type: str) -> None:
    strange: list[Any] = [None, -1, 0, "x", 1.5, [], {}, True, 1 << 60]
    for name in MODELS[model_type]:
        for value in strange:
            with contextlib.suppress(InvalidInput):
                changed = configuration(model_type, **{name: value})
                assert estimate_weights(changed, on(1)).likely_bytes > 0

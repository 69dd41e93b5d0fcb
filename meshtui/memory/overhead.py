"""What a vLLM server takes beside weights and KV cache: activations, NCCL and CUDA, CUDA graphs.

vLLM measures it: it runs the largest step once, and once the sampler with the most sequences,
before it sizes the pool. The constants of `config/memory/vllm_overhead.toml` are fitted to logs
(`scripts/fit_memory_overheads.py`) and hold with the interval given there; they are never exact.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from meshtui.compat.configuration import Configuration
from meshtui.compat.section import MOST_LAYERS
from meshtui.domain.memory import GIB, MemoryItem, Overheads
from meshtui.memory.kv_tables import pools
from meshtui.memory.settings import ServingSettings, dtype_bytes
from meshtui.settings.shipped import first_applying, toml_data

_TABLE = "memory/vllm_overhead.toml"
_MOST = 1 << 46


class Shapes(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes that activations follow. `tokens` and `sequences` are those of the largest step;
    `expert_width` is the width of one expert, `experts` how many a token passes (0: none)."""

    tokens: int
    sequences: int
    vocabulary: int
    hidden: int
    width: int
    experts: int
    expert_width: int
    layers: int
    vision: bool
    element_bytes: int
    tensor_parallel: int
    pipeline_parallel: int


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes whose multiples make up the peak, in bytes."""

    logits: float
    hidden: float
    mlp: float
    experts: float


def shapes(configuration: Configuration, settings: ServingSettings, max_tokens: int) -> Shapes:
    """Reads the sizes; what the configuration lacks counts as nothing."""
    text = configuration.text
    experts = text.positive(
        "num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts"
    )
    passed = text.positive("num_experts_per_tok", "num_experts_per_token", "top_k_experts",
                           "moe_topk", "moe_top_k")  # fmt: skip
    width = text.positive("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim") or 0
    hidden = text.positive("hidden_size", "n_embd", "d_model") or 0
    quantization = configuration.quantization
    # The kernel for MXFP4 experts needs no such workspace.
    has_workspace = quantization is None or quantization.method != "mxfp4"
    pooling = settings.pooling
    if pooling is None:
        pooling = pools(configuration.architectures)
    return Shapes(
        tokens=settings.batched_tokens(max_tokens),
        sequences=0 if pooling else settings.sequences(max_tokens),
        vocabulary=text.positive("vocab_size") or 0,
        hidden=hidden,
        width=width or 4 * hidden,
        experts=passed if experts and passed and has_workspace else 0,
        expert_width=text.positive("moe_intermediate_size") or width,
        layers=min(text.get_int("num_hidden_layers") or 0, MOST_LAYERS),
        vision=configuration.section("vision_config") is not None
        and not settings.language_model_only,
        element_bytes=dtype_bytes(settings.weights_dtype(configuration, pooling=pooling)),
        tensor_parallel=settings.tensor_parallel_size,
        pipeline_parallel=settings.pipeline_parallel_size,
    )


def terms(sizes: Shapes) -> Terms:
    """The sizes of the parts: float32 logits of all sequences, one step's hidden states, its
    widest MLP on one rank, and the workspace of its experts."""
    sequences = -(-sizes.sequences // sizes.pipeline_parallel)
    row = sizes.tokens * sizes.element_bytes
    return Terms(
        logits=float(sequences * sizes.vocabulary * 4),
        hidden=float(row * sizes.hidden),
        mlp=float(row * (0 if sizes.experts else sizes.width)) / sizes.tensor_parallel,
        experts=float(row * sizes.experts)
        * (2 * sizes.expert_width / sizes.tensor_parallel + sizes.hidden),
    )


def activation_bytes(parts: Terms, sizes: Shapes, constants: Mapping[str, Any]) -> float:
    """The peak: that of the sampler or that of a step, whichever is larger, and what stays beside
    them."""
    sampler = (
        constants["sampler_logits"] * parts.logits + constants["sampler_hidden"] * parts.hidden
    )
    forward = constants["forward_mlp"] * parts.mlp + constants["forward_hidden"] * parts.hidden
    beside = constants["experts"] * parts.experts
    beside += (constants["vision_gib"] if sizes.vision else 0.0) * GIB
    beside += (constants["pipeline_gib"] if sizes.pipeline_parallel > 1 else 0.0) * GIB
    return float(max(sampler + constants["base_gib"] * GIB, forward) + beside)


def overheads(
    configuration: Configuration, settings: ServingSettings, max_tokens: int
) -> Overheads:
    """The overheads of one rank of a server that allows `max_tokens`."""
    constants = first_applying(toml_data(_TABLE)["range"], settings.vllm_version)
    sizes = shapes(configuration, settings, max_tokens)
    known = not constants["unmeasured"] and settings.capability // 10 == 9
    spread = constants["spread_gib"] if known else constants["spread_elsewhere_gib"]
    peak = min(activation_bytes(terms(sizes), sizes, constants), float(_MOST))
    graphs = 0.0
    if not settings.enforce_eager:
        layers = sizes.layers / sizes.pipeline_parallel
        graphs = constants["graphs_gib"] + constants["graphs_layer_gib"] * layers
    outside = non_torch_gib(constants, settings)
    return Overheads(
        activations=_item(
            "activations",
            peak,
            spread,
            f"largest of {constants['sampler_logits']} x logits + "
            f"{constants['sampler_hidden']} x hidden states and "
            f"{constants['forward_mlp']} x MLP + {constants['forward_hidden']} x hidden states, "
            f"at {sizes.tokens:,} tokens and {sizes.sequences:,} sequences",
        ),
        non_torch=_item(
            "non_torch",
            outside * GIB,
            constants["non_torch_spread_gib"] * (1 if known else 2),
            "CUDA and NCCL, as logged",
        ),
        graphs=_item(
            "cuda_graphs",
            graphs * GIB,
            constants["graphs_spread_gib"] if graphs else 0.0,
            f"{constants['graphs_gib']} GiB + {constants['graphs_layer_gib']} GiB a layer",
        ),
        graphs_reserved=bool(constants["graphs_reserved"]),
        known=known,
    )


def non_torch_gib(constants: Mapping[str, Any], settings: ServingSettings) -> float:
    """What CUDA and NCCL take, by the ranks that share a layer: the largest known number of them
    that is not larger."""
    sizes = {int(ranks): float(gib) for ranks, gib in constants["non_torch_gib"].items()}
    if settings.tensor_parallel_size == 1 and settings.pipeline_parallel_size > 1:
        return float(constants["non_torch_pipeline_gib"])
    fitting = [ranks for ranks in sizes if ranks <= settings.tensor_parallel_size]
    return sizes[max(fitting)]


def _item(name: str, likely: float, spread_gib: float, formula: str) -> MemoryItem:
    spread = spread_gib * GIB
    return MemoryItem(
        name=name,
        low_bytes=max(0, int(likely - spread)),
        likely_bytes=int(likely),
        high_bytes=int(likely + spread),
        formula=formula,
    )

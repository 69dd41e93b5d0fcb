"""Decoders of states: Mamba, Mamba 2, Zamba 2, Granite 4, and LFM2 with its short convolutions.

Sources: mamba.py, mamba2.py, mamba_mixer.py, mamba_mixer2.py, zamba2.py, granitemoehybrid.py,
lfm2.py, lfm2_moe.py and short_conv.py of vLLM 0.32.
"""

import math

import msgspec

from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_decoder import composed, feed_forward, plain_attention
from meshtui.memory.weights_ffn import expert_count, expert_width, shared_width
from meshtui.memory.weights_modules import Blueprint, Linear, Module, Plain
from meshtui.memory.weights_rope import rope_tables
from meshtui.memory.weights_traits import Traits

_STATE = "state"


def mamba(context: WeightsContext, traits: Traits) -> Blueprint:
    """Mamba: nothing but mixers, which no quantization touches."""
    text, hidden = context.text, context.hidden
    inner = context.share(_inner(context, "expand"))
    state, kernel = text.positive("state_size") or 16, text.positive("conv_kernel") or 4
    steps = text.positive("time_step_rank") or math.ceil(hidden / 16)
    bias = text.get_bool("use_bias")
    conv = kernel + text.get_bool("use_conv_bias", True)
    mixer: list[Module] = [
        Linear(_STATE, "mixer.in_proj", hidden, (inner, inner), bias, quantized=False),
        Linear(_STATE, "mixer.x_proj", inner, (steps + 2 * state,), quantized=False),
        Linear(_STATE, "mixer.dt_proj", steps, (inner,), bias=True, quantized=False),
        Linear(_STATE, "mixer.out_proj", inner, (hidden,), bias, quantized=False),
        Plain(_STATE, "mixer.A", inner * state, 4),
        Plain(_STATE, "mixer.D", inner),
        Plain(_STATE, "mixer.conv1d", inner * conv),
    ]
    return composed(
        context,
        msgspec.structs.replace(traits, norms=1),
        mixer=lambda _: mixer,
        ffn=lambda _: [],
        buffers=[],
    )


def mamba2(context: WeightsContext, traits: Traits) -> Blueprint:
    """Mamba 2: nothing but mixers with heads."""
    text = context.text
    found = _heads_of_state(
        context,
        inner=_inner(context, "expand"),
        heads=text.positive("num_heads") or 128,
        groups=text.positive("n_groups") or 1,
        state=text.positive("state_size") or 128,
        kernel=text.positive("conv_kernel") or 4,
        bias=text.get_bool("use_bias"),
    )
    return composed(
        context,
        msgspec.structs.replace(traits, norms=1),
        mixer=lambda _: found[0],
        ffn=lambda _: [],
        buffers=[("buffers", found[1] * context.element_bytes * text.num_layers)],
    )


def zamba2(context: WeightsContext, traits: Traits) -> Blueprint:
    """Zamba 2: Mamba 2 in all layers, and a few transformer blocks that hybrid layers share, each
    with an adapter of its own."""
    text, hidden = context.text, context.hidden
    types = text.layer_types[: text.num_layers]
    bias = text.get_bool("add_bias_linear")
    modules, view = _heads_of_state(
        context,
        inner=(text.positive("mamba_expand") or 2) * hidden,
        heads=text.positive("n_mamba_heads") or 8,
        groups=text.positive("mamba_ngroups") or 1,
        state=text.positive("mamba_d_state") or 64,
        kernel=text.positive("mamba_d_conv") or 4,
        bias=bias,
    )
    width, rank = text.positive("intermediate_size") or 4 * hidden, text.positive("adapter_rank")
    wide = 2 * hidden
    dim = wide // max(1, context.heads)

    def adapter(name: str, inputs: int, *outputs: int) -> list[Module]:
        low = rank or 128
        return [
            Linear("mlp", f"{name}.A", inputs, (context.share(low),)),
            Linear("mlp", f"{name}.B", low, tuple(context.share(size) for size in outputs)),
        ]

    def block() -> list[Module]:
        return [
            *context.attention(
                "self_attn",
                heads=context.heads,
                kv_heads=context.heads,
                head_dim=dim,
                hidden=wide,
            )[:1],
            Linear("attention", "self_attn.o_proj", context.share(wide), (hidden,)),
            *context.mlp("feed_forward", width, bias=bias),
            Plain("norms", "norms", 3 * hidden),
        ]

    def mixer(layer: int) -> list[Module]:
        if layer >= len(types) or types[layer] != "hybrid":
            return modules
        own = adapter("gate_up_proj_adapter", hidden, width, width)
        if text.get_bool("use_shared_attention_adapter"):
            for name in ("q", "k", "v"):
                own += adapter(f"linear_{name}_adapter", wide, wide)
        return [*modules, Linear("mlp", "linear", hidden, (hidden,)), *own]

    buffers = [("buffers", view * context.element_bytes * text.num_layers)]
    if text.get_bool("use_mem_rope"):
        buffers += rope_tables(context, dim)
    found = composed(
        context,
        msgspec.structs.replace(traits, norms=1),
        mixer=mixer,
        ffn=lambda _: [],
        buffers=buffers,
    )
    shared = [
        module for _ in range(min(text.positive("num_mem_blocks") or 1, 64)) for module in block()
    ]
    return msgspec.structs.replace(found, every=[*found.every, *shared])


def granite_hybrid(context: WeightsContext, traits: Traits) -> Blueprint:
    """Granite 4: Mamba 2, attention in some layers; experts or a plain part behind each."""
    text = context.text
    types = text.layer_types[: text.num_layers]
    modules, view = _heads_of_state(
        context,
        inner=(text.positive("mamba_expand") or 2) * context.hidden,
        heads=text.positive("mamba_n_heads") or 128,
        groups=text.positive("mamba_n_groups") or 1,
        state=text.positive("mamba_d_state") or 256,
        kernel=text.positive("mamba_d_conv") or 4,
        bias=text.get_bool("mamba_proj_bias"),
    )

    def mixer(layer: int) -> list[Module]:
        attends = layer < len(types) and types[layer] == "full_attention"
        return plain_attention(context, traits, layer) if attends else modules

    def ffn(layer: int) -> list[Module]:
        if expert_count(text):
            return feed_forward(context, traits, layer)
        return context.mlp("shared_mlp", shared_width(text) or 4 * context.hidden)

    states = sum(kind != "full_attention" for kind in types)
    buffers = [("buffers", view * context.element_bytes * states)]
    if text.get_str("position_embedding_type") == "rope":
        buffers += rope_tables(context)
    return composed(context, traits, mixer=mixer, ffn=ffn, buffers=buffers)


def lfm2(context: WeightsContext, traits: Traits) -> Blueprint:
    """LFM2: short convolutions, attention in some layers; experts in the layers behind the first
    ones, where there are any."""
    text, hidden = context.text, context.hidden
    types = text.strings("layer_types") or text.layer_types
    listed = None if isinstance(text.raw.get("layer_types"), list) else text.ints("full_attn_idxs")
    taps = text.positive("conv_L_cache") or 3
    bias = text.get_bool("conv_bias")
    own, dim = context.share(hidden), hidden // max(1, context.heads)
    experts = expert_count(text)
    dense = text.get_int("num_dense_layers") or 0

    def mixer(layer: int) -> list[Module]:
        full = layer in listed if listed else types[layer : layer + 1] == ("full_attention",)
        if full:
            return [
                *context.attention(
                    "self_attn",
                    heads=context.heads,
                    kv_heads=context.kv_heads,
                    head_dim=dim,
                    out_name="out_proj",
                ),
                Plain("norms", "qk_norm", 2 * dim),
            ]
        return [
            Linear(_STATE, "short_conv.in_proj", hidden, (own, own, own), bias),
            Linear(_STATE, "short_conv.out_proj", own, (hidden,), bias),
            Plain(_STATE, "short_conv.conv1d", own * (taps + bias)),
        ]

    def ffn(layer: int) -> list[Module]:
        if not experts:
            return context.mlp("feed_forward", _adjusted(context), names=("w13", "w2"))
        if layer < dense:
            width = text.positive("intermediate_size") or 4 * hidden
            return context.mlp("feed_forward", width, names=("w13", "w2"))
        modules: list[Module] = [
            Plain("router", "feed_forward.gate", experts * hidden),
            context.experts("feed_forward.experts", experts, expert_width(text, hidden)),
        ]
        if text.get_bool("use_expert_bias"):
            modules.append(Plain("router", "gate.e_score_correction_bias", experts, 4))
        return modules

    return composed(context, traits, mixer=mixer, ffn=ffn, buffers=rope_tables(context, dim))


def _adjusted(context: WeightsContext) -> int:
    """The inner size of LFM2's feed-forward part: two thirds of the named one, rounded up."""
    text = context.text
    width = text.positive("block_ff_dim", "intermediate_size") or 4 * context.hidden
    if not text.get_bool("block_auto_adjust_ff_dim", True):
        return width
    width = int((text.get_float("block_ffn_dim_multiplier") or 1.0) * int(2 * width / 3))
    step = text.positive("block_multiple_of") or 256
    return math.ceil(width / step) * step


def _inner(context: WeightsContext, factor: str) -> int:
    """The width of mixers: as it is named, or so many times the hidden size."""
    text = context.text
    named = text.raw.get("intermediate_size")
    if isinstance(named, int) and (size := text.positive("intermediate_size")):
        return size
    return (text.positive(factor) or 2) * context.hidden


def _heads_of_state(
    context: WeightsContext,
    *,
    inner: int,
    heads: int,
    groups: int,
    state: int,
    kernel: int,
    bias: bool,
) -> tuple[list[Module], int]:
    """A mixer of Mamba 2 on one rank (a single group is repeated on each), and the elements of the
    view of its convolution that counts as a buffer."""
    hidden = context.hidden
    own_groups = groups // context.tp if groups % context.tp == 0 else 1
    own, own_heads = context.share(inner), context.share(heads)
    mixed = own + 2 * own_groups * state
    conv = kernel + context.text.get_bool("use_conv_bias", True)
    modules: list[Module] = [
        Linear(_STATE, "mixer.in_proj", hidden, (own + mixed + own_heads,), bias),
        Linear(_STATE, "mixer.out_proj", own, (hidden,), bias),
        Plain(_STATE, "mixer.conv1d", mixed * conv),
        Plain(_STATE, "mixer.A", own_heads, 4),
        Plain(_STATE, "mixer.D", 2 * own_heads),
        Plain("norms", "mixer.norm", own),
    ]
    return modules, mixed * kernel

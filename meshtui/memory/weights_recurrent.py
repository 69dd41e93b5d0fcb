"""Layers that keep a state instead of keys and values, and the decoders that mix both.

Sources: qwen3_next.py, mamba_mixer.py, mamba_mixer2.py, jamba.py, nemotron_h.py of vLLM 0.32.
"""

from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_decoder import composed, feed_forward, plain_attention
from meshtui.memory.weights_ffn import expert_count, expert_width, shared_width
from meshtui.memory.weights_modules import Blueprint, Linear, Module, Plain
from meshtui.memory.weights_rope import rope_tables
from meshtui.memory.weights_traits import Traits

_STATE = "state"
_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


def gated_delta(context: WeightsContext, traits: Traits) -> Blueprint:
    """Qwen3-Next and Qwen3.5: gated delta rule, and gated attention in some layers."""
    text = context.text
    types = text.layer_types

    def mixer(layer: int) -> list[Module]:
        if layer < len(types) and types[layer] == "full_attention":
            dim = context.head_dim
            return [
                *context.attention(
                    "self_attn",
                    heads=context.heads,
                    kv_heads=context.kv_heads,
                    head_dim=dim,
                    qkv_bias=text.get_bool("attention_bias"),
                    gate=text.get_bool("attn_output_gate", True),
                ),
                Plain("norms", "qk_norm", 2 * dim),
            ]
        return delta_mixer(context)

    return composed(
        context,
        traits,
        mixer=mixer,
        ffn=lambda i: feed_forward(context, traits, i),
        buffers=rope_tables(context),
    )


def delta_mixer(context: WeightsContext) -> list[Module]:
    """Queries and keys, values and a gate, a convolution over the first three."""
    text, hidden, share = context.text, context.hidden, context.share
    key_heads = text.positive("linear_num_key_heads") or 16
    value_heads = text.positive("linear_num_value_heads") or 32
    key = share(key_heads * (text.positive("linear_key_head_dim") or 128))
    value_dim = text.positive("linear_value_head_dim") or 128
    value = share(value_heads * value_dim)
    heads = share(value_heads)
    kernel = text.positive("linear_conv_kernel_dim") or 4
    return [
        Linear(_STATE, "linear_attn.in_proj_qkvz", hidden, (key, key, value, value),
               parts=("in_proj_qkv", "in_proj_z")),
        Linear(_STATE, "linear_attn.in_proj_ba", hidden, (heads, heads),
               parts=("in_proj_b", "in_proj_a")),
        Linear(_STATE, "linear_attn.out_proj", value, (hidden,)),
        Plain(_STATE, "linear_attn.conv1d", (2 * key + value) * kernel),
        Plain(_STATE, "linear_attn.dt_bias", heads),
        Plain(_STATE, "linear_attn.A_log", heads, 4),
        Plain("norms", "linear_attn.norm", value_dim),
    ]  # fmt: skip


def jamba(context: WeightsContext, traits: Traits) -> Blueprint:
    """Jamba: Mamba layers, some attention without positions, experts in some."""
    text, hidden = context.text, context.hidden
    period = text.positive("attn_layer_period") or 8
    offset = text.get_int("attn_layer_offset") or 0
    inner = context.share((text.positive("mamba_expand") or 2) * hidden)
    state, kernel = text.positive("mamba_d_state") or 16, text.positive("mamba_d_conv") or 4
    steps = text.positive("mamba_dt_rank") or -(-hidden // 16)

    def mixer(layer: int) -> list[Module]:
        if layer % period == offset % period:
            return plain_attention(context, traits, layer)
        return [
            Linear(_STATE, "mamba.in_proj", hidden, (inner, inner)),
            Linear(_STATE, "mamba.x_proj", inner, (steps + 2 * state,)),
            Linear(_STATE, "mamba.dt_proj", steps, (inner,), bias=True),
            Linear(_STATE, "mamba.out_proj", inner, (hidden,)),
            Plain(_STATE, "mamba.A", inner * state, 4),
            Plain(_STATE, "mamba.conv1d", inner * (kernel + 2)),
            Plain("norms", "mamba.norms", steps + 2 * state),
        ]

    return composed(
        context,
        traits,
        mixer=mixer,
        ffn=lambda i: feed_forward(context, traits, i),
        buffers=[],
    )


def nemotron_h(context: WeightsContext, traits: Traits) -> Blueprint:
    """Nemotron-H: one part a layer, as the pattern says."""
    text, hidden = context.text, context.hidden
    kinds = layer_kinds(context)
    heads = text.positive("mamba_num_heads") or 0
    dim, state = text.positive("mamba_head_dim") or 64, text.positive("ssm_state_size") or 128
    groups = text.positive("n_groups") or 8
    # Groups are repeated where there are more ranks than groups.
    own_groups = groups // context.tp if groups % context.tp == 0 else 1
    inner, own = context.share(heads * dim), context.share(heads)
    mixed = inner + 2 * own_groups * state
    kernel = text.positive("conv_kernel") or 4
    bias = text.get_bool("use_bias")

    def parts(layer: int) -> list[Module]:
        kind = kinds[layer]
        if kind == "attention":
            modules = context.attention(
                "mixer",
                heads=context.heads,
                kv_heads=context.kv_heads,
                head_dim=context.head_dim,
                qkv_bias=text.get_bool("attention_bias"),
                out_bias=text.get_bool("attention_bias"),
            )
            return modules
        if kind == "mlp":
            width = text.positive("intermediate_size") or 4 * hidden
            return context.mlp(
                "mixer", width, gated=False, bias=text.get_bool("mlp_bias"), names=("up_proj",
                "down_proj"),
            )  # fmt: skip
        if kind == "moe":
            return latent_experts(context)
        return [
            Linear(_STATE, "mixer.in_proj", hidden, (inner + mixed + own,), bias),
            Linear(_STATE, "mixer.out_proj", inner, (hidden,), bias),
            Plain(_STATE, "mixer.conv1d", mixed * (kernel + 1)),
            Plain(_STATE, "mixer.A", own, 4),
            Plain(_STATE, "mixer.D", 2 * own),
            Plain("norms", "mixer.norm", inner),
        ]

    mamba = sum(kind == "mamba" for kind in kinds)
    return composed(
        context,
        traits,
        mixer=parts,
        ffn=lambda i: [],
        buffers=[("buffers", mixed * kernel * context.element_bytes * mamba)],
        layers=len(kinds),
    )


def latent_experts(context: WeightsContext) -> list[Module]:
    """Plain experts, in the newest models on a narrower hidden state."""
    text, hidden = context.text, context.hidden
    count, narrow = expert_count(text), text.positive("moe_latent_size")
    modules: list[Module] = [
        Plain("router", "mixer.gate", count * hidden),
        Plain("router", "mixer.gate.e_score_correction_bias", count, 4),
        context.experts(
            "mixer.experts", count, expert_width(text, hidden), hidden=narrow, gated=False
        ),
    ]
    shared = (text.positive("n_shared_experts") or 0) and shared_width(text)
    if shared:
        modules += context.mlp(
            "mixer.shared_experts", shared, gated=False, item="experts",
            names=("up_proj", "down_proj"),
        )  # fmt: skip
    if narrow:
        modules += [
            Linear("experts", "mixer.fc1_latent_proj", hidden, (narrow,)),
            Linear("experts", "mixer.fc2_latent_proj", narrow, (hidden,)),
        ]
    return modules


def layer_kinds(context: WeightsContext) -> list[str]:
    """One word a layer, from the pattern or the list."""
    text = context.text
    pattern = text.get_str("hybrid_override_pattern")
    if pattern and len(pattern) <= 2000:
        return [_LETTERS[letter] for letter in pattern if letter in _LETTERS]
    names = text.strings("layers_block_type") or text.layer_types
    known = {"mamba": "mamba", "linear_attention": "mamba", "attention": "attention",
             "full_attention": "attention", "mlp": "mlp", "moe": "moe"}  # fmt: skip
    return [known.get(name, "mamba") for name in names[:2000]] or ["mamba"] * text.num_layers

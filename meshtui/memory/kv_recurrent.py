"""The families of models with recurrent layers: which layers they are and how large a state is.

Sources: `get_mamba_state_shape_from_config` of the model classes of vLLM 0.32, as named.
"""

from meshtui.compat.section import MOST_LAYERS
from meshtui.memory.kv_model import KvContext, KvModel, head_size, kv_heads
from meshtui.memory.kv_state import (
    delta_bytes,
    hybrid,
    mamba1_bytes,
    mamba2_bytes,
    number,
    pure,
    where,
)
from meshtui.memory.settings import dtype_bytes


def mamba1(context: KvContext) -> KvModel:
    """mamba.py"""
    text = context.text
    hidden = number(text, "hidden_size")
    intermediate = number(text, "intermediate_size") or hidden * number(text, "expand", default=2)
    return pure(
        context,
        mamba1_bytes(
            context,
            intermediate,
            number(text, "state_size", default=16),
            number(text, "conv_kernel", default=4),
        ),
    )


def mamba2(context: KvContext) -> KvModel:
    """mamba2.py"""
    text = context.text
    return pure(
        context,
        mamba2_bytes(
            context,
            intermediate=number(text, "expand", default=2) * number(text, "hidden_size"),
            groups=number(text, "n_groups", default=8),
            heads=number(text, "num_heads"),
            head_dim=number(text, "head_dim"),
            state=number(text, "state_size", default=128),
            kernel=number(text, "conv_kernel", default=4),
        ),
    )


def jamba(context: KvContext) -> KvModel:
    """jamba.py: one layer in a period attends."""
    text = context.text
    period = number(text, "attn_layer_period", default=8)
    offset = text.get_int("attn_layer_offset")
    offset = 4 if offset is None else offset
    attends = [i for i in range(text.num_layers) if i % period == offset % period]
    return hybrid(
        context,
        states=_others(attends, text.num_layers),
        attends=attends,
        state_bytes=mamba1_bytes(
            context,
            number(text, "mamba_expand", default=2) * number(text, "hidden_size"),
            number(text, "mamba_d_state", default=16),
            number(text, "mamba_d_conv", default=4),
        ),
    )


def falcon_h1(context: KvContext) -> KvModel:
    """falcon_h1.py: every layer attends and has a state."""
    text = context.text
    every = range(text.num_layers)
    return hybrid(
        context,
        states=every,
        attends=every,
        checkpoint=True,
        state_bytes=mamba2_bytes(
            context,
            intermediate=number(text, "mamba_d_ssm")
            or number(text, "mamba_expand", default=2) * number(text, "hidden_size"),
            groups=number(text, "mamba_n_groups", default=1),
            heads=number(text, "mamba_n_heads", default=128),
            head_dim=_mamba_head(context, "mamba_d_head", "mamba_n_heads"),
            state=number(text, "mamba_d_state", default=256),
            kernel=number(text, "mamba_d_conv", default=4),
        ),
    )


def granite_hybrid(context: KvContext) -> KvModel:
    """granitemoehybrid.py, and Bamba of older releases: layers by `layer_types` or by the
    indices of those that attend."""
    text = context.text
    indices = text.ints("attn_layer_indices")
    types = text.layer_types or text.per_layer("layers_block_type")
    attends = (
        [i for i in indices if 0 <= i < text.num_layers]
        if indices
        else where(types[: text.num_layers], "full_attention")
    )
    states = _others(attends, text.num_layers)
    if not states:
        layer = context.attention(heads=kv_heads(text), head_dim=head_size(text))
        return KvModel(tuple((i, layer) for i in attends))
    return hybrid(
        context,
        states=states,
        attends=attends,
        checkpoint=True,
        state_bytes=mamba2_bytes(
            context,
            intermediate=number(text, "mamba_expand", default=2) * number(text, "hidden_size"),
            groups=number(text, "mamba_n_groups", default=1),
            heads=number(text, "mamba_n_heads", default=128),
            head_dim=_mamba_head(context, "mamba_d_head", "mamba_n_heads"),
            state=number(text, "mamba_d_state", default=256),
            kernel=number(text, "mamba_d_conv", default=4),
        ),
    )


def nemotron_h(context: KvContext) -> KvModel:
    """nemotron_h.py: a letter or a word a layer; MLP and expert layers keep nothing."""
    text = context.text
    pattern = text.get_str("hybrid_override_pattern")
    if pattern:
        letters = {"M": "linear_attention", "*": "full_attention"}
        types = tuple(letters.get(letter, "mlp") for letter in pattern[:MOST_LAYERS])
    else:
        types = text.layer_types
    heads = number(text, "mamba_num_heads", default=128)
    dim = number(text, "mamba_head_dim", default=64)
    return hybrid(
        context,
        states=where(types, "linear_attention"),
        attends=where(types, "full_attention"),
        checkpoint=True,
        window=text.sliding_window,
        state_bytes=mamba2_bytes(
            context,
            intermediate=heads * dim,
            groups=number(text, "n_groups", default=8),
            heads=heads,
            head_dim=dim,
            state=number(text, "ssm_state_size", default=128),
            kernel=number(text, "conv_kernel", default=4),
            # Only float32 is known to be accurate, unless the checkpoint says otherwise.
            state_dtype=text.get_str("mamba_ssm_cache_dtype") or "float32",
        ),
    )


def zamba2(context: KvContext) -> KvModel:
    """zamba2.py: all layers have a state, hybrid ones also attend, with wider heads."""
    text = context.text
    types = text.per_layer("layers_block_type") or text.layer_types
    hidden = number(text, "hidden_size")
    expanded = number(text, "mamba_expand", default=2) * hidden
    heads = number(text, "n_mamba_heads", default=8)
    return hybrid(
        context,
        states=range(min(len(types), text.num_layers) or text.num_layers),
        attends=where(types, "hybrid"),
        checkpoint=True,
        heads=text.num_heads,
        # The class derives the sizes of both kinds of heads, whatever is written.
        head_dim=2 * hidden // max(1, text.num_heads),
        state_bytes=mamba2_bytes(
            context,
            intermediate=expanded,
            groups=number(text, "mamba_ngroups", default=1),
            heads=heads,
            head_dim=expanded // max(1, heads),
            state=number(text, "mamba_d_state", default=64),
            kernel=number(text, "mamba_d_conv", default=4),
        ),
    )


def short_conv(context: KvContext) -> KvModel:
    """lfm2.py, lfm2_moe.py: a short convolution keeps its last inputs."""
    text = context.text
    attends = where(text.layer_types[: text.num_layers], "full_attention") or [
        i for i in text.ints("full_attn_idxs") if 0 <= i < text.num_layers
    ]
    width = context.split(number(text, "conv_dim", "hidden_size"), "convolution")
    kept = max(0, number(text, "conv_L_cache", default=3) - 1)
    return hybrid(
        context,
        states=_others(attends, text.num_layers),
        attends=attends,
        state_bytes=width * kept * dtype_bytes(context.model_dtype),
    )


def gated_delta(context: KvContext) -> KvModel:
    """qwen3_next.py, qwen3_5.py, olmo_hybrid.py: gated delta nets between attention layers."""
    text = context.text
    types = text.layer_types[: text.num_layers]
    hidden = number(text, "hidden_size")
    key_heads = number(text, "linear_num_key_heads") or text.num_heads
    # OLMo's class derives the sizes of heads that are left out.
    key_dim = number(text, "linear_key_head_dim") or int(0.75 * hidden / max(1, key_heads))
    return hybrid(
        context,
        states=where(types, "linear_attention"),
        attends=where(types, "full_attention"),
        state_bytes=delta_bytes(
            context,
            key_heads=key_heads,
            value_heads=number(text, "linear_num_value_heads") or key_heads,
            key_dim=key_dim,
            value_dim=number(text, "linear_value_head_dim") or 2 * key_dim,
            kernel=number(text, "linear_conv_kernel_dim", default=4),
            state_dtype=text.get_str("mamba_ssm_dtype") or "auto",
        ),
    )


def lightning(context: KvContext) -> KvModel:
    """MiniMax-Text-01 and M1, until vLLM 0.23: linear attention keeps a matrix a head."""
    text = context.text
    written = text.ints("attn_type_list")
    types = text.layer_types
    attends = (
        [i for i in range(min(len(written), text.num_layers)) if written[i] == 1]
        if written
        else where(types[: text.num_layers], "full_attention")
    )
    dim = head_size(text)
    return hybrid(
        context,
        states=_others(attends, text.num_layers),
        attends=attends,
        state_bytes=context.split(text.num_heads, "attention heads")
        * dim
        * dim
        * dtype_bytes(context.model_dtype),
    )


def bailing_linear(context: KvContext) -> KvModel:
    """bailing_moe_linear.py: the last layer of each group attends."""
    text = context.text
    size = number(text, "layer_group_size", default=1)
    attends = [i for i in range(text.num_layers) if (i + 1) % size == 0]
    dim = head_size(text)
    return hybrid(
        context,
        states=_others(attends, text.num_layers),
        attends=attends,
        state_bytes=context.split(text.num_heads, "attention heads")
        * dim
        * dim
        * dtype_bytes(context.model_dtype),
    )


def bailing_delta(context: KvContext) -> KvModel:
    """bailing_moe_v3.py: the last layer of each group attends, and those after the last group."""
    text = context.text
    size, count = number(text, "layer_group_size", default=1), text.num_layers
    attends = [i for i in range(count) if (i + 1) % size == 0 or i >= count // size * size]
    dim = head_size(text)
    return hybrid(
        context,
        states=_others(attends, count),
        attends=attends,
        state_bytes=delta_bytes(
            context,
            key_heads=text.num_heads,
            value_heads=text.num_heads,
            key_dim=dim,
            value_dim=dim,
            kernel=number(text, "short_conv_kernel_size", default=4),
            state_dtype="float32",
        ),
    )


def kimi_linear(context: KvContext) -> KvModel:
    """vllm/models/kimi_k3: layers are listed, counted from one."""
    text = context.text
    linear = text.plain("linear_attn_config")
    listed = {i - 1 for i in linear.ints("kda_layers") if 0 < i <= text.num_layers}
    heads = linear.positive("num_heads") or text.num_heads
    dim = linear.positive("head_dim") or head_size(text)
    return hybrid(
        context,
        states=sorted(listed),
        attends=[i for i in range(text.num_layers) if i not in listed],
        state_bytes=delta_bytes(
            context,
            key_heads=heads,
            value_heads=heads,
            key_dim=dim,
            value_dim=dim,
            kernel=linear.positive("short_conv_kernel_size") or 4,
            state_dtype="float32",
        ),
    )


def _others(layers: list[int], count: int) -> list[int]:
    named = set(layers)
    return [i for i in range(count) if i not in named]


def _mamba_head(context: KvContext, name: str, heads: str) -> int:
    """The size of a recurrent head; `auto` or nothing: the expanded size over the heads."""
    text = context.text
    named = text.positive(name)
    if named is not None:
        return named
    expanded = number(text, "mamba_expand", default=2) * number(text, "hidden_size")
    return expanded // number(text, heads, default=128)

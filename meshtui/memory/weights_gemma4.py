"""Gemma 4: heads of two sizes, an MLP beside the experts, inputs of each layer's own.

Source: gemma4.py of vLLM 0.32.
"""

from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_decoder import composed
from meshtui.memory.weights_ffn import dense_width, expert_count, expert_width
from meshtui.memory.weights_modules import Blueprint, Linear, Module, Plain
from meshtui.memory.weights_rope import rope_rows, rope_settings
from meshtui.memory.weights_traits import Traits


def gemma4(context: WeightsContext, traits: Traits) -> Blueprint:
    """Full layers have heads of their own size and number; the last layers read earlier caches
    and have no keys and values."""
    text, hidden = context.text, context.hidden
    types = text.layer_types
    shared_from = text.num_layers - max(0, text.get_int("num_kv_shared_layers") or 0)
    few = context.kv_heads
    if text.get_bool("attention_k_eq_v"):
        few = text.positive("num_global_key_value_heads") or few
    wide = text.positive("global_head_dim") or context.head_dim
    experts = expert_count(text) if text.get_bool("enable_moe_block") else 0
    own_inputs = text.positive("hidden_size_per_layer_input") or 0

    def mixer(layer: int) -> list[Module]:
        full = layer < len(types) and types[layer] == "full_attention"
        dim, heads = (wide, few) if full else (context.head_dim, context.kv_heads)
        modules = context.attention("self_attn", heads=context.heads, kv_heads=heads, head_dim=dim)
        if layer >= shared_from > 0:
            queries = Linear("attention", "self_attn.q_proj", hidden,
                             (context.heads // context.tp * dim,))  # fmt: skip
            modules = [queries, *modules[1:]]
        return [*modules, Plain("norms", "qk_norm", 2 * dim)]

    def ffn(layer: int) -> list[Module]:
        width = dense_width(text, hidden)
        if layer >= shared_from > 0 and text.get_bool("use_double_wide_mlp"):
            width *= 2
        modules = context.mlp("mlp", width)
        if experts:
            modules += [
                Plain("router", "router.proj", experts * hidden + hidden + experts),
                context.experts("experts", experts, expert_width(text, hidden)),
                Plain("norms", "norms", 3 * hidden),
            ]
        if own_inputs:
            modules += [
                Linear("mlp", "per_layer_input_gate", hidden, (own_inputs,)),
                Linear("mlp", "per_layer_projection", own_inputs, (hidden,)),
                Plain("norms", "per_layer_norm", hidden),
            ]
        return modules

    rows = text.positive("max_position_embeddings") or 131072
    kinds = rope_settings(text)
    buffers = [
        ("buffers", rope_rows(rows, rope) * dim * context.element_bytes)
        for kind, rope in kinds.items()
        for dim in ([wide] if kind == "full_attention" else [context.head_dim])
    ]
    found = composed(context, traits, mixer=mixer, ffn=ffn, buffers=buffers)
    if not own_inputs:
        return found
    all_inputs = own_inputs * text.num_layers
    rows = text.positive("vocab_size_per_layer_input", "vocab_size") or 0
    return Blueprint(
        first=[*found.first, context.vocabulary("embedding", "per_layer", rows, all_inputs)],
        layers=found.layers,
        last=found.last,
        every=[
            *found.every,
            Linear("embedding", "per_layer_model_projection", hidden, (context.share(all_inputs),)),
        ],
        tied_copy=found.tied_copy,
        buffers=found.buffers,
        notes=found.notes,
    )

"""Gemma 3n: several streams of hidden states, low-rank detours, inputs of each layer's own.

Source: gemma3n.py of vLLM 0.32.
"""

import msgspec

from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_decoder import composed
from meshtui.memory.weights_modules import Blueprint, Linear, Module, Plain
from meshtui.memory.weights_rope import rope_tables
from meshtui.memory.weights_traits import Traits


def gemma3n(context: WeightsContext, traits: Traits) -> Blueprint:
    """The language model. The last layers read earlier caches and have no keys and values."""
    text, hidden = context.text, context.hidden
    dim = context.head_dim
    shared_from = text.num_layers - max(0, text.get_int("num_kv_shared_layers") or 0)
    streams = text.positive("altup_num_inputs") or 4
    detour = context.share(text.positive("laurel_rank") or 64)
    own_inputs = text.positive("hidden_size_per_layer_input") or 256
    widths = text.ints("intermediate_size")

    def mixer(layer: int) -> list[Module]:
        modules = context.attention(
            "self_attn", heads=context.heads, kv_heads=context.kv_heads, head_dim=dim
        )
        norm = Plain("norms", "qk_norm", 2 * dim)
        if layer >= shared_from > 0:
            own = (context.heads // context.tp * dim,)
            modules = [Linear("attention", "self_attn.q_proj", hidden, own), *modules[1:]]
            norm = Plain("norms", "q_norm", dim)
        return [*modules, norm]

    def ffn(layer: int) -> list[Module]:
        width = widths[layer] if layer < len(widths) else text.positive("intermediate_size")
        return [
            *context.mlp("mlp", width or 4 * hidden),
            Linear("mlp", "laurel.linear_left", hidden, (detour,)),
            Linear("mlp", "laurel.linear_right", detour, (hidden,)),
            Linear("mlp", "per_layer_input_gate", hidden, (own_inputs,)),
            Linear("mlp", "per_layer_projection", own_inputs, (hidden,)),
            Plain("mlp", "altup.coefs", streams**2 + streams**3 + streams * hidden),
            Plain("mlp", "altup.correct_output_scale", hidden, 4),
            # Of the layer five, one of the detour and one of the streams' router.
            Plain("norms", "norms", 7 * hidden),
        ]

    found = composed(
        context,
        msgspec.structs.replace(traits, norms=0),
        mixer=mixer,
        ffn=ffn,
        buffers=rope_tables(context),
    )
    all_inputs = own_inputs * text.num_layers
    rows = text.positive("vocab_size_per_layer_input", "vocab_size") or 0
    stream = Linear("mlp", "altup_projection", hidden, (context.share(hidden),))
    return msgspec.structs.replace(
        found,
        first=[*found.first, context.vocabulary("embedding", "per_layer", rows, all_inputs)],
        every=[
            *found.every,
            Linear("embedding", "per_layer_model_projection", hidden, (context.share(all_inputs),)),
            Plain("norms", "per_layer_projection_norm", own_inputs),
            # To each further stream and back.
            *[stream] * (2 * min(streams - 1, 64)),
        ],
    )

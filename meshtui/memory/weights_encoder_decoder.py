"""Models that read all of the input first and write then: Whisper.

Source: whisper.py of vLLM 0.32.
"""

from meshtui.compat.section import MOST_LAYERS
from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_modules import Blueprint, Linear, Module, Plain

_TAPS = 3


def whisper(context: WeightsContext) -> Blueprint:
    """An encoder of sound behind two convolutions, and a decoder that looks at it in each layer.
    The head is the embedding, which every rank has whole."""
    text, hidden = context.text, context.hidden
    bands = text.positive("num_mel_bins") or 80
    own = context.share(hidden)

    def attention(name: str) -> list[Module]:
        return [
            Linear("attention", f"{name}.qkv_proj", hidden, (own, own, own), bias=True),
            Linear("attention", f"{name}.out_proj", own, (hidden,), bias=True),
        ]

    def layer(part: str, *looks: str) -> list[Module]:
        width = context.share(text.positive(f"{part}_ffn_dim") or 4 * hidden)
        return [
            *(module for name in looks for module in attention(name)),
            Linear("mlp", "mlp.fc1", hidden, (width,), bias=True),
            Linear("mlp", "mlp.fc2", width, (hidden,), bias=True),
            Plain("norms", "norms", 2 * hidden * (len(looks) + 1)),
        ]

    def count(part: str) -> int:
        return min(text.positive(f"{part}_layers") or 0, MOST_LAYERS)

    encoder: list[Module] = [
        Plain("sound", "conv1", hidden * (bands * _TAPS + 1)),
        Plain("sound", "conv2", hidden * (hidden * _TAPS + 1)),
        Plain("sound", "positions", (text.positive("max_source_positions") or 1500) * hidden),
        Plain("norms", "norm", 2 * hidden),
        *layer("encoder", "self_attn") * count("encoder"),
    ]
    decoder: list[Module] = [
        Plain("embedding", "tokens", (text.positive("vocab_size") or 0) * hidden),
        Plain("embedding", "positions", (text.positive("max_target_positions") or 448) * hidden),
        Plain("norms", "norm", 2 * hidden),
        *layer("decoder", "self_attn", "encoder_attn") * count("decoder"),
    ]
    return Blueprint(every=[*encoder, *decoder])

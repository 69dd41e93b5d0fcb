"""Models that read the whole input at once: BERT and its kin, CLIP.

Sources: bert.py, roberta.py, clip.py of vLLM 0.32.
"""

from meshtui.compat.section import MOST_LAYERS, Section
from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_modules import Blueprint, Linear, Module, Plain


def encoder(context: WeightsContext, *, classifies: bool) -> Blueprint:
    """BERT, RoBERTa and others of that shape. Classifiers keep their head in float32."""
    text, hidden = context.text, context.hidden
    width = text.positive("intermediate_size") or 4 * hidden
    rows = text.positive("max_position_embeddings") or 512
    layer = _layer(context, hidden, width)
    first: list[Module] = [
        context.vocabulary("embedding", "words", text.positive("vocab_size") or 0, hidden),
        context.vocabulary("embedding", "positions", rows, hidden),
        context.vocabulary("embedding", "types", text.positive("type_vocab_size") or 1, hidden),
        Plain("norms", "norm", 2 * hidden),
    ]
    last: list[Module] = []
    if classifies:
        labels = len(context.configuration.top.mapping("id2label")) or 2
        last.append(Plain("head", "classifier", (hidden + 1) * (hidden + labels), 4))
    return Blueprint(
        first=first,
        layers=[layer] * text.num_layers,
        last=last,
        buffers=[("buffers", rows * 8)],
    )


def clip(context: WeightsContext) -> Blueprint:
    """CLIP: an encoder of text and one of images, both with a projection."""
    top = context.configuration.top
    vision = context.configuration.section("vision_config")
    text = context.configuration.section("text_config")
    joint = top.positive("projection_dim") or 512
    modules: list[Module] = []
    if text is not None:
        hidden = text.positive("hidden_size") or 512
        modules += _stack(context, text, hidden)
        modules += [
            context.vocabulary("embedding", "tokens", text.positive("vocab_size") or 0, hidden),
            context.vocabulary(
                "embedding", "positions", text.positive("max_position_embeddings") or 77, hidden
            ),
            Plain("norms", "final", 2 * hidden),
            Plain("head", "projection", hidden * joint),
        ]
    if vision is not None:
        hidden = vision.positive("hidden_size") or 768
        patch = vision.positive("patch_size") or 32
        patches = ((vision.positive("image_size") or 224) // patch) ** 2
        modules += _stack(context, vision, hidden)
        modules += [
            Plain("vision", "embeddings", hidden * (3 * patch**2 + patches + 2)),
            Plain("vision", "norms", 4 * hidden),
            Plain("vision", "projection", hidden * joint),
        ]
    return Blueprint(every=modules)


def _stack(context: WeightsContext, section: Section, hidden: int) -> list[Module]:
    width = section.positive("intermediate_size") or 4 * hidden
    return _layer(context, hidden, width) * min(
        section.positive("num_hidden_layers") or 12, MOST_LAYERS
    )


def _layer(context: WeightsContext, hidden: int, width: int) -> list[Module]:
    own, inner = context.share(hidden), context.share(width)
    return [
        Linear("attention", "qkv_proj", hidden, (own, own, own), bias=True),
        Linear("attention", "out_proj", own, (hidden,), bias=True),
        Linear("mlp", "up", hidden, (inner,), bias=True),
        Linear("mlp", "down", inner, (hidden,), bias=True),
        Plain("norms", "norms", 4 * hidden),
    ]

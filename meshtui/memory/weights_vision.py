"""Towers that see, and what leads from them to the language model.

Sources: qwen3_vl.py, siglip.py, clip.py, pixtral.py, mllama4.py, kimi_k25_vit.py, gemma3_mm.py,
llava_next.py of vLLM 0.32.
"""

from collections.abc import Callable

from meshtui.compat.section import MOST_LAYERS, Section
from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_modules import Linear, Module, Plain

_ITEM = "vision"


class Shape:
    """The sizes of a tower, under the names that configurations give them."""

    def __init__(self, vision: Section) -> None:
        self.layers = min(
            vision.positive("depth", "num_hidden_layers", "vt_num_hidden_layers") or 0, MOST_LAYERS
        )
        # Qwen2-VL calls the language model's size `hidden_size` here.
        first = "embed_dim" if vision.model_type.startswith("qwen2_vl") else "hidden_size"
        self.hidden = vision.positive(first, "vt_hidden_size", "hidden_size", "embed_dim") or 0
        ratio = vision.positive("mlp_ratio") or 4
        self.width = (
            vision.positive("intermediate_size", "vt_intermediate_size") or ratio * self.hidden
        )
        self.patch = vision.positive("patch_size") or 14
        self.channels = vision.positive("in_channels", "num_channels", "in_chans") or 3
        self.frames = vision.positive("temporal_patch_size") or 1
        self.image = vision.positive("image_size") or 224
        self.merge = (vision.positive("spatial_merge_size") or 2) ** 2

    @property
    def patches(self) -> int:
        return (self.image // self.patch) ** 2

    @property
    def patch_elements(self) -> int:
        return self.hidden * self.channels * self.frames * self.patch**2


def tower(context: WeightsContext) -> list[Module]:
    """The modules of the vision part; nothing where the model has none or does not load it."""
    vision = context.configuration.section("vision_config")
    if vision is None or context.settings.language_model_only:
        return []
    rule = _RULES.get(vision.model_type) or _RULES.get(context.configuration.model_type, plain)
    return rule(context, vision, Shape(vision))


def has_unknown_tower(context: WeightsContext) -> bool:
    """Whether the vision part follows no rule of its own."""
    vision = context.configuration.section("vision_config")
    if vision is None or context.settings.language_model_only:
        return False
    return vision.model_type not in _RULES and context.configuration.model_type not in _RULES


def blocks(
    context: WeightsContext,
    shape: Shape,
    *,
    layers: int | None = None,
    gated: bool = False,
    bias: bool = True,
    norm_bias: bool = True,
    split: bool = True,
) -> list[Module]:
    """The layers of a vision transformer, split over the ranks or repeated on each."""
    ranks = context.tp if split else 1
    own, width = -(-shape.hidden // ranks), -(-shape.width // ranks)
    hidden = shape.hidden
    norm = Plain(_ITEM, "norm", hidden * (2 if norm_bias else 1))
    one: list[Module] = [
        Linear(_ITEM, "visual.qkv", hidden, (3 * own,), bias, quantized=False),
        Linear(_ITEM, "visual.proj", own, (hidden,), bias, quantized=False),
        Linear(_ITEM, "visual.up", hidden, (width,) * (2 if gated else 1), bias, quantized=False),
        Linear(_ITEM, "visual.down", width, (hidden,), bias, quantized=False),
        norm,
        norm,
    ]
    return one * (shape.layers if layers is None else layers)


def matrix(inputs: int, rows: int, *, bias: bool = True) -> Linear:
    return Linear(_ITEM, "visual.other", max(0, inputs), (max(0, rows),), bias, quantized=False)


def plain(context: WeightsContext, vision: Section, shape: Shape) -> list[Module]:
    """A tower that follows no rule of its own: a common transformer and a projector."""
    hidden = context.hidden
    return [
        *blocks(context, shape),
        Plain(_ITEM, "patch_embedding", shape.patch_elements + shape.hidden),
        Plain(_ITEM, "position_embedding", shape.patches * shape.hidden),
        matrix(shape.hidden, hidden),
        matrix(hidden, hidden),
    ]


def qwen3(context: WeightsContext, vision: Section, shape: Shape) -> list[Module]:
    """Qwen3-VL and Qwen3.5: mergers at the end and after chosen layers."""
    merged = shape.hidden * shape.merge
    out = vision.positive("out_hidden_size") or context.hidden
    deep = len(vision.ints("deepstack_visual_indexes"))

    def merger(norm: int) -> list[Module]:
        own = context.share(merged)
        return [matrix(merged, own), matrix(own, out), Plain(_ITEM, "norm", 2 * norm)]

    return [
        *blocks(context, shape),
        Plain(_ITEM, "patch_embed", shape.patch_elements + shape.hidden),
        Plain(_ITEM, "pos_embed", (vision.positive("num_position_embeddings") or 0) * shape.hidden),
        *merger(shape.hidden),
        *(merger(merged) * deep),
    ]


def qwen2(context: WeightsContext, vision: Section, shape: Shape) -> list[Module]:
    """Qwen2-VL and Qwen2.5-VL (qwen2_vl.py, qwen2_5_vl.py)."""
    newer = vision.model_type == "qwen2_5_vl" or context.configuration.model_type == "qwen2_5_vl"
    merged = shape.hidden * shape.merge
    own = context.share(merged)
    out = vision.positive("out_hidden_size") if newer else vision.positive("hidden_size")
    return [
        *blocks(context, shape, gated=newer, norm_bias=not newer),
        Plain(_ITEM, "patch_embed", shape.patch_elements * (1 if shape.frames > 1 else 2)),
        Plain(_ITEM, "ln_q", shape.hidden * (1 if newer else 2)),
        matrix(merged, own),
        matrix(own, out or context.hidden),
    ]


def feature_layers(vision_layers: int, asked: object) -> int:
    """How many layers are built: up to the deepest whose output is used (vision.py,
    `get_num_selected_vision_tower_layers`)."""
    numbers = asked if isinstance(asked, list) else [asked]
    deepest = 0
    for number in numbers:
        if isinstance(number, int) and not isinstance(number, bool):
            deepest = max(deepest, number if number >= 0 else vision_layers + number + 1)
    return min(deepest, vision_layers) or vision_layers


def image_encoder(context: WeightsContext, vision: Section, shape: Shape) -> list[Module]:
    """SigLIP and CLIP, as LLaVA and Gemma use them."""
    top = context.configuration.top
    clip = vision.model_type == "clip_vision_model"
    asked = top.value("vision_feature_layer")
    layers = feature_layers(shape.layers, asked) if asked is not None else shape.layers
    modules = [
        *blocks(context, shape, layers=layers),
        Plain(_ITEM, "patch", shape.patch_elements + (shape.hidden if not clip else 0)),
        Plain(_ITEM, "positions", (shape.patches + int(clip)) * shape.hidden),
    ]
    if clip:
        modules += [Plain(_ITEM, "class", shape.hidden), Plain(_ITEM, "pre_norm", 2 * shape.hidden)]
    if layers == shape.layers and not isinstance(asked, list):
        modules.append(Plain(_ITEM, "post_norm", 2 * shape.hidden))
    if context.configuration.model_type == "gemma3":
        modules.append(Plain(_ITEM, "projector", shape.hidden * context.hidden + shape.hidden))
        return modules
    taken = len(asked) if isinstance(asked, list) else 1
    if top.has("image_grid_pinpoints"):
        modules.append(Plain(_ITEM, "image_newline", context.hidden))
    return modules + projector(context, shape.hidden * max(1, taken))


def projector(context: WeightsContext, inputs: int) -> list[Module]:
    """Two matrices with biases (llava.py, `LlavaMultiModalProjector`)."""
    bias = context.configuration.top.get_bool("multimodal_projector_bias", True)
    own = context.share(context.hidden)
    return [matrix(inputs, own, bias=bias), matrix(own, context.hidden, bias=bias)]


def pixtral(context: WeightsContext, vision: Section, shape: Shape) -> list[Module]:
    """Pixtral's own tower; Mistral-Small-3.1 merges patches after it."""
    modules = [
        *blocks(context, shape, gated=True, bias=False, norm_bias=False,
                split=context.splits_tower),
        Plain(_ITEM, "patch_conv", shape.patch_elements),
        Plain(_ITEM, "ln_pre", shape.hidden),
    ]  # fmt: skip
    if context.configuration.model_type == "mistral3":
        merge = context.configuration.top.positive("spatial_merge_size") or 2
        modules += [
            Plain(_ITEM, "norm", shape.hidden),
            matrix(shape.hidden * merge**2, shape.hidden, bias=False),
        ]
    return modules + projector(context, shape.hidden)


def llama4(context: WeightsContext, vision: Section, shape: Shape) -> list[Module]:
    """Llama 4 (mllama4.py)."""
    own = context.share
    out = vision.positive("vision_output_dim") or 4096
    wide = vision.positive("projector_output_dim") or out
    inner = vision.positive("projector_input_dim") or 4096
    flat = shape.channels * shape.patch**2
    return [
        *blocks(context, shape),
        Plain(_ITEM, "embeddings", shape.hidden * (shape.patches + 2)),
        Plain(_ITEM, "norms", 4 * shape.hidden),
        matrix(flat, own(shape.hidden), bias=False),
        matrix(shape.width, own(inner), bias=False),
        matrix(own(inner), wide, bias=False),
        matrix(out, own(context.hidden), bias=False),
    ]


def kimi(context: WeightsContext, vision: Section, shape: Shape) -> list[Module]:
    """MoonViT of Kimi-K2.5, with learned positions."""
    positions = (vision.positive("init_pos_emb_height") or 64) * (
        vision.positive("init_pos_emb_width") or 64
    )
    merged = shape.hidden * 4
    return [
        *blocks(context, shape, split=context.splits_tower),
        Plain(_ITEM, "patch_embed", shape.patch_elements + shape.hidden),
        Plain(_ITEM, "positions", positions * shape.hidden),
        Plain(_ITEM, "norms", 4 * shape.hidden),
        matrix(merged, merged),
        matrix(merged, context.hidden),
    ]


def gemma4(context: WeightsContext, vision: Section, shape: Shape) -> list[Module]:
    """Gemma 4's tower is transformers' own, and the same on every rank (gemma4_mm.py)."""
    head = vision.positive("head_dim") or 64
    positions = 2 * (vision.positive("position_embedding_size") or 10240)
    return [
        *blocks(context, shape, gated=True, bias=False, norm_bias=False, split=False),
        Plain(_ITEM, "norms", shape.layers * 2 * (shape.hidden + head)),
        Plain(_ITEM, "patch_embedder", shape.patch_elements),
        Plain(_ITEM, "positions", positions * shape.hidden),
        matrix(shape.hidden, context.hidden, bias=False),
    ]


_Rule = Callable[[WeightsContext, Section, Shape], list[Module]]
_RULES: dict[str, _Rule] = {
    "qwen3_vl": qwen3,
    "qwen3_vl_moe": qwen3,
    "qwen3_5": qwen3,
    "qwen3_5_moe": qwen3,
    "qwen2_vl": qwen2,
    "qwen2_5_vl": qwen2,
    "siglip_vision_model": image_encoder,
    "clip_vision_model": image_encoder,
    "pixtral": pixtral,
    "gemma4": gemma4,
    "gemma4_vision": gemma4,
    "llama4": llama4,
    "llama4_vision_model": llama4,
    "kimi_k25": kimi,
}

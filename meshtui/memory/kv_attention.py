"""The KV cache of models whose layers all attend: full, windowed, chunked, shared.

Sources: the model classes of vLLM 0.32, as named at each function.
"""

from meshtui.compat.section import MOST_LAYERS
from meshtui.memory.kv_layers import Kind, KvLayer
from meshtui.memory.kv_model import KvContext, KvModel, head_size, kv_heads


def attention(context: KvContext, *, window_extra: int = 0) -> KvModel:
    """Every layer keeps keys and values; which of them slide is in `layer_types`
    (llama.py, gemma2.py, transformers/base.py and most others)."""
    text, window = context.text, context.text.sliding_window
    types, common = text.layer_types, context.common_window
    heads, dim = kv_heads(text), head_size(text)
    overrides = _per_layer_overrides(context)
    layers = []
    for i in range(text.num_layers):
        slides = common or (window if _type(types, i) == "sliding_attention" else None)
        own = overrides.get(i, {})
        layers.append(
            (
                i,
                context.attention(
                    heads=own.get("num_key_value_heads", heads),
                    head_dim=own.get("head_dim", dim),
                    window=slides + window_extra if slides else None,
                ),
            )
        )
    return KvModel(tuple(layers))


def offset_window(context: KvContext) -> KvModel:
    """Windows that do not count the token itself (commandr.py, cohere2_moe.py)."""
    return attention(context, window_extra=1)


def alternating(context: KvContext) -> KvModel:
    """Every other layer slides, whatever `layer_types` says (gpt_oss.py)."""
    text = context.text
    heads, dim, window = kv_heads(text), head_size(text), text.sliding_window
    return KvModel(
        tuple(
            (i, context.attention(heads=heads, head_dim=dim, window=None if i % 2 else window))
            for i in range(text.num_layers)
        )
    )


def gemma3n(context: KvContext) -> KvModel:
    """The last layers read the caches of earlier ones (gemma3n.py)."""
    shared = context.text.get_int("num_kv_shared_layers") or 0
    first_shared = context.text.num_layers - max(0, shared)
    return _first(attention(context), first_shared)


def gemma4(context: KvContext) -> KvModel:
    """Full layers have heads of their own size and number (gemma4.py; transformers'
    configuration_gemma4.py, `per_layer_config`)."""
    text = context.text
    heads, dim, window = kv_heads(text), head_size(text), text.sliding_window
    wide = text.positive("global_head_dim") or 512
    few = heads
    if text.get_bool("attention_k_eq_v"):
        few = text.positive("num_global_key_value_heads") or heads
    types = text.layer_types
    if window and text.value("use_bidirectional_attention") == "all":
        window = window // 2 + 1
    count = text.num_layers
    layers = []
    for i in range(count):
        # The last layer is made a full one.
        if i < count - 1 and _type(types, i) == "sliding_attention":
            layer = context.attention(heads=heads, head_dim=dim, window=window)
        else:
            layer = context.attention(heads=few, head_dim=wide)
        layers.append((i, layer))
    shared = max(0, text.get_int("num_kv_shared_layers") or 0)
    return _first(KvModel(tuple(layers)), count - shared)


def llama4(context: KvContext) -> KvModel:
    """Layers with rotary positions attend within chunks (llama4.py)."""
    text = context.text
    layer = context.attention(heads=kv_heads(text), head_dim=head_size(text))
    chunk = text.positive("attention_chunk_size")
    count = text.num_layers
    rotary = text.ints("no_rope_layers") if isinstance(text.raw.get("no_rope_layers"), list) else ()
    if len(rotary) < count:
        every = text.positive("no_rope_layer_interval") or 4
        rotary = tuple(int((i + 1) % every != 0) for i in range(count))
    chunked = KvLayer(
        kind=Kind.CHUNKED, block=layer.block, row_bytes=layer.row_bytes, reach=chunk or 0
    )
    return KvModel(tuple((i, chunked if chunk and rotary[i] else layer) for i in range(count)))


def mimo_v2(context: KvContext) -> KvModel:
    """Sliding layers have their own heads; values may be narrower than keys (mimo_v2.py)."""
    text = context.text
    pattern = text.ints("hybrid_layer_pattern")
    types = text.layer_types
    dim = head_size(text)
    full = context.attention(
        heads=kv_heads(text), head_dim=dim, value_dim=text.positive("v_head_dim")
    )
    sliding_dim = text.positive("swa_head_dim") or dim
    sliding = context.attention(
        heads=text.positive("swa_num_key_value_heads") or kv_heads(text),
        head_dim=sliding_dim,
        value_dim=text.positive("swa_v_head_dim"),
        window=text.positive("sliding_window_size", "sliding_window"),
    )
    count = text.num_layers

    def slides(i: int) -> bool:
        return pattern[i] == 1 if i < len(pattern) else _type(types, i) == "sliding_attention"

    return KvModel(tuple((i, sliding if slides(i) else full) for i in range(count)))


def step3p5(context: KvContext) -> KvModel:
    """Some layers have their own heads; without a list every other one slides (step3p5.py)."""
    text = context.text
    types, window = text.layer_types, text.sliding_window
    groups = text.positive("num_attention_groups") or kv_heads(text)
    dim = head_size(text)
    other = text.plain("attention_other_setting")
    other_type = other.get_str("attention_type")
    layers = []
    for i in range(text.num_layers):
        kind = _type(types, i)
        slides = kind == "sliding_attention" if types else i % 2 == 0
        is_other = other_type is not None and kind == other_type
        layers.append(
            (
                i,
                context.attention(
                    heads=(other.positive("num_attention_groups") if is_other else None) or groups,
                    head_dim=(other.positive("head_dim") if is_other else None) or dim,
                    window=window if slides else None,
                ),
            )
        )
    return KvModel(tuple(layers))


def interleaved_windows(context: KvContext) -> KvModel:
    """A window a layer, from a list that repeats (plamo3.py, openpangu.py)."""
    text = context.text
    raw = text.value("interleaved_sliding_window")
    if raw is None:
        raw = text.value("sliding_window")
    windows = raw if isinstance(raw, list) else None
    if not windows or len(windows) > MOST_LAYERS:
        return attention(context)
    heads, dim = kv_heads(text), head_size(text)

    def window(i: int) -> int | None:
        value = windows[i % len(windows)]
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return value if is_number and 0 < value < 1 << 40 else None

    return KvModel(
        tuple(
            (i, context.attention(heads=heads, head_dim=dim, window=window(i)))
            for i in range(text.num_layers)
        )
    )


def own_windows(context: KvContext) -> KvModel:
    """Windows from a list `sliding_windows`, if there is one (exaone_moe.py)."""
    text = context.text
    windows = text.ints("sliding_windows")
    if len(windows) < text.num_layers:
        return attention(context)
    heads, dim, types = kv_heads(text), head_size(text), text.layer_types
    return KvModel(
        tuple(
            (
                i,
                context.attention(
                    heads=heads,
                    head_dim=dim,
                    window=None
                    if _type(types, i) == "full_attention"
                    else (windows[i] if windows[i] > 0 else None),
                ),
            )
            for i in range(text.num_layers)
        )
    )


def padded_mla(context: KvContext) -> KvModel:
    """MLA that is unfolded into ordinary heads (minicpm3.py)."""
    text = context.text
    dim = (text.get_int("qk_nope_head_dim") or 0) + (text.get_int("qk_rope_head_dim") or 0)
    layer = context.attention(heads=text.num_heads, head_dim=dim or head_size(text))
    return KvModel(tuple((i, layer) for i in range(text.num_layers)))


def nas(context: KvContext) -> KvModel:
    """Layers without attention, or with other KV heads (nemotron_nas.py)."""
    text = context.text
    blocks = text.value("block_configs")
    if not isinstance(blocks, list):
        return attention(context)
    heads, dim = text.num_heads, head_size(text)
    layers = []
    for i, block in enumerate(blocks[: text.num_layers]):
        part = block.get("attention") if isinstance(block, dict) else None
        part = part if isinstance(part, dict) else {}
        per_group = part.get("n_heads_in_group")
        if part.get("no_op") is True or part.get("replace_with_linear") is True:
            continue
        if isinstance(per_group, int) and 0 < per_group <= heads:
            layers.append((i, context.attention(heads=heads // per_group, head_dim=dim)))
    return KvModel(tuple(layers))


def none(context: KvContext) -> KvModel:
    """Nothing is kept: all tokens are seen at once."""
    return KvModel(())


def _first(model: KvModel, count: int) -> KvModel:
    """Only the first layers keep something of their own."""
    return KvModel(model.layers[: max(0, count)], model.packed)


def _type(types: tuple[str, ...], index: int) -> str:
    return types[index] if index < len(types) else ""


def _per_layer_overrides(context: KvContext) -> dict[int, dict[str, int]]:
    """Sizes that single layers override (transformers' `per_layer_config`)."""
    found: dict[int, dict[str, int]] = {}
    for key, values in list(context.text.mapping("per_layer_config").items())[:MOST_LAYERS]:
        if not str(key).isdecimal() or len(str(key)) > 5 or not isinstance(values, dict):
            continue
        sizes = {
            name: size
            for name in ("head_dim", "num_key_value_heads")
            if isinstance(size := values.get(name), int)
            and not isinstance(size, bool)
            and 0 < size < 1 << 32
        }
        if sizes:
            found[int(key)] = sizes
    return found

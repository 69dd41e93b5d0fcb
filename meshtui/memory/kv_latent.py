"""The KV cache of models that compress keys and values (MLA), with and without an indexer.

Compressed rows are the same on every tensor-parallel rank. Sources: vLLM 0.32,
vllm/model_executor/layers/attention/mla_attention.py, models/deepseek_v2.py (indexer),
vllm/models/deepseek_v4, vllm/models/minimax_m3.
"""

from meshtui.compat.section import Section
from meshtui.domain.errors import InvalidInput
from meshtui.memory.kv_attention import attention
from meshtui.memory.kv_layers import Kind, KvLayer, aligned
from meshtui.memory.kv_model import KvContext, KvModel, head_size, kv_heads
from meshtui.memory.kv_tables import entry_of_version, model_types

# Pages of sparse attention hold this many tokens.
_SPARSE_BLOCK = 64
# One FP8 row with its scales: 512 bytes without rotary part, 16 of scales, 128 of rotary part
# (flashmla_sparse.py); in DeepSeek-V4: 448 + 128 + 8.
_PACKED_ROW_BYTES = 656
_V4_ROW_BYTES = 584
_V4_ALIGNMENT = 576


def mla(context: KvContext) -> KvModel:
    """Compressed rows; a second cache for the index keys where attention is sparse."""
    text = context.text
    if not uses_mla(context):
        return _unfolded(context)
    if text.positive("index_topk"):
        return _sparse(context, [builds_index(text, i) for i in range(text.num_layers)])
    row = latent_layer(context)
    return KvModel(tuple((i, row) for i in range(text.num_layers)))


def double_mla(context: KvContext) -> KvModel:
    """Two attention parts in each layer (longcat_flash.py)."""
    layers = context.text.positive("num_layers") or context.text.num_layers
    if layers > 2000:
        raise InvalidInput(f"The configuration names {layers} layers, which no model has.")
    row = latent_layer(context)
    return KvModel(tuple((i, row) for i in range(layers) for _ in range(2)))


def typed_mla(context: KvContext) -> KvModel:
    """Which layers are sparse is in `layer_types` (vllm/models/hy_v4)."""
    text = context.text
    types = text.layer_types
    sparse = [
        bool(text.positive("index_topk")) and i < len(types) and types[i] == "indexed_attention"
        for i in range(text.num_layers)
    ]
    if not any(sparse):
        row = latent_layer(context)
        return KvModel(tuple((i, row) for i in range(text.num_layers)))
    return _sparse(context, [s and builds_index(text, i) for i, s in enumerate(sparse)])


def uses_mla(context: KvContext) -> bool:
    """Whether vLLM compresses: known model types that name a rank."""
    text = context.text
    return text.model_type in model_types("mla") and text.positive("kv_lora_rank") is not None


def latent_row_bytes(context: KvContext) -> int:
    """One token's compressed row."""
    text = context.text
    rank = text.positive("kv_lora_rank")
    if rank is None:
        raise InvalidInput(
            "The configuration does not say how far keys and values are compressed.",
            hint="Check that config.json has kv_lora_rank.",
        )
    return (rank + max(0, text.get_int("qk_rope_head_dim") or 0)) * context.element_bytes


def latent_layer(context: KvContext, block: int | None = None) -> KvLayer:
    return KvLayer(
        kind=Kind.FULL,
        block=block or context.settings.block_size or latent_block(context),
        row_bytes=latent_row_bytes(context),
        latent=True,
    )


def latent_block(context: KvContext) -> int:
    """Tokens of a page: what the preferred kernel of the GPU works on."""
    elements = latent_row_bytes(context) // context.element_bytes
    entry = entry_of_version(
        "mla_block",
        context.settings,
        lambda e: (
            e.get("capability_major") in (None, context.settings.capability // 10)
            and elements in e.get("row_elements", (elements,))
        ),
    )
    return int(entry["quantized" if context.quantized else "plain"])


def index_row_bytes(context: KvContext) -> int:
    """One token's index key: FP8 with one float scale for 128 elements."""
    dim = context.text.positive("index_head_dim") or 128
    return dim + dim // 128 * 4


def deepseek_v4(context: KvContext) -> KvModel:
    """A short window in every layer, compressed rows of 4 or 128 tokens in most, and the states
    of the compressors. Layers with ratio 4 have an indexer with the same two caches."""
    text = context.text
    window, dim = text.positive("sliding_window") or 128, head_size(text)
    ratios = text.ints("compress_ratios")
    index_dim = text.positive("index_head_dim") or 128
    layers: list[tuple[int, KvLayer]] = []
    for i in range(text.num_layers):
        ratio = max(1, ratios[i]) if i < len(ratios) else 1
        layers.append((i, _v4_window(window)))
        if ratio == 1:
            continue
        if ratio not in (4, 128):
            raise InvalidInput(f"Rows that compress {ratio} tokens are not known.")
        layers += [(i, _v4_rows(_V4_ROW_BYTES, ratio)), (i, _v4_state(dim, ratio))]
        if ratio == 4:
            layers += [
                (i, _v4_rows(index_row_bytes(context), ratio, role="indexer")),
                (i, _v4_state(index_dim, ratio)),
            ]
    return KvModel(tuple(layers), packed=True)


def minimax_m3(context: KvContext) -> KvModel:
    """Ordinary heads; sparse layers keep an index key for each token too
    (vllm/models/minimax_m3)."""
    text = context.text
    sparse = text.plain("sparse_attention_config")
    dim = sparse.positive("sparse_index_dim")
    flags = sparse.ints("sparse_attention_freq")
    if dim is None:
        return attention(context)
    block = max(context.block, sparse.positive("sparse_block_size") or 128)
    main = context.attention(heads=kv_heads(text), head_dim=head_size(text), block=block)
    index = KvLayer(
        kind=Kind.FULL,
        block=block,
        row_bytes=dim * context.element_bytes,
        latent=True,
        role="indexer",
    )
    layers: list[tuple[int, KvLayer]] = []
    for i in range(text.num_layers):
        layers.append((i, main))
        if i >= len(flags) or flags[i]:
            layers.append((i, index))
    return KvModel(tuple(layers))


def _v4_window(window: int) -> KvLayer:
    row = KvLayer(kind=Kind.SLIDING, block=64, row_bytes=_V4_ROW_BYTES, reach=window, latent=True)
    return row.padded_to(aligned(row.content_bytes, _V4_ALIGNMENT))


def _v4_rows(row_bytes: int, ratio: int, role: str = "") -> KvLayer:
    layer = KvLayer(
        kind=Kind.FULL,
        block=256,
        row_bytes=row_bytes,
        tokens_per_row=ratio,
        latent=True,
        role=role,
    )
    return layer.padded_to(aligned(layer.content_bytes, _V4_ALIGNMENT))


def _v4_state(dim: int, ratio: int) -> KvLayer:
    """Partial sums of a compressor, in float32; overlapping ones for ratio 4
    (vllm/models/deepseek_v4/compressor.py)."""
    overlap = 2 if ratio == 4 else 1
    layer = KvLayer(
        kind=Kind.SLIDING,
        block=4 if ratio == 4 else 8,
        row_bytes=2 * overlap * dim * 4,
        reach=overlap * ratio,
        latent=True,
    )
    return layer.padded_to(aligned(layer.content_bytes, _V4_ALIGNMENT))


def _sparse(context: KvContext, indexed: list[bool]) -> KvModel:
    block = context.settings.block_size or _SPARSE_BLOCK
    main = latent_layer(context, block)
    if context.kv_dtype.startswith("fp8") and context.settings.capability // 10 != 10:
        main = KvLayer(kind=Kind.FULL, block=block, row_bytes=_PACKED_ROW_BYTES, latent=True)
    index = KvLayer(
        kind=Kind.FULL,
        block=block,
        row_bytes=index_row_bytes(context),
        latent=True,
        role="indexer",
    )
    layers: list[tuple[int, KvLayer]] = []
    for i, has_index in enumerate(indexed):
        if has_index:
            layers.append((i, index))
        layers.append((i, main))
    return KvModel(tuple(layers))


def builds_index(text: Section, layer: int) -> bool:
    """Whether a layer finds its own tokens or takes those that an earlier layer found."""
    pattern = text.value("index_topk_pattern")
    if isinstance(pattern, str | list):
        return not (layer < len(pattern) and pattern[layer] == "S")
    every = text.positive("index_topk_freq") or 1
    offset = text.get_int("index_skip_topk_offset", 2)
    return max(layer - (2 if offset is None else offset) + 1, 0) % every == 0


def _unfolded(context: KvContext) -> KvModel:
    """The same models where vLLM does not compress: full heads for keys and values."""
    text = context.text
    dim = (text.get_int("qk_nope_head_dim") or 0) + (text.get_int("qk_rope_head_dim") or 0)
    if text.model_type == "deepseek" or dim <= 0:
        return attention(context)
    layer = context.attention(heads=text.num_heads, head_dim=dim)
    return KvModel(tuple((i, layer) for i in range(text.num_layers)))

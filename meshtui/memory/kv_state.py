"""The KV cache of models with recurrent layers: Mamba, linear attention, short convolutions.

A recurrent layer keeps a state of fixed size. Where other layers of the model attend, pages are
made equally large: the attention layers' pages are raised to hold one state. Sources: vLLM 0.32,
vllm/model_executor/layers/mamba/mamba_utils.py (shapes and types) and vllm/platforms/interface.py
(`_align_hybrid_block_size`).
"""

from collections.abc import Collection, Sequence

from meshtui.compat.section import Section
from meshtui.memory.kv_latent import latent_row_bytes, uses_mla
from meshtui.memory.kv_layers import Kind, KvLayer, pages_for
from meshtui.memory.kv_model import KvContext, KvModel, head_size, kv_heads
from meshtui.memory.kv_tables import entry_of_version
from meshtui.memory.settings import dtype_bytes

# Pages of compressed rows beside states are a multiple of this many tokens.
_LATENT_ALIGNMENT = 128


def hybrid(
    context: KvContext,
    *,
    states: Collection[int],
    attends: Collection[int],
    state_bytes: int,
    checkpoint: bool = False,
    head_dim: int | None = None,
    heads: int | None = None,
    window: int | None = None,
) -> KvModel:
    """Layers of both kinds, by their indices. `checkpoint`: the mixer stores one more state in
    the middle of a prefill."""
    pages = _state_pages(context, checkpoint=checkpoint)
    state = KvLayer(
        kind=Kind.STATE, block=context.block, state_bytes=state_bytes, state_pages=pages
    )
    attention = None
    if attends:
        attention = _attention_layer(context, head_dim, heads, window)
        row = attention.row_bytes
        step = max(_LATENT_ALIGNMENT if attention.latent else 0, context.block)
        block = max(context.block, step * pages_for(state_bytes, step * row))
        attention = attention.with_block(block)
        state = state.with_block(block).padded_to(block * row)
    layers: list[tuple[int, KvLayer]] = []
    attending, recurring = set(attends), set(states)
    for i in range(max([*states, *attends], default=-1) + 1):
        if i in attending and attention is not None:
            layers.append((i, attention))
        if i in recurring:
            layers.append((i, state))
    return KvModel(tuple(layers))


def pure(context: KvContext, state_bytes: int) -> KvModel:
    """Only recurrent layers: one state for a request, whatever its length."""
    state = KvLayer(kind=Kind.STATE, block=context.block, state_bytes=state_bytes)
    return KvModel(tuple((i, state) for i in range(context.text.num_layers)))


def mamba1_bytes(context: KvContext, intermediate: int, state: int, kernel: int) -> int:
    """`mamba1_state_shape`: the convolution's window and one state a channel."""
    channels = context.split(intermediate, "recurrent channels")
    return channels * (_conv(kernel) + max(0, state)) * dtype_bytes(context.model_dtype)


def mamba2_bytes(
    context: KvContext,
    *,
    intermediate: int,
    groups: int,
    heads: int,
    head_dim: int,
    state: int,
    kernel: int,
    state_dtype: str = "auto",
) -> int:
    """`mamba2_state_shape`. Groups are extended to the ranks where they do not divide."""
    if groups % context.tp:
        groups += context.tp - groups
    width = context.split(intermediate + 2 * groups * state, "recurrent channels")
    kept = context.split(heads, "recurrent heads") * head_dim * state
    return width * _conv(kernel) * dtype_bytes(context.model_dtype) + kept * _state_bytes(
        context, state_dtype
    )


def delta_bytes(
    context: KvContext,
    *,
    key_heads: int,
    value_heads: int,
    key_dim: int,
    value_dim: int,
    kernel: int,
    state_dtype: str = "auto",
) -> int:
    """`gated_delta_net_state_shape` and `kda_state_shape`."""
    width = context.split(key_dim * key_heads * 2 + value_dim * value_heads, "recurrent channels")
    kept = context.split(value_heads, "recurrent heads") * value_dim * key_dim
    return width * _conv(kernel) * dtype_bytes(context.model_dtype) + kept * _state_bytes(
        context, state_dtype
    )


def number(text: Section, *names: str, default: int = 0) -> int:
    """A size from the configuration, or the default of the family."""
    return text.positive(*names) or default


def where(types: Sequence[str], *wanted: str) -> list[int]:
    """The indices of layers of these types."""
    return [i for i, kind in enumerate(types) if kind in wanted]


def _attention_layer(
    context: KvContext, head_dim: int | None, heads: int | None, window: int | None
) -> KvLayer:
    if uses_mla(context):
        return KvLayer(
            kind=Kind.FULL, block=context.block, row_bytes=latent_row_bytes(context), latent=True
        )
    return context.attention(
        heads=heads or kv_heads(context.text),
        head_dim=head_dim or head_size(context.text),
        window=window,
    )


def _state_pages(context: KvContext, *, checkpoint: bool) -> int:
    if context.settings.prefix_caching is False:
        return 1
    entry = entry_of_version("state_pages", context.settings)
    return int(entry["aligned"]) + (int(entry["checkpoint"]) if checkpoint else 0)


def _state_bytes(context: KvContext, state_dtype: str) -> int:
    if state_dtype in ("float32", "float16", "bfloat16"):
        return dtype_bytes(state_dtype)
    return dtype_bytes(context.model_dtype)


def _conv(kernel: int) -> int:
    return max(0, kernel - 1)

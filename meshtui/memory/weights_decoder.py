"""A decoder: an embedding, layers of a mixer and a feed-forward part between norms, a head.

Sources: llama.py, qwen2.py, qwen3.py, mixtral.py, deepseek_v2.py and others of vLLM 0.32; what
they differ in is in `config/memory/weights_vllm.toml`.
"""

from collections.abc import Callable

from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_ffn import (
    dense_width,
    expert_count,
    expert_width,
    is_sparse,
    sparse,
)
from meshtui.memory.weights_latent import latent
from meshtui.memory.weights_modules import Blueprint, Linear, Module, Plain
from meshtui.memory.weights_rope import rope_tables
from meshtui.memory.weights_traits import Traits
from meshtui.memory.weights_vision import has_unknown_tower, tower

_UNKNOWN_TOWER = "The vision part is of a kind that is not known: a common one is assumed."

Part = Callable[[int], list[Module]]


def decoder(context: WeightsContext, traits: Traits) -> Blueprint:
    """The common shape of decoders."""
    text = context.text
    compressed = text.positive("kv_lora_rank") is not None
    rotary = text.positive("qk_rope_head_dim") if compressed else None
    return composed(
        context,
        traits,
        mixer=lambda i: latent(context, i) if compressed else plain_attention(context, traits, i),
        ffn=lambda i: feed_forward(context, traits, i),
        buffers=(
            rope_tables(context, rotary, element_bytes=traits.rotary_bytes) if traits.rotary else []
        ),
    )


def composed(
    context: WeightsContext,
    traits: Traits,
    *,
    mixer: Part,
    ffn: Part,
    buffers: list[tuple[str, int]],
    layers: int | None = None,
) -> Blueprint:
    """A decoder of the given parts."""
    text, hidden = context.text, context.hidden
    norm = hidden * (2 if traits.norm_bias else 1)
    norms = [Plain("norms", "norm", norm)] * traits.norms
    count = text.num_layers if layers is None else layers
    built = [[*mixer(i), *ffn(i), *norms] for i in range(count)]
    vocabulary = text.positive("vocab_size") or 0
    embedding = context.vocabulary("embedding", "embed_tokens", vocabulary, hidden)
    first: list[Module] = [embedding]
    if traits.positions:
        rows = (text.positive("max_position_embeddings", "n_positions") or 0) + traits.positions - 1
        first.append(Plain("embedding", "embed_positions", rows * hidden))
    last: list[Module] = [Plain("norms", "norm", norm)]
    head = context.head(vocabulary)
    if not context.tied:
        last.append(head)
    if traits.head_bias:
        last.append(context.vocabulary("head", "lm_head.bias", vocabulary, 1))
    return Blueprint(
        first=first,
        layers=built,
        last=last,
        tied_copy=[head] if context.tied else [],
        every=tower(context),
        buffers=buffers,
        notes=[_UNKNOWN_TOWER] if has_unknown_tower(context) else [],
    )


def plain_attention(context: WeightsContext, traits: Traits, layer: int) -> list[Module]:
    """Queries, keys and values of heads; some models give each layer its own number of heads."""
    listed = context.text.ints("num_attention_heads_per_layer")
    heads = listed[layer] if layer < len(listed) and listed[layer] > 0 else context.heads
    modules = context.attention(
        "self_attn",
        heads=heads,
        kv_heads=context.kv_heads,
        head_dim=context.head_dim,
        qkv_bias=traits.flag(context.text, traits.qkv_bias),
        out_bias=traits.flag(context.text, traits.out_bias),
    )
    dim = context.head_dim
    if traits.qk_norm == "head":
        modules.append(Plain("norms", "qk_norm", 2 * dim))
    elif traits.qk_norm == "all":
        own = context.share(context.heads) + max(1, context.share(context.kv_heads))
        modules.append(Plain("norms", "qk_norm", own * dim))
    if context.text.get_str("gating") == "per-head":
        gate = (context.share(heads),)
        modules.append(Linear("attention", "self_attn.g_proj", context.hidden, gate))
    if traits.sinks:
        modules.append(Plain("attention", "sinks", context.share(context.heads)))
    return modules


def feed_forward(context: WeightsContext, traits: Traits, layer: int) -> list[Module]:
    """Experts, or a plain part."""
    text = context.text
    if expert_count(text) and is_sparse(text, layer):
        shared = expert_width(text, context.hidden) if traits.shared_expert else None
        return sparse(
            context,
            "mlp",
            gated=traits.gated,
            bias=traits.expert_bias,
            shared=shared,
            router_bytes=traits.router_bytes,
        )
    return context.mlp(
        "mlp",
        dense_width(text, context.hidden),
        gated=traits.gated,
        bias=traits.flag(text, traits.mlp_bias),
    )

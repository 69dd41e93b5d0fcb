"""A decoder: an embedding, layers of a mixer and a feed-forward part between norms, a head.

Sources: llama.py, qwen2.py, qwen3.py, mixtral.py, deepseek_v2.py and others of vLLM 0.32; what
they differ in is in `config/memory/weights_vllm.toml`.
"""

from collections.abc import Callable

from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_ffn import dense_width, expert_count, is_sparse, sparse
from meshtui.memory.weights_modules import Blueprint, Module, Plain
from meshtui.memory.weights_rope import rope_tables
from meshtui.memory.weights_traits import Traits

Part = Callable[[int], list[Module]]


def decoder(context: WeightsContext, traits: Traits) -> Blueprint:
    """The common shape of decoders."""
    text = context.text
    mixer = latent_attention if text.positive("kv_lora_rank") else plain_attention
    rotary = text.positive("qk_rope_head_dim") if mixer is latent_attention else None
    return composed(
        context,
        traits,
        mixer=lambda i: mixer(context, traits),
        ffn=lambda i: feed_forward(context, traits, i),
        buffers=rope_tables(context, rotary) if traits.rotary else [],
    )


def composed(
    context: WeightsContext,
    traits: Traits,
    *,
    mixer: Part,
    ffn: Part,
    buffers: list[tuple[str, int]],
) -> Blueprint:
    """A decoder of the given parts."""
    text, hidden = context.text, context.hidden
    norm = hidden * (2 if traits.norm_bias else 1)
    layers = []
    for i in range(text.num_layers):
        norms = [Plain("norms", "norm", norm)] * traits.norms
        layers.append([*mixer(i), *ffn(i), *norms])
    vocabulary = text.positive("vocab_size") or 0
    embedding = context.vocabulary("embedding", "embed_tokens", vocabulary, hidden)
    first: list[Module] = [embedding]
    if traits.positions:
        rows = (text.positive("max_position_embeddings", "n_positions") or 0) + traits.positions - 1
        first.append(Plain("embedding", "embed_positions", rows * hidden))
    last: list[Module] = [Plain("norms", "norm", norm)]
    head = context.vocabulary("head", "lm_head", vocabulary, hidden)
    if not context.tied:
        last.append(head)
    if traits.head_bias:
        last.append(context.vocabulary("head", "lm_head.bias", vocabulary, 1))
    return Blueprint(
        first=first,
        layers=layers,
        last=last,
        tied_copy=[head] if context.tied else [],
        buffers=buffers,
    )


def plain_attention(context: WeightsContext, traits: Traits) -> list[Module]:
    """Queries, keys and values of heads."""
    modules = context.attention(
        "self_attn",
        heads=context.heads,
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
    if traits.sinks:
        modules.append(Plain("attention", "sinks", context.share(context.heads)))
    return modules


def latent_attention(context: WeightsContext, traits: Traits) -> list[Module]:
    """Compressed keys and values (MLA): the ways down are repeated on every rank."""
    from meshtui.memory.weights_latent import latent

    return latent(context)


def feed_forward(context: WeightsContext, traits: Traits, layer: int) -> list[Module]:
    """Experts, or a plain part."""
    text = context.text
    if expert_count(text) and is_sparse(text, layer):
        return sparse(context, "mlp", gated=traits.gated, bias=traits.expert_bias)
    return context.mlp(
        "mlp",
        dense_width(text, context.hidden),
        gated=traits.gated,
        bias=traits.flag(text, traits.mlp_bias),
    )

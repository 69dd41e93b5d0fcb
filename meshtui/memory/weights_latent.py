"""Attention with compressed queries, keys and values (MLA).

Source: deepseek_v2.py of vLLM 0.32 (`DeepseekV2MLAAttention`, `Indexer`).
"""

from meshtui.domain.errors import InvalidInput
from meshtui.memory.kv_latent import builds_index
from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_modules import Linear, Module, Plain


def latent(context: WeightsContext, layer: int) -> list[Module]:
    """The ways down to the compressed form are the same on every rank, the ways up are split."""
    text, hidden = context.text, context.hidden
    rank = text.positive("kv_lora_rank")
    if rank is None:
        raise InvalidInput(
            "The configuration does not say how far keys and values are compressed.",
            hint="Check that config.json has kv_lora_rank.",
        )
    rotary = max(0, text.get_int("qk_rope_head_dim") or 0)
    plain = text.positive("qk_nope_head_dim") or 128
    values = text.positive("v_head_dim") or plain
    own = context.share(context.heads)
    query_rank = text.positive("q_lora_rank")
    name = "self_attn"
    modules: list[Module] = []
    if query_rank is not None:
        modules += [
            Linear("attention", f"{name}.fused_qkv_a_proj", hidden, (query_rank, rank + rotary),
                   parts=("q_a_proj", "kv_a_proj_with_mqa")),
            Plain("norms", "q_a_layernorm", query_rank),
            Linear("attention", f"{name}.q_b_proj", query_rank, (own * (plain + rotary),)),
        ]  # fmt: skip
    else:
        modules += [
            Linear("attention", f"{name}.kv_a_proj_with_mqa", hidden, (rank + rotary,)),
            Linear("attention", f"{name}.q_proj", hidden, (own * (plain + rotary),)),
        ]
    modules += [
        Plain("norms", "kv_a_layernorm", rank),
        Linear("attention", f"{name}.kv_b_proj", rank, (own * (plain + values),)),
        Linear("attention", f"{name}.o_proj", own * values, (hidden,)),
        # After loading the way up is kept a second time, split (mla_attention.py, W_UK and W_UV).
        Plain("repacking", "W_UK_W_UV", own * (plain + values) * rank),
    ]
    if text.positive("index_topk") and builds_index(text, layer):
        modules += indexer(context, query_rank or hidden)
    return modules


def indexer(context: WeightsContext, query_rank: int) -> list[Module]:
    """What chooses the tokens that sparse attention looks at: the same on every rank."""
    text, hidden = context.text, context.hidden
    heads, dim = text.positive("index_n_heads") or 64, text.positive("index_head_dim") or 128
    name = "self_attn.indexer"
    return [
        Linear("attention", f"{name}.wq_b", query_rank, (heads * dim,)),
        Plain("attention", f"{name}.wk_weights_proj", hidden * (dim + heads)),
        Plain("norms", f"{name}.k_norm", 2 * dim, 4),
    ]

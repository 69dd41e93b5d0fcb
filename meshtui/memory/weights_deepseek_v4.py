"""DeepSeek V4: compressors of tokens beside latent attention, hyper-connections, experts in MXFP4.

Source: vllm/models/deepseek_v4 of vLLM 0.32.
"""

from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_decoder import composed
from meshtui.memory.weights_ffn import expert_count, expert_width, shared_width
from meshtui.memory.weights_modules import Blueprint, Linear, Module, Plain
from meshtui.memory.weights_traits import Traits

_ATTENTION = "attention"


def deepseek_v4(context: WeightsContext, traits: Traits) -> Blueprint:
    """Layers compress by the ratio that is listed for them; those of ratio 4 have an indexer."""
    text, hidden = context.text, context.hidden
    ratios = text.ints("compress_ratios")
    query_rank = text.positive("q_lora_rank") or 1024
    dim = context.head_dim
    own = context.share(context.heads)
    groups, out_rank = text.positive("o_groups") or 1, text.positive("o_lora_rank") or 1024
    out = context.share(groups * out_rank)
    copies = text.positive("hc_mult") or 4
    connections = copies * copies + 2 * copies
    hashed = text.get_int("num_hash_layers") or 0
    vocabulary = text.positive("vocab_size") or 0
    passed = text.positive("num_experts_per_tok") or 1
    count = expert_count(text)

    def mixer(layer: int) -> list[Module]:
        ratio = ratios[layer] if layer < len(ratios) else 0
        modules: list[Module] = [
            Linear(_ATTENTION, "attn.fused_wqa_wkv", hidden, (query_rank, dim),
                   parts=("wq_a", "wkv")),
            Linear(_ATTENTION, "attn.wq_b", query_rank, (own * dim,)),
            Linear(_ATTENTION, "attn.wo_a", context.heads * dim // groups, (out,)),
            Linear(_ATTENTION, "attn.wo_b", out, (hidden,)),
            Plain("norms", "attn.norms", query_rank + dim),
            Plain(_ATTENTION, "attn.sink", context.heads, 4),
        ]  # fmt: skip
        if ratio > 0:
            modules += compressor(hidden, dim, ratio)
        if ratio == 4:
            index_heads = text.positive("index_n_heads") or 64
            index_dim = text.positive("index_head_dim") or 128
            modules += [
                Linear(_ATTENTION, "attn.indexer.wq_b", query_rank, (index_heads * index_dim,)),
                Plain(_ATTENTION, "attn.indexer.weights_proj", index_heads * hidden),
                *compressor(hidden, index_dim, ratio),
            ]
        return modules

    def ffn(layer: int) -> list[Module]:
        modules: list[Module] = [
            Plain("router", "ffn.gate", count * hidden),
            context.experts("ffn.experts", count, expert_width(text, hidden)),
            *context.mlp("ffn.shared_experts", shared_width(text), item="experts"),
            Plain("norms", "hyper_connections", 2 * connections * (copies * hidden + 1), 4),
        ]
        if layer < hashed:
            modules.append(Plain("router", "ffn.gate.tid2eid", vocabulary * passed, 4))
        else:
            modules.append(Plain("router", "ffn.gate.e_score_correction_bias", count, 4))
        return modules

    rotary = text.positive("qk_rope_head_dim") or 64
    table = (text.positive("max_position_embeddings") or 1 << 20) * rotary * 4
    kinds = len({ratio > 1 for ratio in ratios[: text.num_layers]}) or 1
    found = composed(context, traits, mixer=mixer, ffn=ffn, buffers=[("buffers", table)] * kinds)
    return found


def compressor(hidden: int, dim: int, ratio: int) -> list[Module]:
    """What folds some tokens into one; a ratio of 4 overlaps and is twice as wide."""
    width = dim * (2 if ratio == 4 else 1)
    return [
        Plain(_ATTENTION, "attn.compressor.fused_wkv_wgate", 2 * width * hidden),
        Plain(_ATTENTION, "attn.compressor.ape", ratio * width, 4),
        Plain("norms", "attn.compressor.norm", dim),
    ]

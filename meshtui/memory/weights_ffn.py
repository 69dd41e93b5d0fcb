"""Which layers have experts, and what a layer's feed-forward part is made of.

Sources: the model classes of vLLM 0.32 that are named at each rule.
"""

from meshtui.compat.section import Section
from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_modules import Module, Plain

_EXPERTS = (
    "num_experts",
    "n_routed_experts",
    "num_local_experts",
    "moe_num_experts",
    "num_moe_experts",
)
_MOST_EXPERTS = 1 << 16


def expert_count(text: Section) -> int:
    """Routed experts of a layer; 0 where there are none."""
    named = text.positive(*_EXPERTS)
    if named is None:
        # ERNIE lists one number for text and one for images.
        listed = text.ints("moe_num_experts")
        named = max(listed, default=0)
    return min(named or 0, _MOST_EXPERTS) if (named or 0) > 1 else 0


def is_sparse(text: Section, layer: int) -> bool:
    """Whether a layer has experts (deepseek_v2.py, qwen2_moe.py, llama4.py, jamba.py and
    ernie45_moe.py)."""
    types = text.per_layer("mlp_layer_types")
    if layer < len(types):
        return types[layer] in ("sparse", "moe")
    # The class of Llama 4 fills the list by the step, so that only a written one counts.
    listed = text.ints("moe_layers_enum")
    if isinstance(text.raw.get("moe_layers"), list):
        listed = text.ints("moe_layers")
    if listed:
        return layer in listed
    pattern = text.value("moe_layer_freq")
    if isinstance(pattern, list):
        return layer < len(pattern) and pattern[layer] == 1
    if layer in text.ints("mlp_only_layers"):
        return False
    first = text.get_int("first_k_dense_replace") or text.get_int("num_dense_layers") or 0
    first = max(first, text.get_int("moe_layer_start_index") or 0)
    if layer < first:
        return False
    step = text.positive("interleave_moe_layer_step", "decoder_sparse_step")
    if step is not None:
        return (layer + 1) % step == 0
    every = text.positive("moe_layer_freq", "moe_layer_interval")
    if every is not None:
        return layer % every == 0
    period = text.positive("expert_layer_period")
    if period is not None:
        return layer % period == (text.get_int("expert_layer_offset") or 0)
    return True


def dense_width(text: Section, hidden: int) -> int:
    """The inner size of a plain feed-forward part."""
    if text.model_type == "falcon" and not isinstance(text.raw.get("ffn_hidden_size"), int):
        return 4 * hidden
    named = text.positive(
        "intermediate_size_mlp", "intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner",
        "encoder_ffn_dim",
    )  # fmt: skip
    return named or 4 * hidden


def expert_width(text: Section, hidden: int) -> int:
    """The inner size of one expert."""
    named = text.positive("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size")
    if named is None:
        listed = text.ints("moe_intermediate_size")
        named = max(listed, default=0) or None
    return named or text.positive("intermediate_size", "ffn_hidden_size") or 4 * hidden


def shared_width(text: Section) -> int:
    """The inner size of the experts that every token passes; 0 where there are none."""
    named = text.positive(
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
        "shared_intermediate_size",
    )  # fmt: skip
    if named is not None:
        return named
    count = text.positive("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
    return (count or 0) * expert_width(text, 0)


def sparse(
    context: WeightsContext,
    name: str,
    *,
    gated: bool = True,
    bias: bool = False,
    router_bytes: int | None = None,
    shared: int | None = None,
) -> list[Module]:
    """Router, routed experts and shared ones."""
    text, hidden = context.text, context.hidden
    count = expert_count(text)
    modules: list[Module] = [
        Plain("router", f"{name}.gate", count * hidden, router_bytes),
        context.experts(
            f"{name}.experts", count, expert_width(text, hidden), gated=gated, bias=bias
        ),
    ]
    if bias:
        modules.append(Plain("router", f"{name}.gate.bias", count))
    width = shared_width(text) if shared is None else shared
    single = text.positive("shared_expert_intermediate_size") is not None
    if width:
        modules += context.mlp(
            f"{name}.shared_expert{'' if single else 's'}", width, gated=gated, item="experts"
        )
    if text.get_str("topk_method") == "noaux_tc" or text.has("routed_scaling_factor"):
        modules.append(Plain("router", f"{name}.gate.e_score_correction_bias", count, 4))
    if text.positive("shared_expert_intermediate_size"):
        modules.append(Plain("router", f"{name}.shared_expert_gate", hidden))
    return modules

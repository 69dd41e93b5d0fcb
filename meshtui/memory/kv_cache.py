"""How much GPU memory the KV cache of a model needs, as vLLM computes it, from the configuration.

A request of L tokens needs `bytes per block x sum over the groups of the blocks it holds`; that
is the figure in "To serve at least one request ... X GiB KV cache is needed"
(vllm/v1/core/kv_cache_utils.py, `_max_memory_usage_bytes_from_groups`).
"""

from collections.abc import Callable
from functools import partial

import msgspec

from meshtui.compat.configuration import Configuration
from meshtui.compat.lengths import longest_length, model_length
from meshtui.domain.errors import InvalidInput
from meshtui.domain.text import one_line
from meshtui.memory import kv_attention, kv_encoder_decoder, kv_latent, kv_recurrent
from meshtui.memory.kv_groups import KvGroup, group_layers
from meshtui.memory.kv_model import Family, KvContext, KvModel
from meshtui.memory.kv_tables import entry_of_version, family_of, model_types, pools
from meshtui.memory.settings import ServingSettings

_LONGEST = 1 << 40


def _unknown(context: KvContext) -> KvModel:
    names = ", ".join(context.configuration.architectures)
    raise InvalidInput(
        f"How {one_line(names)} keeps its KV cache is not known.",
        hint="Its weights can be estimated; start it once to see what the engine says.",
    )


FAMILIES: dict[str, Family] = {
    "attention": kv_attention.attention,
    "unknown": _unknown,
    **{
        name: getattr(module, name)
        for module, names in (
            (
                kv_attention,
                ("offset_window", "alternating", "gemma3n", "gemma4", "llama4", "mimo_v2",
                 "step3p5", "interleaved_windows", "own_windows", "padded_mla", "nas", "none"),
            ),
            (kv_latent, ("mla", "double_mla", "typed_mla", "deepseek_v4", "minimax_m3")),
            (
                kv_recurrent,
                ("mamba1", "mamba2", "jamba", "falcon_h1", "granite_hybrid", "nemotron_h",
                 "zamba2", "short_conv", "gated_delta", "lightning", "bailing_linear",
                 "bailing_delta", "kimi_linear"),
            ),
            (kv_encoder_decoder, ("encoder_decoder", "mllama")),
        )
        for name in names
    },
}  # fmt: skip


class KvRank(msgspec.Struct, frozen=True):
    """The part of one pipeline stage: `layers` from `first` on, and its groups."""

    first: int
    after: int
    groups: tuple[KvGroup, ...]

    @property
    def bytes_per_block(self) -> int:
        return max((group.page_bytes for group in self.groups), default=0)

    def bytes_for(self, tokens: int, in_flight: int) -> int:
        return self.bytes_per_block * self.blocks_for(tokens, in_flight)

    def blocks_for(self, tokens: int, in_flight: int) -> int:
        return sum(group.blocks(tokens, in_flight) for group in self.groups if group.layers)


class KvCache(msgspec.Struct, frozen=True, kw_only=True):
    """The KV cache of a served model. All figures are bytes of the largest rank.

    `ranks` are the pipeline stages; `checked` is what one request must fit into, which is all
    layers in older releases. `in_flight` maps a length to the tokens that may be under way;
    `null_blocks` are never handed out. `longest` is the length that the model allows.
    """

    ranks: tuple[KvRank, ...]
    checked: tuple[KvRank, ...]
    in_flight: Callable[[int], int]
    longest: int
    null_blocks: int = 0
    dtype: str = "auto"
    notes: tuple[str, ...] = ()

    @property
    def none(self) -> bool:
        """Whether the model keeps nothing: an encoder, a ranker, a classifier."""
        return all(not rank.groups for rank in self.ranks)

    @property
    def bytes_per_block(self) -> int:
        return max((rank.bytes_per_block for rank in self.ranks), default=0)

    def bytes_for(self, tokens: int) -> int:
        """What one request of that many tokens needs."""
        if self.none or tokens <= 0:
            return 0
        in_flight = self.in_flight(tokens)
        return max(rank.bytes_for(tokens, in_flight) for rank in self.checked)

    def bytes_per_token(self, tokens: int) -> int:
        """The mean over a request of that length, rounded up."""
        return -(-self.bytes_for(tokens) // tokens) if tokens > 0 else 0

    def concurrency(self, pool_bytes: int, tokens: int) -> float:
        """How many requests of that length the pool holds at a time, as vLLM prints it."""
        if self.none or tokens <= 0:
            return float("inf")
        in_flight = self.in_flight(tokens)
        return min(
            (pool_bytes // rank.bytes_per_block) / rank.blocks_for(tokens, in_flight)
            for rank in self.ranks
            if rank.bytes_per_block
        )

    def fits(self, pool_bytes: int, tokens: int) -> bool:
        """Whether one request of that length can be served from the pool."""
        in_flight = self.in_flight(tokens)
        return all(
            rank.bytes_for(tokens, in_flight)
            <= pool_bytes - self.null_blocks * rank.bytes_per_block
            for rank in self.checked
            if rank.groups
        )

    def longest_that_fits(self, pool_bytes: int, limit: int | None = None) -> int:
        """The longest request that the pool holds, at most `limit` (the model's own); 0 if
        none."""
        high = min(limit or self.longest, _LONGEST)
        if self.none:
            return high
        if high < 1 or not self.fits(pool_bytes, 1):
            return 0
        low = 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.fits(pool_bytes, middle):
                low = middle
            else:
                high = middle - 1
        return low


def kv_cache(configuration: Configuration, settings: ServingSettings) -> KvCache:
    """The KV cache of a model under these settings.

    Raises `InvalidInput` where the configuration does not say enough, where the heads cannot be
    shared out over the GPUs, or where the architecture's cache is not known.
    """
    text = configuration.text
    _check_heads(configuration, settings)
    family = _family(configuration)
    pooling = settings.pooling
    if pooling is None:
        pooling = pools(configuration.architectures)
    version = settings.vllm_version
    longest = longest_length(configuration, version) or _LONGEST
    if family == "none" or text.value("is_causal") is False:
        return KvCache(
            ranks=(),
            checked=(),
            in_flight=lambda tokens: 0,
            longest=longest,
        )
    usual = model_length(configuration, version) or _LONGEST
    length = min(settings.max_model_len or usual, _LONGEST)
    context = KvContext(
        configuration=configuration,
        text=text,
        settings=settings,
        kv_dtype=cache_dtype(configuration, settings),
        model_dtype=settings.weights_dtype(configuration, pooling=pooling),
        batch_tokens=settings.batched_tokens(length),
    )
    model = FAMILIES[family](context)
    groups = group_layers(model.layers, packed=model.packed, hybrid=settings.hybrid_kv_cache)
    count = max((index for index, _ in model.layers), default=-1) + 1
    stages = tuple(
        KvRank(first, after, tuple(group.of_layers(first, after) for group in groups))
        for first, after in pipeline_stages(count, settings.pipeline_parallel_size)
        if groups
    )
    whole = entry_of_version("request_check", settings)["layers"] == "model"
    return KvCache(
        ranks=stages,
        checked=(KvRank(0, count, tuple(groups)),) if whole and groups else stages,
        in_flight=partial(_in_flight, settings, length, pooling),
        longest=longest,
        null_blocks=int(entry_of_version("null_block", settings)["blocks"]),
        dtype=context.kv_dtype,
    )


def cache_dtype(configuration: Configuration, settings: ServingSettings) -> str:
    """`--kv-cache-dtype` with `auto` resolved: what the checkpoint asks for, else the model's type
    (`auto`). Sources: vllm/utils/torch_utils.py (`resolve_kv_cache_dtype_string`), attention.py
    (compressed-tensors) and models/config.py (GLM on Blackwell)."""
    if settings.kv_cache_dtype not in ("auto", "", "fp8_ds_mla"):
        return settings.kv_cache_dtype
    if settings.kv_cache_dtype == "fp8_ds_mla":
        return "fp8"
    quantization = configuration.quantization
    asked = quantization.kv_cache if quantization is not None else None
    if (
        quantization is not None
        and asked in ("fp8", "nvfp4")
        and quantization.method.startswith(("modelopt", "compressed-tensors"))
    ):
        return asked
    if "GlmMoeDsaForCausalLM" in configuration.architectures and settings.capability // 10 == 10:
        return "fp8"
    return "auto"


def pipeline_stages(layers: int, stages: int) -> list[tuple[int, int]]:
    """First and last-plus-one layer of each stage (vllm/distributed/utils.py,
    `get_pp_indices`): what is left over goes to the stages before the last, from behind."""
    stages = max(1, min(stages, max(1, layers)))
    sizes = [layers // stages] * stages
    for i in range(layers % stages):
        sizes[-(i + 2) % stages] += 1
    bounds, start = [], 0
    for size in sizes:
        bounds.append((start, start + size))
        start += size
    return bounds


def _family(configuration: Configuration) -> str:
    for architecture in configuration.architectures:
        family = family_of(architecture)
        if family is not None:
            return family
    if configuration.text.model_type in model_types("encoders"):
        return "none"
    if kv_latent_type(configuration):
        return "mla"
    return "attention"


def kv_latent_type(configuration: Configuration) -> bool:
    """Whether an architecture that we do not know has a model type that compresses."""
    text = configuration.text
    return text.model_type in model_types("mla") and text.positive("kv_lora_rank") is not None


def _check_heads(configuration: Configuration, settings: ServingSettings) -> None:
    heads, ranks = configuration.text.num_heads, settings.tensor_parallel_size
    if ranks > 1 and heads % ranks:
        raise InvalidInput(
            f"The model's {heads} attention heads cannot be split over {ranks} GPUs.",
            hint="Choose a tensor parallel size that divides the heads.",
        )


def _in_flight(settings: ServingSettings, length: int, pooling: bool, tokens: int) -> int:
    """Tokens that are scheduled and not settled: a step's, times the steps under way."""
    entry = entry_of_version("window_in_flight", settings)
    one = entry["batches"] == "one" or (pooling and settings.pipeline_parallel_size == 1)
    batches = 1 if one else settings.concurrent_batches()
    return settings.batched_tokens(length) * batches

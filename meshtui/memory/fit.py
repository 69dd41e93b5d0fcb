"""Whether a model fits on GPUs, what it can do there, and what would have to change."""

from collections.abc import Callable, Iterable

import msgspec

from meshtui.compat.configuration import Configuration
from meshtui.compat.lengths import model_length
from meshtui.domain.errors import InvalidInput
from meshtui.domain.memory import GIB, Change, Fit, GpuSpec, Overheads
from meshtui.memory.budget import Budget, WeightsRange, budget
from meshtui.memory.gpus import gpus
from meshtui.memory.kv_cache import KvCache, kv_cache
from meshtui.memory.overhead import overheads
from meshtui.memory.settings import ServingSettings

WeightsOf = Callable[[ServingSettings], WeightsRange]

PARALLEL_SIZES = (1, 2, 4, 8)
# FP8 keys and values: the engine's own kernels need it or emulate it from here on.
_FP8_CAPABILITY = 80
_SHORTEST = 1024
# From here on GPUs compute in bfloat16, which decides the type of weights.
_BFLOAT16_CAPABILITY = 80
# Longer than any step, so that defaults which depend on the GPU show.
_LONG = 1 << 40


class GpuSet(msgspec.Struct, frozen=True, kw_only=True):
    """So many GPUs of one kind."""

    gpu: GpuSpec
    gpu_count: int


def fit(
    configuration: Configuration,
    settings: ServingSettings,
    weights_of: WeightsOf,
    *,
    free_bytes: int | None = None,
    with_changes: bool = True,
) -> Fit:
    """Judges a model under settings that name a GPU.

    `weights_of` gives the weights of one rank for settings. `free_bytes` is what the GPU has free
    now, where that is known. Raises `InvalidInput` as `kv_cache` and `budget` do.
    """
    cache_of_model = kv_cache(configuration, settings)
    length = _length(configuration, settings, cache_of_model)
    shared = budget(settings, weights_of(settings), overheads(configuration, settings, length))
    gpu = settings.gpu
    if gpu is None:
        raise InvalidInput("Which GPU is meant was not said.", hint="Name one, such as A10.")
    pool = shared.pool
    problem = _problem(shared, cache_of_model, length, gpu, free_bytes)
    fits = not problem
    result = Fit(
        gpu=gpu,
        gpu_count=settings.tensor_parallel_size * settings.pipeline_parallel_size,
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        utilization=settings.memory_utilization(),
        requested_bytes=shared.requested_bytes,
        items=shared.items,
        pool=pool,
        max_tokens=length,
        kv_request_bytes=cache_of_model.bytes_for(length),
        kv_bytes_per_token=cache_of_model.bytes_per_token(length),
        longest=_longest(cache_of_model, pool.likely_bytes),
        concurrency=_concurrency(cache_of_model, pool.likely_bytes, length) if fits else 0.0,
        fits=fits,
        surely=fits and _serves(cache_of_model, pool.low_bytes, length),
        hardly=not fits and _serves(cache_of_model, pool.high_bytes, length),
        problem=problem,
    )
    if fits or not with_changes:
        return result
    found = tuple(changes(configuration, settings, weights_of, result))
    return msgspec.structs.replace(result, changes=found)


def smallest_sets(
    configuration: Configuration,
    settings: ServingSettings,
    weights_of: WeightsOf,
    *,
    of: Iterable[GpuSpec] | None = None,
) -> list[GpuSet]:
    """For each GPU the fewest that run the model with these settings, fewest and smallest first.

    GPUs on which no number in `PARALLEL_SIZES` does are left out.
    """
    needs = _Needs(configuration, settings, weights_of)
    found = []
    for gpu in gpus().values() if of is None else of:
        fitting = (ranks for ranks in PARALLEL_SIZES if needs.fit(gpu, ranks))
        fewest = next(fitting, None)
        if fewest is not None:
            found.append(GpuSet(gpu=gpu, gpu_count=fewest))
    found.sort(key=lambda one: (one.gpu_count, one.gpu.memory_bytes, one.gpu.name))
    return found


class _Needs:
    """What one rank needs on GPUs of a kind: the cache, the overheads and the weights are the same
    on all that the engine treats alike, and are computed once."""

    def __init__(
        self, configuration: Configuration, settings: ServingSettings, weights_of: WeightsOf
    ) -> None:
        self._configuration = configuration
        self._settings = settings
        self._weights_of = _by_ranks(weights_of)
        self._known: dict[object, tuple[KvCache, Overheads, int] | None] = {}

    def fit(self, gpu: GpuSpec, ranks: int) -> bool:
        tried = msgspec.structs.replace(
            self._settings, gpu=gpu, tensor_parallel_size=ranks, pipeline_parallel_size=1
        )
        capability = gpu.capability
        alike = (
            ranks,
            capability // 10,
            capability >= _BFLOAT16_CAPABILITY,
            tried.batched_tokens(_LONG),
            tried.sequences(_LONG),
        )
        try:
            if self._is_hopeless(tried, gpu, ranks):
                return False
            if alike not in self._known:
                self._known[alike] = self._of(tried)
            needs = self._known[alike]
            if needs is None:
                return False
            cached, others, length = needs
            shared = budget(tried, self._weights_of(tried), others)
        except InvalidInput:
            self._known.setdefault(alike, None)
            return False
        return not _problem(shared, cached, length, gpu, None)

    def _is_hopeless(self, tried: ServingSettings, gpu: GpuSpec, ranks: int) -> bool:
        """More ranks share the weights out at best: what is replicated comes on top."""
        whole = self._weights_of(msgspec.structs.replace(tried, tensor_parallel_size=1))
        return whole.likely_bytes // ranks > gpu.memory_bytes

    def _of(self, tried: ServingSettings) -> tuple[KvCache, Overheads, int]:
        cached = kv_cache(self._configuration, tried)
        length = _length(self._configuration, tried, cached)
        return cached, overheads(self._configuration, tried, length), length


def changes(
    configuration: Configuration,
    settings: ServingSettings,
    weights_of: WeightsOf,
    failed: Fit,
) -> list[Change]:
    """What would make the model fit, one setting changed at a time; each was tried."""
    found: list[Change] = []
    weights_once = _by_ranks(weights_of)
    if failed.longest >= _SHORTEST and failed.longest < failed.max_tokens:
        found.append(
            Change(
                name="shorter-length",
                message=f"Allow at most {failed.longest:,} tokens instead of "
                f"{failed.max_tokens:,}.",
                value=str(failed.longest),
            )
        )

    def works(**changed: object) -> bool:
        tried = msgspec.structs.replace(settings, **changed)
        try:
            return fit(configuration, tried, weights_once, with_changes=False).fits
        except InvalidInput:
            return False

    if (
        settings.kv_cache_dtype == "auto"
        and settings.capability >= _FP8_CAPABILITY
        and works(kv_cache_dtype="fp8")
    ):
        found.append(
            Change(
                name="fp8-kv-cache",
                message="Keep the KV cache in FP8, half the size.",
                value="fp8",
            )
        )
    if works(max_num_seqs=16, max_num_batched_tokens=2048):
        found.append(
            Change(
                name="smaller-batches",
                message="Serve at most 16 requests in steps of 2,048 tokens, which takes less "
                "memory for activations.",
                value="16",
            )
        )
    more = next(
        (
            ranks
            for ranks in PARALLEL_SIZES
            if ranks > settings.tensor_parallel_size and works(tensor_parallel_size=ranks)
        ),
        None,
    )
    if more is not None:
        found.append(
            Change(
                name="more-gpus",
                message=f"Split the model over {more} of these GPUs.",
                value=str(more),
            )
        )
    larger = next(
        (
            gpu
            for gpu in gpus().values()
            if gpu.memory_bytes > failed.gpu.memory_bytes and works(gpu=gpu)
        ),
        None,
    )
    if larger is not None:
        found.append(
            Change(
                name="larger-gpu",
                message=f"Use a GPU with {larger.memory_gib:.0f} GiB, such as {larger.label}.",
                value=larger.name,
            )
        )
    if configuration.quantization is None:
        found.append(
            Change(
                name="quantized-sibling",
                message="Look for a version of the model that is quantized to FP8 or 4 bits.",
            )
        )
    return found


def _length(configuration: Configuration, settings: ServingSettings, cached: KvCache) -> int:
    usual = model_length(configuration, settings.vllm_version)
    length = settings.max_model_len or usual or cached.longest
    if length <= 0:
        raise InvalidInput("A length of at least one token is needed.")
    return length


def _problem(
    shared: Budget, cached: KvCache, length: int, gpu: GpuSpec, free_bytes: int | None
) -> str:
    if free_bytes is not None and free_bytes < shared.requested_bytes:
        return (
            f"{free_bytes / GIB:.1f} GiB of the GPU are free, and the server would ask for "
            f"{shared.requested_bytes / GIB:.1f} GiB."
        )
    if length > cached.longest:
        return f"The model allows {cached.longest:,} tokens, not {length:,}."
    pool = shared.pool.likely_bytes
    if shared.items[0].likely_bytes > gpu.memory_bytes:
        return (
            f"The weights alone take {shared.items[0].likely_bytes / GIB:.1f} GiB of a GPU with "
            f"{gpu.memory_gib:.1f} GiB."
        )
    if pool <= 0:
        return "Nothing is left for the KV cache beside weights and activations."
    if not _serves(cached, pool, length):
        return (
            f"One request of {length:,} tokens needs {cached.bytes_for(length) / GIB:.2f} GiB of "
            f"KV cache, and {pool / GIB:.2f} GiB are left."
        )
    return ""


def _serves(cached: KvCache, pool_bytes: int, length: int) -> bool:
    return pool_bytes > 0 and (cached.none or cached.fits(pool_bytes, length))


def _longest(cached: KvCache, pool_bytes: int) -> int:
    return cached.longest_that_fits(pool_bytes) if pool_bytes > 0 else 0


def _concurrency(cached: KvCache, pool_bytes: int, length: int) -> float:
    return 0.0 if cached.none else round(cached.concurrency(pool_bytes, length), 2)


def _by_ranks(weights_of: WeightsOf) -> WeightsOf:
    """Weights depend on the ranks and hardly on the GPU: one estimate for each number of ranks
    and first digit of the compute capability."""
    kept: dict[tuple[int, int], WeightsRange] = {}

    def once(settings: ServingSettings) -> WeightsRange:
        key = (settings.tensor_parallel_size, settings.capability // 10)
        if key not in kept:
            kept[key] = weights_of(settings)
        return kept[key]

    return once

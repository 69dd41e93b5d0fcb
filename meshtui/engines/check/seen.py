"""Puts what servers logged in the place of what was estimated."""

import msgspec

from meshtui.compat.configuration import Configuration
from meshtui.domain.memory import GIB, Fit, MemoryItem
from meshtui.domain.text import one_line
from meshtui.engines.check.case import Case
from meshtui.engines.measured import Case as MeasuredCase
from meshtui.engines.measured import Measured, minor_release
from meshtui.memory.kv_cache import kv_cache
from meshtui.memory.settings import ServingSettings
from meshtui.memory.weights import Weights


def measured_for(model: str, case: Case) -> Measured | None:
    """What a server of that model logged on such GPUs, under such a release of vLLM."""
    if case.gpu is None or case.setting.vllm_version is None:
        return None
    return case.place.seen(
        MeasuredCase(
            model=model,
            gpu=case.gpu.label,
            gpu_count=case.setting.tensor_parallel_size,
            engine_version=minor_release(case.setting.vllm_version),
            quantization=case.setting.quantization,
        )
    )


def measured_weights(seen: Measured) -> Weights:
    """Weights without an interval."""
    version = one_line(seen.case.engine_version, 20)
    item = MemoryItem.exact("weights", seen.weights_bytes, f"logged by vLLM {version} here")
    return Weights(
        low_bytes=seen.weights_bytes,
        likely_bytes=seen.weights_bytes,
        high_bytes=seen.weights_bytes,
        items=(item,),
        source="log",
    )


def with_measured_pool(
    found: Fit, seen: Measured, configuration: Configuration, serving: ServingSettings
) -> Fit:
    """The fit with the pool that was logged, where batches and shares are those of then. Raises
    `InvalidInput` as `kv_cache` does."""
    asked = (
        serving.max_num_seqs,
        serving.max_num_batched_tokens,
        serving.gpu_memory_utilization,
    )
    if seen.pool_bytes is None or any(one is not None for one in asked):
        return found
    cache = kv_cache(configuration, serving)
    pool, length = seen.pool_bytes, found.max_tokens
    serves = length <= cache.longest and (cache.none or cache.fits(pool, length))
    overhead = max(0, found.requested_bytes - seen.weights_bytes - pool)
    problem = ""
    if not serves:
        problem = (
            f"One request of {length:,} tokens needs {cache.bytes_for(length) / GIB:.2f} GiB of KV "
            f"cache; {pool / GIB:.2f} GiB were left when it ran here."
        )
    elif "are free" in found.problem:
        problem = found.problem
    beside = MemoryItem.exact("overhead", overhead, "what the server's share held beside them")
    fits = not problem
    return msgspec.structs.replace(
        found,
        items=(found.items[0], msgspec.structs.replace(beside, measured=True)),
        pool=msgspec.structs.replace(MemoryItem.exact("kv_pool", pool), measured=True),
        longest=cache.longest_that_fits(pool),
        concurrency=round(cache.concurrency(pool, length), 2) if fits and not cache.none else 0.0,
        fits=fits,
        surely=fits,
        hardly=False,
        problem=problem,
        changes=() if fits else found.changes,
    )

"""The budget of one GPU: what is left for the KV cache.

    requested = ceil(total x gpu_memory_utilization)
    pool      = requested - weights - activations - CUDA and NCCL (- CUDA graphs, since 0.21)

Source: vllm/v1/worker/gpu_worker.py, `determine_available_memory`. A server does not start where
less than `requested` is free.
"""

import math
from typing import Protocol

import msgspec

from meshtui.domain.errors import InvalidInput
from meshtui.domain.memory import MemoryItem, Overheads
from meshtui.memory.settings import ServingSettings


class WeightsRange(Protocol):
    """What the weights of one rank take, between two bounds."""

    @property
    def low_bytes(self) -> int: ...

    @property
    def likely_bytes(self) -> int: ...

    @property
    def high_bytes(self) -> int: ...


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU's memory, shared out. `items` are subtracted from `requested_bytes`; `pool` is what
    is left (negative where nothing is)."""

    requested_bytes: int
    items: tuple[MemoryItem, ...]
    pool: MemoryItem


def budget(settings: ServingSettings, weights: WeightsRange, overheads: Overheads) -> Budget:
    """Shares out the memory of the settings' GPU. Raises `InvalidInput` without a GPU or with a
    utilization that vLLM refuses."""
    if settings.gpu is None:
        raise InvalidInput("Which GPU is meant was not said.", hint="Name one, such as A10.")
    share = settings.memory_utilization()
    if not 0 < share <= 1:
        raise InvalidInput(
            f"A GPU memory utilization of {share} is not possible.",
            hint="Use a number above 0 and at most 1.",
        )
    requested = math.ceil(settings.gpu.memory_bytes * share)
    own = MemoryItem(
        name="weights",
        low_bytes=weights.low_bytes,
        likely_bytes=weights.likely_bytes,
        high_bytes=weights.high_bytes,
    )
    items = (own, *overheads.reserved)
    return Budget(
        requested_bytes=requested,
        items=items,
        pool=MemoryItem(
            name="kv_pool",
            low_bytes=requested - sum(item.high_bytes for item in items),
            likely_bytes=requested - sum(item.likely_bytes for item in items),
            high_bytes=requested - sum(item.low_bytes for item in items),
            formula="requested - " + " - ".join(item.name for item in items),
        ),
    )

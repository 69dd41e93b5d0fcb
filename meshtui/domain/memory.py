"""GPU memory as everybody sees it: GPUs, what takes memory, and what fits.

All sizes are bytes of one GPU (one rank) unless a name says otherwise.
"""

import msgspec

GIB = 1 << 30


class GpuSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU model.

    `memory_bytes` is what CUDA reports as total, which is less than the label says.
    `capability` is the compute capability times ten (`90` for 9.0). `bandwidth_bytes_s` is the
    memory's. `source` says where the figures are from, and `unsure` that they were not seen on a
    real device.
    """

    name: str
    label: str
    memory_bytes: int
    capability: int
    bandwidth_bytes_s: int = 0
    source: str = ""
    unsure: bool = False

    @property
    def memory_gib(self) -> float:
        return self.memory_bytes / GIB


class MemoryItem(msgspec.Struct, frozen=True, kw_only=True):
    """One part of what a server takes, between `low_bytes` and `high_bytes`. `formula` shows the
    arithmetic, `measured` that the figure was seen and not computed."""

    name: str
    low_bytes: int
    likely_bytes: int
    high_bytes: int
    formula: str = ""
    measured: bool = False

    @classmethod
    def exact(cls, name: str, size_bytes: int, formula: str = "") -> "MemoryItem":
        """A figure without an interval."""
        return cls(
            name=name,
            low_bytes=size_bytes,
            likely_bytes=size_bytes,
            high_bytes=size_bytes,
            formula=formula,
        )


class Overheads(msgspec.Struct, frozen=True, kw_only=True):
    """What a server takes beside weights and KV cache. `graphs` is taken after the pool was
    sized, unless `graphs_reserved`. `known` says that the constants are from logs of the very
    range of versions and kind of GPU."""

    activations: MemoryItem
    non_torch: MemoryItem
    graphs: MemoryItem
    graphs_reserved: bool
    known: bool

    @property
    def reserved(self) -> tuple[MemoryItem, ...]:
        """What is subtracted before the pool is sized."""
        parts = (self.activations, self.non_torch)
        return (*parts, self.graphs) if self.graphs_reserved else parts


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something that would make a model fit. `name` is stable (`shorter-length`, `more-gpus`,
    `fp8-kv-cache`, `smaller-batches`, `larger-gpu`, `quantized-sibling`); `message` is for
    people; `value` is the setting's new value."""

    name: str
    message: str
    value: str = ""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model fits on GPUs, and what it could do there. Sizes are of the largest rank.

    `fits` holds for the likely figures, `surely` also for the worst, and `hardly` is set where
    only the best would do. `pool` is the KV pool; `kv_request_bytes` one request of `max_tokens`.
    `longest` is the longest request that fits, `concurrency` how many of `max_tokens` do at a
    time (0 where none does). `free` is what is left over.
    """

    gpu: GpuSpec
    gpu_count: int
    tensor_parallel_size: int
    pipeline_parallel_size: int
    utilization: float
    requested_bytes: int
    items: tuple[MemoryItem, ...]
    pool: MemoryItem
    max_tokens: int
    kv_request_bytes: int
    kv_bytes_per_token: int
    longest: int
    concurrency: float
    fits: bool
    surely: bool
    hardly: bool
    problem: str = ""
    changes: tuple[Change, ...] = ()

    @property
    def total_bytes(self) -> int:
        """What one GPU must give: all but the pool, and one request."""
        return sum(item.likely_bytes for item in self.items) + self.kv_request_bytes

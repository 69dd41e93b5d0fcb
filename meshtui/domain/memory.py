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

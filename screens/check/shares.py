"""How the memory of a GPU is shared out, as bytes and as cells of a bar."""

from dataclasses import dataclass

from meshtui.domain.check import MemoryReport
from meshtui.domain.memory import MemoryItem

WEIGHTS, KV_CACHE, OTHER, PERHAPS, FREE, KEPT = "█", "▓", "▒", "░", " ", "╱"
LIMIT = "┃"

_WEIGHTS_NAME, _KV_NAMES = "weights", ("kv_cache", "kv_pool", "kv_request", "kv")


@dataclass(frozen=True)
class Range:
    """Bytes between two bounds."""

    low: int
    high: int

    @property
    def is_exact(self) -> bool:
        """As far as two decimals of a GiB show."""
        return self.high - self.low < 5 << 20


@dataclass(frozen=True)
class Shares:
    """What one GPU holds. `other` is all beside weights and one request. `free` is what is left
    of what the server may take (`usable`), negative where it is short; `kept` is left alone."""

    weights: Range
    kv_cache: int
    other: Range
    others: tuple[MemoryItem, ...]
    free: Range
    usable: int | None
    total: int | None
    measured: bool

    @property
    def needed(self) -> Range:
        low = self.weights.low + self.kv_cache + self.other.low
        return Range(low, self.weights.high + self.kv_cache + self.other.high)

    @property
    def kept(self) -> int:
        return max(0, (self.total or 0) - (self.usable or 0))


def shares(memory: MemoryReport) -> Shares:
    """Shares out what the report says. Parts that it lacks count with their likely size."""
    weights = next((part for part in memory.parts if part.name == _WEIGHTS_NAME), None)
    heavy = _range(weights) if weights else Range(memory.weights_bytes, memory.weights_bytes)
    others = tuple(part for part in memory.parts if _is_other(part))
    if others:
        other = Range(
            sum(part.low_bytes for part in others), sum(part.high_bytes for part in others)
        )
    else:
        other = Range(memory.overhead_bytes, memory.overhead_bytes)
    request = memory.kv_cache_bytes_per_request
    total = memory.gpu_bytes
    usable = memory.usable_bytes if memory.usable_bytes is not None else total
    room = usable or 0
    free = Range(room - heavy.high - request - other.high, room - heavy.low - request - other.low)
    measured = memory.measured or any(part.measured for part in memory.parts)
    return Shares(heavy, request, other, others, free, usable, total, measured)


def _range(part: MemoryItem) -> Range:
    return Range(part.low_bytes, max(part.low_bytes, part.high_bytes))


def _is_other(part: MemoryItem) -> bool:
    return part.name != _WEIGHTS_NAME and part.name not in _KV_NAMES


@dataclass(frozen=True)
class Run:
    """Cells of the same kind. `beyond`: they lie where the GPU has nothing left to give."""

    sign: str
    cells: int
    beyond: bool = False

    @property
    def text(self) -> str:
        return self.sign * self.cells


def bar(found: Shares, cells: int) -> list[Run]:
    """The memory in `cells` cells: the whole GPU, or all that is needed where that is more. Where
    something is short, a mark stands where the server's memory ends."""
    needed = found.needed
    whole = max(found.total or 0, needed.high, 1)
    short = found.usable is not None and needed.high > found.usable
    limit = _cell(found.usable or 0, whole, cells) if short else None
    ends = []
    reached = 0
    for sign, size in (
        (WEIGHTS, found.weights.low),
        (KV_CACHE, found.kv_cache),
        (OTHER, found.other.low),
        (PERHAPS, needed.high - needed.low),
        (FREE, max(0, (found.usable or 0) - needed.high)),
        (KEPT, max(0, (found.total or 0) - max(found.usable or 0, needed.high))),
    ):
        reached += size
        ends.append((sign, _cell(reached, whole, cells)))
    # Rounding may leave a cell: it goes to what comes last.
    if ends and ends[-1][1] < cells and found.total is not None and not short:
        ends[-1] = (ends[-1][0], cells)
    return _runs(ends, None if limit is None else min(limit, cells - 1))


def _is_beyond(sign: str, at: int, limit: int | None) -> bool:
    return sign not in (FREE, KEPT) and limit is not None and at > limit


def _cell(size: int, whole: int, cells: int) -> int:
    return round(cells * size / whole)


def _runs(ends: list[tuple[str, int]], limit: int | None) -> list[Run]:
    runs: list[Run] = []
    at = 0
    for sign, end in ends:
        if limit is not None and at <= limit < end:
            runs.append(Run(sign, limit - at))
            runs.append(Run(LIMIT, 1, beyond=True))
            at = limit + 1
        if end > at:
            runs.append(Run(sign, end - at, beyond=_is_beyond(sign, at, limit)))
            at = end
    return [run for run in runs if run.cells]

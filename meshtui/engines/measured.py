"""What our own servers logged of their memory: better than any estimate of the same case."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec

from meshtui.domain.memory import GIB
from meshtui.settings.shipped import release, toml_data

_MOST_KEPT = 500
_MOST_BYTES = 4 * 1024 * 1024
# A number of a log beyond that is none of a GPU.
_MOST_GIB = 10_000.0


class Case(msgspec.Struct, frozen=True):
    """What a measurement holds for: `gpu` is its label, `engine_version` vLLM's release."""

    model: str
    gpu: str
    gpu_count: int
    engine_version: str
    quantization: str | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one GPU: weights of the largest rank, the smallest KV pool, CUDA graphs."""

    case: Case
    weights_bytes: int
    pool_bytes: int | None = None
    graphs_bytes: int | None = None
    at: float = 0.0


def read_measured(case: Case, lines: Iterable[str], at: float) -> Measured | None:
    """What the log of a start says; None where it says nothing of weights."""
    seen: dict[str, list[float]] = {}
    for line in lines:
        for name, pattern in _patterns().items():
            if match := pattern.search(line):
                value = float(match["value"]) if match["value"].count(".") < 2 else 0.0
                if 0 < value < _MOST_GIB:
                    seen.setdefault(name, []).append(value)
    if "weights_gib" not in seen:
        return None
    pool, graphs = seen.get("pool_gib"), seen.get("graphs_gib")
    return Measured(
        case=case,
        weights_bytes=int(max(seen["weights_gib"]) * GIB),
        pool_bytes=int(min(pool) * GIB) if pool else None,
        graphs_bytes=int(max(graphs) * GIB) if graphs else None,
        at=at,
    )


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    table = toml_data("engines/vllm.toml")["measured"]
    return {name: re.compile(pattern) for name, pattern in table.items()}


class MeasuredStore:
    """A file of measurements, the newest of each case. Methods block for a moment; what cannot be
    read counts as none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[Case, Measured] | None = None

    def find(self, case: Case) -> Measured | None:
        return self._all().get(case)

    def put(self, measured: Measured) -> None:
        """Raises `OSError` where it cannot be written."""
        known = {**self._all(), measured.case: measured}
        newest = sorted(known.values(), key=lambda one: -one.at)[:_MOST_KEPT]
        self._known = {one.case: one for one in newest}
        beside = self._path.with_name(self._path.name + ".new")
        beside.write_bytes(msgspec.json.encode(newest))
        beside.replace(self._path)

    def _all(self) -> dict[Case, Measured]:
        if self._known is None:
            try:
                with self._path.open("rb") as file:
                    found = msgspec.json.decode(file.read(_MOST_BYTES), type=list[Measured])
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
                found = []
            self._known = {one.case: one for one in found}
        return self._known


def minor_release(version: str) -> str:
    """`0.32` for `0.32.0+cpu`: patch releases are measured alike."""
    return ".".join(map(str, release(version)[:2]))

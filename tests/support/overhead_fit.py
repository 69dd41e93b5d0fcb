"""The fit of the overhead constants, and how far it is off for models that it did not see."""

from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any

import msgspec

from meshtui.domain.memory import GIB
from meshtui.memory.overhead import (
    Shapes,
    Terms,
    activation_bytes,
    non_torch_gib,
    shapes,
    terms,
)
from tests.support.memory_data import Record

Fitted = dict[str, Any]

# What a step holds at its widest: the MLP's two halves and their product, and hidden states beside
# it. The number of those is fitted; this is the value without a record that shows it.
_FORWARD_MLP = 3.0
_FORWARD_HIDDEN = 4.0
_FLOOR_GIB = 0.1
_ELSEWHERE_GIB = 1.0
_H100 = 90


class LeftOut(msgspec.Struct, frozen=True):
    """A figure of a model that the fit did not see, in GiB."""

    model: str
    version: tuple[int, ...]
    part: str
    predicted: float
    seen: float


class Seen(msgspec.Struct, frozen=True):
    """A record with its sizes."""

    record: Record
    sizes: Shapes
    parts: Terms


def usable(records: Sequence[Record]) -> list[Seen]:
    """Records on a Hopper GPU that show what activations took, of versions with such logs."""
    found = []
    for record in records:
        if (
            record.configuration is None
            or record.gib("peak_activation_gib") is None
            or record.settings.capability != _H100
            or not (0, 11) <= record.version < (0, 21)
        ):
            continue
        length = record.settings.max_model_len or 8192
        sizes = shapes(record.configuration, record.settings, length)
        found.append(Seen(record, sizes, terms(sizes)))
    return found


def fit(records: Sequence[Record], errors: Sequence[LeftOut]) -> list[Fitted]:
    """All ranges, newest first. `errors` give the intervals."""
    new, old = _constants(records, since=(0, 17)), _constants(records, since=(0, 11))
    spread = max(_FLOOR_GIB, _largest(errors, "activations"))
    outside = max(_FLOOR_GIB, _usual(errors, "non_torch"))
    common = {
        "spread_gib": round(spread, 2),
        "spread_elsewhere_gib": _ELSEWHERE_GIB,
        "non_torch_spread_gib": round(outside, 2),
    }
    reserved = _graphs(records, "cudagraph_estimated_gib")
    taken = _graphs(records, "cudagraph_gib")
    return [
        {"since": "0.21", "unmeasured": True, **new, **reserved, **common, "graphs_reserved": True},
        {"since": "0.17", "unmeasured": False, **new, **taken, **common, "graphs_reserved": False},
        {"since": "0.11", "unmeasured": False, **old, **taken, **common, "graphs_reserved": False},
        {"unmeasured": True, **old, **taken, **common, "graphs_reserved": False},
    ]


def left_out_errors(records: Sequence[Record]) -> list[LeftOut]:
    """For each model: the constants from all others, and what they predict for it."""
    errors = []
    for seen in usable(records):
        record = seen.record
        others = [other for other in records if _family(other) != _family(record)]
        since = (0, 17) if record.version >= (0, 17) else (0, 11)
        constants = _constants(others, since=since)
        predicted = activation_bytes(seen.parts, seen.sizes, constants) / GIB
        errors.append(_error(record, "activations", predicted, "peak_activation_gib"))
        if record.gib("non_torch_gib") is not None:
            outside = non_torch_gib(constants, record.settings)
            errors.append(_error(record, "non_torch", outside, "non_torch_gib"))
    return errors


def logged_weights(record: Record) -> float | None:
    """What a log says that loading took, in GiB."""
    return record.gib("weights_gib")


def left_out_pools(
    records: Sequence[Record], weights_of: Callable[[Record], float | None] = logged_weights
) -> list[LeftOut]:
    """The KV pool of each start on a GPU and release that the fit covers, from the weights (GiB)
    that `weights_of` gives and constants that were fitted without the model."""
    found = []
    for record in records:
        pool = record.gib("available_kv_gib")
        weights = weights_of(record) if record.gib("weights_gib") is not None else None
        settings, configuration = record.settings, record.configuration
        if configuration is None or weights is None or pool is None or not record.started:
            continue
        if settings.gpu is None or settings.capability != _H100:
            continue
        if not (0, 11) <= record.version < (0, 21):
            continue
        if _contradicts_itself(record):
            continue
        others = [other for other in records if _family(other) != _family(record)]
        since = (0, 17) if record.version >= (0, 17) else (0, 11)
        constants = _constants(others, since=since)
        sizes = shapes(configuration, settings, settings.max_model_len or 8192)
        peak = activation_bytes(terms(sizes), sizes, constants) / GIB
        requested = settings.gpu.memory_gib * settings.memory_utilization()
        rest = requested - weights - peak - non_torch_gib(constants, settings)
        found.append(LeftOut(record.model, record.version, "kv_pool", rest, pool))
    return found


def _contradicts_itself(record: Record) -> bool:
    """Whether a log's parts do not add up to its pool: its utilization was noted wrongly."""
    parts = [record.gib(n) for n in ("weights_gib", "peak_activation_gib", "non_torch_gib")]
    pool, gpu = record.gib("available_kv_gib"), record.settings.gpu
    if pool is None or gpu is None or None in parts:
        return False
    left = gpu.memory_gib * record.settings.memory_utilization() - sum(p or 0.0 for p in parts)
    return abs(left - pool) > 0.2


def _error(record: Record, part: str, predicted: float, name: str) -> LeftOut:
    return LeftOut(record.model, record.version, part, predicted, record.gib(name) or 0.0)


def _family(record: Record) -> str:
    """Records of one model, be it quantized or not, are left out together."""
    if record.configuration is None:
        return record.model
    text = record.configuration.text
    return f"{text.model_type}-{text.get_int('hidden_size')}-{text.get_int('num_hidden_layers')}"


def _largest(errors: Sequence[LeftOut], part: str) -> float:
    return max((abs(e.predicted - e.seen) for e in errors if e.part == part), default=0.0)


def _usual(errors: Sequence[LeftOut], part: str) -> float:
    """What nine of ten stay below."""
    sizes = sorted(abs(e.predicted - e.seen) for e in errors if e.part == part)
    return sizes[int(len(sizes) * 0.9)] if sizes else 0.0


def _constants(records: Sequence[Record], *, since: tuple[int, int]) -> Fitted:
    """The constants of the range that starts there. The older one shows only that the sampler
    took more; the rest is taken from the newer one."""
    rows = usable(records)
    newer = [row for row in rows if row.record.version >= (0, 17)]
    plain = [row for row in newer if _plain(row) and _sampler_wins(row)]
    logits, hidden, base = _least_squares(
        [(r.parts.logits / GIB, r.parts.hidden / GIB, 1.0) for r in plain],
        [_peak(r) for r in plain],
    )
    steps = [row for row in newer if _plain(row) and not _sampler_wins(row)]
    forward = [
        (_peak(r) - _FORWARD_MLP * r.parts.mlp / GIB) / (r.parts.hidden / GIB) for r in steps
    ]
    found: Fitted = {
        "sampler_logits": round(logits, 3),
        "sampler_hidden": round(hidden, 2),
        "base_gib": round(base, 3),
        "forward_mlp": _FORWARD_MLP,
        "forward_hidden": round(fmean(forward), 2) if forward else _FORWARD_HIDDEN,
        "experts": 0.0,
        "vision_gib": 0.0,
        "pipeline_gib": 0.0,
    }
    found["vision_gib"] = _beside(newer, found, lambda r: r.sizes.vision and not r.sizes.experts)
    found["pipeline_gib"] = _beside(newer, found, lambda r: r.sizes.pipeline_parallel > 1)
    mixtures = [r for r in newer if r.sizes.experts and r.sizes.pipeline_parallel == 1]
    if mixtures:
        found["experts"] = round(
            sum(_rest(r, found) * r.parts.experts / GIB for r in mixtures)
            / sum((r.parts.experts / GIB) ** 2 for r in mixtures),
            2,
        )
    if since < (0, 17):
        older = [row for row in rows if row.record.version < (0, 17)]
        ratios = [
            (_peak(r) - hidden * r.parts.hidden / GIB - base) / (r.parts.logits / GIB)
            for r in older
        ]
        if ratios:
            found["sampler_logits"] = round(median(ratios), 3)
    newest = since >= (0, 17)
    return found | _outside([r for r in records if (r.version >= (0, 17)) == newest], records)


def _outside(records: Sequence[Record], fallback: Sequence[Record]) -> Fitted:
    """What CUDA and NCCL took, by the number of ranks that share a layer. It does not depend on
    the model."""
    sizes: dict[str, float] = {}
    for ranks in (1, 2, 4):
        seen = _non_torch(records, ranks, 1)
        if not seen and ranks == 1:
            seen = _non_torch(fallback, ranks, 1)
        if seen:
            sizes[str(ranks)] = round(median(seen), 2)
    pipelined = _non_torch(records, 1, 2) or _non_torch(fallback, 1, 2)
    return {
        "non_torch_gib": sizes,
        "non_torch_pipeline_gib": round(median(pipelined), 2) if pipelined else sizes["1"],
    }


def _non_torch(records: Sequence[Record], tensor: int, pipeline: int) -> list[float]:
    return [
        gib
        for record in records
        if record.settings.capability == _H100
        and (0, 11) <= record.version < (0, 21)
        and record.settings.tensor_parallel_size == tensor
        and record.settings.pipeline_parallel_size == pipeline
        and (gib := record.gib("non_torch_gib")) is not None
    ]


def _graphs(records: Sequence[Record], name: str) -> Fitted:
    """A constant and a share for each layer, and how far single logs are from that."""
    rows = [
        (float(layers), gib)
        for record in records
        if record.configuration is not None
        and record.version >= (0, 17)
        and record.settings.pipeline_parallel_size == 1
        and (gib := record.gib(name)) is not None
        and (layers := record.configuration.text.get_int("num_hidden_layers"))
    ]
    slope, base = _least_squares([(layers, 1.0) for layers, _ in rows], [gib for _, gib in rows])
    errors = sorted(abs(base + slope * layers - gib) for layers, gib in rows)
    return {
        "graphs_gib": round(base, 2),
        "graphs_layer_gib": round(slope, 4),
        "graphs_spread_gib": round(errors[int(len(errors) * 0.9)], 2),
    }


def _plain(row: Seen) -> bool:
    sizes = row.sizes
    usual = sizes.element_bytes == 2 and sizes.pipeline_parallel == 1
    return usual and not sizes.vision and not sizes.experts


def _sampler_wins(row: Seen) -> bool:
    """Whether the sampler surely took more than a step: its logits outweigh the MLP."""
    return row.parts.logits > row.parts.mlp * 0.9


def _peak(row: Seen) -> float:
    return row.record.gib("peak_activation_gib") or 0.0


def _rest(row: Seen, constants: Fitted) -> float:
    return _peak(row) - activation_bytes(row.parts, row.sizes, constants) / GIB


def _beside(rows: Sequence[Seen], constants: Fitted, fits: Any) -> float:
    rest = [_rest(r, constants) for r in rows if fits(r) and r.sizes.element_bytes == 2]
    return round(max(0.0, median(rest)), 2) if rest else 0.0


def _least_squares(rows: Sequence[Sequence[float]], seen: Sequence[float]) -> list[float]:
    """The coefficients that fit best, by Gauss on the normal equations."""
    size = len(rows[0])
    table = [
        [sum(row[i] * row[j] for row in rows) for j in range(size)]
        + [sum(row[i] * value for row, value in zip(rows, seen, strict=True))]
        for i in range(size)
    ]
    for i in range(size):
        pivot = max(range(i, size), key=lambda k: abs(table[k][i]))
        table[i], table[pivot] = table[pivot], table[i]
        for k in range(size):
            if k != i:
                factor = table[k][i] / table[i][i]
                table[k] = [a - factor * b for a, b in zip(table[k], table[i], strict=True)]
    return [table[i][size] / table[i][i] for i in range(size)]

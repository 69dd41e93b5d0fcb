"""How near the estimates come to vLLM's own answers and to logs, as tables."""

from collections.abc import Sequence
from statistics import fmean, median

import msgspec

from meshtui.domain.errors import InvalidInput
from meshtui.domain.memory import GIB
from meshtui.memory.gpus import gpus
from meshtui.memory.kv_cache import kv_cache
from meshtui.memory.settings import ServingSettings
from meshtui.memory.weights import estimate_weights
from tests.support.memory_data import Record, configuration, oracle_rows, records
from tests.support.overhead_fit import LeftOut, left_out_errors, left_out_pools


class Accuracy(msgspec.Struct, frozen=True):
    """Relative errors in per cent of one quantity, and of how many models."""

    what: str
    errors: tuple[float, ...]
    models: int

    @property
    def line(self) -> tuple[str, ...]:
        absolute = sorted(abs(error) for error in self.errors)
        return (
            self.what,
            f"{len(absolute)} of {self.models} models",
            f"{median(absolute):.3f} %",
            f"{fmean(absolute):.3f} %",
            f"{absolute[-1]:.3f} %",
        )


def kv_of_requests(lengths: Sequence[int] | None = None) -> Accuracy:
    """KV bytes of one request, against vLLM 0.32 itself."""
    errors: list[float] = []
    models = set()
    for row in oracle_rows():
        found = configuration(row["model"])
        assert found is not None
        if not row.get("kv_needed"):
            continue
        cached = kv_cache(
            found,
            ServingSettings(
                gpu=gpus()[row["gpu"]], vllm_version=row["vllm"], tensor_parallel_size=row["tp"]
            ),
        )
        for length, needed in row["kv_needed"].items():
            if lengths is None or int(length) in lengths:
                errors.append((cached.bytes_for(int(length)) / needed - 1) * 100)
                models.add(row["model"])
    return Accuracy("KV cache of a request", tuple(errors), len(models))


def weights_of_engine() -> Accuracy:
    """Parameters and buffers of one rank, against vLLM 0.32 itself."""
    errors: list[float] = []
    models = set()
    for row in oracle_rows():
        found = configuration(row["model"])
        if "param_bytes" not in row or found is None:
            continue
        settings = ServingSettings(
            gpu=gpus()[row["gpu"]], vllm_version=row["vllm"], tensor_parallel_size=row["tp"]
        )
        # What is added when the weights are there is not in the engine's figure.
        after = ("allocator", "repacking")
        items = estimate_weights(found, settings).items
        size = sum(item.likely_bytes for item in items if item.name not in after)
        errors.append((size / (row["param_bytes"] + row["buffer_bytes"]) - 1) * 100)
        models.add(row["model"])
    return Accuracy("Weights of a rank", tuple(errors), len(models))


def weights_of_logs() -> Accuracy:
    """What "Model loading took" says, against the estimate from the configuration alone."""
    errors: list[float] = []
    models = set()
    for record in records():
        seen = record.gib("weights_gib")
        if seen is None or record.configuration is None:
            continue
        size = estimate_weights(record.configuration, weights_settings(record)).likely_bytes
        errors.append((size / GIB / seen - 1) * 100)
        models.add(record.model)
    return Accuracy("Model loading took", tuple(errors), len(models))


def weights_settings(record: Record) -> ServingSettings:
    """A log's settings, with the quantization that it asked for beyond the checkpoint's own."""
    known = record.configuration
    if known is None or known.quantization is not None or not record.said.get("quantization"):
        return record.settings
    return msgspec.structs.replace(record.settings, quantization=record.said["quantization"])


def concurrencies() -> Accuracy:
    """Requests at a time in the logged pool, against what the log prints."""
    errors: list[float] = []
    models = set()
    for record in records():
        printed, pool = record.gib("max_concurrency"), record.gib("available_kv_gib")
        length = record.said.get("max_model_len")
        staged = record.settings.pipeline_parallel_size > 1
        if printed is None or pool is None or length is None or staged or not record.started:
            continue
        if record.configuration is None or record.settings.gpu is None:
            continue
        cached = kv_cache(record.configuration, record.settings)
        errors.append((cached.concurrency(int(pool * GIB), length) / printed - 1) * 100)
        models.add(record.model)
    return Accuracy("Concurrency in a logged pool", tuple(errors), len(models))


def of_left_out(what: str, found: Sequence[LeftOut]) -> Accuracy:
    return Accuracy(
        what,
        tuple((one.predicted / one.seen - 1) * 100 for one in found if one.seen),
        len({one.model for one in found}),
    )


def pools() -> Accuracy:
    return of_left_out("KV pool, model left out", left_out_pools(records()))


def pools_with_weights() -> Accuracy:
    """The whole budget: weights from the configuration, the rest from constants that did not see
    the model."""
    return of_left_out(
        "KV pool, weights estimated too", left_out_pools(records(), estimated_weights)
    )


def estimated_weights(record: Record) -> float | None:
    """The weights of a log's model in GiB, from its configuration; None where that is not known."""
    if record.configuration is None:
        return None
    try:
        return estimate_weights(record.configuration, weights_settings(record)).likely_bytes / GIB
    except InvalidInput:
        return None


def activations() -> Accuracy:
    found = [one for one in left_out_errors(records()) if one.part == "activations"]
    return of_left_out("Activations, model left out", found)


class Verdict(msgspec.Struct, frozen=True):
    """Whether a server would start, and whether it did."""

    model: str
    predicted: bool
    started: bool

    @property
    def right(self) -> bool:
        return self.predicted == self.started


def verdicts() -> list[Verdict]:
    """Of each log that gives enough to say: from estimated weights and the constants that did not
    see the model where the GPU is known, else from the pool that the log prints."""
    predicted_pools = {
        (one.model, one.version, one.seen): one.predicted
        for one in left_out_pools(records(), estimated_weights)
    }
    found = []
    for record in records():
        length = record.said.get("max_model_len") or record.said.get("kv_needed_at_len")
        seen = record.gib("available_kv_gib")
        pool = predicted_pools.get((record.model, record.version, seen or 0.0), seen)
        starts = _starts(record, pool, length)
        if starts is not None:
            found.append(Verdict(record.model, starts, record.started))
    return found


def _starts(record: Record, pool_gib: float | None, length: int | None) -> bool | None:
    free, gpu = record.gib("free_gib"), record.settings.gpu
    asked = gpu.memory_gib * record.settings.memory_utilization() if gpu is not None else 0.0
    if free is not None and free < asked:
        return False
    if pool_gib is None:
        return None
    if pool_gib <= 0:
        return False
    if record.configuration is None or length is None:
        return None
    try:
        cached = kv_cache(record.configuration, record.settings)
    except InvalidInput:
        return False
    return length <= cached.longest and cached.fits(int(pool_gib * GIB), length)


def table(rows: Sequence[Accuracy]) -> str:
    lines = [("", "figures", "median", "mean", "worst"), *(row.line for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )

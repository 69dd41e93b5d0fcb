"""How much memory a model takes in its case, and what would make it fit."""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from meshtui.compat.lengths import model_length
from meshtui.compat.rules.gpu import gpu as gpu_rule
from meshtui.compat.rules.parallel import tensor_parallel
from meshtui.compat.rules.quantization import quantization
from meshtui.compat.subject import Subject
from meshtui.domain.check import MemoryReport
from meshtui.domain.errors import InvalidInput
from meshtui.domain.finding import Level
from meshtui.domain.memory import GIB, Change, Fit, GpuSpec, MemoryItem
from meshtui.engines.check.case import Case
from meshtui.engines.check.seen import measured_for, measured_weights, with_measured_pool
from meshtui.engines.exact import ExactAnswer
from meshtui.engines.measured import Measured
from meshtui.memory.fit import PARALLEL_SIZES, fit, smallest_sets
from meshtui.memory.gpus import gpus
from meshtui.memory.kv_cache import KvCache, kv_cache
from meshtui.memory.overhead import overheads
from meshtui.memory.settings import ServingSettings
from meshtui.memory.weights import Weights

WeightsOf = Callable[[ServingSettings], Weights]

_MOST_ALTERNATIVES = 12
# Parts of the weights that are worth a word, and how many of them.
_SHOWN_BYTES = GIB // 200
_MOST_SHOWN = 8


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """The report, the fit on the GPU that is meant (None without one), and what would change it."""

    report: MemoryReport
    fit: Fit | None = None
    changes: tuple[Change, ...] = ()


def judge(subject: Subject, case: Case, weights_of: WeightsOf) -> Judged:
    """The memory of one rank. Raises `InvalidInput` where the configuration does not say enough or
    where the model cannot be split so."""
    configuration, serving = subject.configuration, case.serving
    if case.gpu is None:
        return Judged(report=_without_gpu(subject, case, weights_of))
    exact = case.place.exact
    if isinstance(exact, ExactAnswer):
        weights_of = _with_exact(weights_of, exact, serving.tensor_parallel_size)
    seen = measured_for(subject.name, case)
    if seen is not None:
        weights_of = _with_seen(weights_of, seen, serving.tensor_parallel_size)
    found = fit(configuration, serving, weights_of, free_bytes=case.free_bytes)
    if seen is not None:
        found = with_measured_pool(found, seen, configuration, serving)
    first, *others = found.items
    reckoned = weights_of(serving)
    weights = msgspec.structs.replace(
        first, formula=weights_words(reckoned), measured=seen is not None
    )
    report = MemoryReport(
        weights_bytes=weights.likely_bytes,
        kv_cache_bytes_per_token=found.kv_bytes_per_token,
        kv_cache_bytes_per_request=found.kv_request_bytes,
        max_tokens=found.max_tokens,
        overhead_bytes=sum(item.likely_bytes for item in others),
        total_bytes_per_gpu=found.total_bytes,
        gpu=found.gpu.label,
        gpu_count=found.gpu_count,
        gpu_bytes=found.gpu.memory_bytes,
        usable_bytes=found.requested_bytes,
        fits=found.fits,
        max_tokens_that_fit=found.longest,
        concurrency=found.concurrency,
        parts=(weights, _request(found.kv_request_bytes, found.max_tokens), *others),
        measured=seen is not None,
        simulated=case.simulated,
        notes=(*_notes(case, found), *reckoned.notes),
    )
    return Judged(report=report, fit=found, changes=found.changes)


def _with_exact(weights_of: WeightsOf, exact: ExactAnswer, ranks: int) -> WeightsOf:
    """What vLLM builds; what it makes of loaded weights is ours to add."""

    def of(settings: ServingSettings) -> Weights:
        estimated = weights_of(settings)
        if settings.tensor_parallel_size != ranks:
            return estimated
        beside = [item for item in estimated.items if item.name == "repacking"]
        built = MemoryItem.exact("weights", exact.weights_bytes, "parameters and buffers")
        size = exact.weights_bytes + sum(item.likely_bytes for item in beside)
        return Weights(
            low_bytes=size,
            likely_bytes=size,
            high_bytes=size,
            items=(built, *beside),
            source=f"classes of vLLM {exact.vllm_version}",
        )

    return of


def _with_seen(weights_of: WeightsOf, seen: Measured, ranks: int) -> WeightsOf:
    """Estimates where nothing was logged."""

    def of(settings: ServingSettings) -> Weights:
        if settings.tensor_parallel_size == ranks:
            return measured_weights(seen)
        return weights_of(settings)

    return of


def alternatives(subject: Subject, case: Case, weights_of: WeightsOf) -> tuple[str, ...]:
    """All sets of GPUs that would do with these settings, in words, the smallest first."""
    possible = [gpu for gpu in gpus().values() if _allowed(subject, case, gpu)]
    found = smallest_sets(subject.configuration, case.serving, weights_of, of=possible)
    return tuple(
        gpu_set(one.gpu.label, one.gpu_count)
        for one in found
        if _splits(subject, case, one.gpu_count)
    )


def gpu_set(label: str, count: int) -> str:
    """A set of GPUs as it is shown: `L40S 48GB × 2`."""
    return f"{label} × {count}"


def other_sets(alternatives: Sequence[str], report: MemoryReport) -> tuple[str, ...]:
    """The first of them, without the GPUs that are meant: those were judged."""
    meant = gpu_set(report.gpu or "", report.gpu_count)
    return tuple(one for one in alternatives if one != meant)[:_MOST_ALTERNATIVES]


def _allowed(subject: Subject, case: Case, gpu: GpuSpec) -> bool:
    """Whether the engine computes on that GPU with these weights."""
    setting = msgspec.structs.replace(
        case.setting, gpu=gpu, gpus_seen=None, on_cpu=False, driver_cuda=None
    )
    return all(
        finding.level is not Level.BLOCKER
        for rule in (gpu_rule, quantization)
        for finding in rule(subject, setting)
    )


def _splits(subject: Subject, case: Case, ranks: int) -> bool:
    setting = msgspec.structs.replace(case.setting, tensor_parallel_size=ranks, gpus_seen=None)
    return all(f.level is not Level.BLOCKER for f in tensor_parallel(subject, setting))


def splittable(subject: Subject, case: Case) -> Iterator[int]:
    """The numbers of GPUs over which the model can be split."""
    yield from (ranks for ranks in PARALLEL_SIZES if _splits(subject, case, ranks))


def _without_gpu(subject: Subject, case: Case, weights_of: WeightsOf) -> MemoryReport:
    """What one would need: nothing is known of what there is."""
    configuration, serving = subject.configuration, case.serving
    cache: KvCache = kv_cache(configuration, serving)
    usual = model_length(configuration, serving.vllm_version)
    length = serving.max_model_len or usual or cache.longest
    weights = weights_of(serving)
    request = cache.bytes_for(length)
    others = overheads(configuration, serving, length).reserved
    own = MemoryItem(
        name="weights",
        low_bytes=weights.low_bytes,
        likely_bytes=weights.likely_bytes,
        high_bytes=weights.high_bytes,
        formula=weights_words(weights),
    )
    overhead = sum(item.likely_bytes for item in others)
    return MemoryReport(
        weights_bytes=weights.likely_bytes,
        kv_cache_bytes_per_token=cache.bytes_per_token(length),
        kv_cache_bytes_per_request=request,
        max_tokens=length,
        overhead_bytes=overhead,
        total_bytes_per_gpu=weights.likely_bytes + request + overhead,
        gpu_count=serving.tensor_parallel_size,
        parts=(own, _request(request, length), *others),
        notes=("No GPU is meant: name one to see whether it fits.", *weights.notes),
    )


def _request(size_bytes: int, tokens: int) -> MemoryItem:
    if not size_bytes:
        return MemoryItem.exact("kv_cache", 0, "this model keeps no keys and values")
    return MemoryItem.exact(
        "kv_cache",
        size_bytes,
        f"one request of {tokens:,} tokens, {-(-size_bytes // tokens):,} bytes a token",
    )


def weights_words(weights: Weights) -> str:
    """The sum, part by part, the largest first; or where a measured figure is from."""
    if weights.source == "log":
        return weights.items[0].formula
    items = sorted(weights.items, key=lambda item: -abs(item.likely_bytes))
    shown = [item for item in items if abs(item.likely_bytes) >= _SHOWN_BYTES][:_MOST_SHOWN]
    sizes = [(item.name.replace("_", " "), item.likely_bytes) for item in shown]
    rest = weights.likely_bytes - sum(size for _, size in sizes)
    if abs(rest) >= _SHOWN_BYTES:
        sizes.append(("rest", rest))
    said = "".join(
        f"{' - ' if size < 0 else ' + '}{name} {abs(size) / GIB:.2f}" for name, size in sizes
    )
    return f"{said.removeprefix(' + ')} GiB, read from the {weights.source}" if said else ""


def _notes(case: Case, found: Fit) -> tuple[str, ...]:
    notes = []
    if found.gpu.unsure:
        notes.append(f"The memory of {found.gpu.label} is not from a real device.")
    if case.simulated:
        notes.append("The GPU is one of the catalogue; none was looked at.")
    elif case.place.pod_gpus is not None:
        notes.append("The GPU is that of a node of the cluster; a pod has it to itself.")
    elif case.free_bytes is not None:
        notes.append(f"{case.free_bytes / GIB:.1f} GiB of the GPU are free now.")
    return tuple(notes)


def check_ram(report: MemoryReport, memory_bytes: int) -> None:
    """Raises `InvalidInput` where the weights are larger than this machine's memory."""
    if 0 < memory_bytes < report.weights_bytes:
        raise InvalidInput(
            f"The weights take {report.weights_bytes / GIB:.1f} GiB; this machine has "
            f"{memory_bytes / GIB:.1f} GiB of memory.",
            hint="Choose a smaller model, or a machine with a GPU.",
        )

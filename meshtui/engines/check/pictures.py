"""How much memory a pipeline of images takes, and what would make it fit."""

from collections.abc import Mapping

from meshtui.domain.check import MemoryReport
from meshtui.domain.finding import Finding, Level
from meshtui.domain.memory import GIB, GpuSpec, MemoryItem
from meshtui.engines.check.case import Case
from meshtui.engines.check.known import Known
from meshtui.engines.check.memory import gpu_set, other_sets
from meshtui.memory.diffusion import DiffusionMemory, estimate_diffusion
from meshtui.memory.gpus import gpus

MEMORY = "memory"


def judge_pictures(known: Known, case: Case) -> tuple[MemoryReport, tuple[str, ...], Finding]:
    """The memory of one GPU, GPUs that would do, and what is to be said. Raises `InvalidInput`
    where the sizes of the components are not known."""
    pipeline = known.subject.json("model_index.json")
    found = estimate_diffusion(pipeline, known.components)
    report = _report(found, case)
    enough = tuple(
        gpu_set(gpu.label, 1)
        for gpu in gpus().values()
        if gpu.memory_bytes >= found.resident.high_bytes
    )
    return report, other_sets(enough, report), _finding(found, case.gpu)


def _report(found: DiffusionMemory, case: Case) -> MemoryReport:
    weights = sum(item.likely_bytes for item in found.components)
    whole, gpu = found.resident, case.gpu
    beside = MemoryItem(
        name="activations",
        low_bytes=max(0, whole.low_bytes - weights),
        likely_bytes=whole.likely_bytes - weights,
        high_bytes=whole.high_bytes - weights,
        formula="one image of 1024 x 1024 pixels: the larger of denoising and decoding + CUDA",
    )
    notes = [
        f"With {words} it takes {_range(variant)}, and longer."
        for words, variant in (
            ("model offload", found.model_offload),
            ("sequential offload", found.sequential_offload),
        )
    ]
    return MemoryReport(
        weights_bytes=weights,
        kv_cache_bytes_per_token=0,
        kv_cache_bytes_per_request=0,
        max_tokens=0,
        overhead_bytes=beside.likely_bytes,
        total_bytes_per_gpu=whole.likely_bytes,
        gpu=gpu.label if gpu else None,
        gpu_bytes=gpu.memory_bytes if gpu else None,
        usable_bytes=case.free_bytes if case.free_bytes is not None else _total(gpu),
        fits=None if gpu is None else whole.likely_bytes <= _room(case, gpu),
        parts=(*found.components, beside),
        simulated=case.simulated,
        notes=(*found.notes, *notes),
    )


def _finding(found: DiffusionMemory, gpu: GpuSpec | None) -> Finding:
    whole = found.resident
    if gpu is None:
        return Finding(rule=MEMORY, level=Level.OK, message=f"{_range(whole)} on one GPU")
    on = f"{_range(whole)} of {gpu.memory_gib:.2f} GiB of {gpu.label}"
    if whole.high_bytes <= gpu.memory_bytes:
        return Finding(rule=MEMORY, level=Level.OK, message=on)
    larger = found.smallest_gpu()
    fix = f"Use {larger.label}, or larger." if larger else "Use a larger GPU."
    offloads: Mapping[str, MemoryItem] = {
        "model": found.model_offload,
        "sequential": found.sequential_offload,
    }
    for name, variant in offloads.items():
        if variant.high_bytes <= gpu.memory_bytes:
            fix += f" With {name} offload it fits here, and takes longer."
            break
    if whole.likely_bytes <= gpu.memory_bytes:
        close = f"{on}. It is close: it may be too much."
        return Finding(rule=MEMORY, level=Level.WARNING, message=close, fix=fix)
    message = f"It takes {_range(whole)}; {gpu.label} has {gpu.memory_gib:.2f} GiB."
    return Finding(rule=MEMORY, level=Level.BLOCKER, message=message, fix=fix)


def _room(case: Case, gpu: GpuSpec) -> int:
    return gpu.memory_bytes if case.free_bytes is None else case.free_bytes


def _total(gpu: GpuSpec | None) -> int | None:
    return gpu.memory_bytes if gpu else None


def _range(item: MemoryItem) -> str:
    return f"{item.low_bytes / GIB:.1f} to {item.high_bytes / GIB:.1f} GiB"

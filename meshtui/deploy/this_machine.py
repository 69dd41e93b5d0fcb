"""Whether servers can run on this machine, looked at before any does: GPUs, memory, disks, and what
runtimes are built with."""

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from meshtui.cache.store import ModelStore
from meshtui.cache.usage import usage
from meshtui.compat.rules.gpu import driver
from meshtui.compat.rules.say import blocker, ok, warning
from meshtui.compat.setting import capability_text
from meshtui.deploy.definitions import fingerprint, python_versions
from meshtui.deploy.install_progress import format_bytes
from meshtui.deploy.interpreters import NoInterpreter, find_interpreter, find_uv
from meshtui.deploy.runtime_record import read_record, status_of
from meshtui.domain.finding import Finding
from meshtui.domain.model_cache import CacheUsage
from meshtui.domain.runtime import BuildPhase, RuntimeDefinition, RuntimeStatus
from meshtui.domain.text import one_line
from meshtui.engines.base import Machine
from meshtui.engines.gpus_here import GpusHere, look_at_gpus
from meshtui.engines.machine import detect
from meshtui.engines.place import setting_of_runtime

_NVIDIA_VENDOR, _DISPLAY_CLASSES = "0x10de", ("0x0300", "0x0302")
# What vLLM's processes exchange is some 130 MiB, also for the smallest model.
_SHARED_MEMORY_BYTES = 160 << 20
# The smallest models of a few hundred million parameters run in it, with the engine's 3 GB.
_LEAST_MEMORY_BYTES = 4_000_000_000
# A model of some billion parameters.
_LEAST_CACHE_BYTES = 10_000_000_000


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of this machine. `runtime` is the one that servers take where none is named;
    `python` is what it would be built with, or why with none; `unseen_gpus` are NVIDIA devices on
    the bus that the driver does not list."""

    machine: Machine
    gpus: GpusHere
    unseen_gpus: int
    runtime: RuntimeStatus
    runtime_bytes: int
    python: str | NoInterpreter
    runtimes_folder: str
    runtimes_free_bytes: int
    compiler: str | None
    cache: CacheUsage


async def look_here(
    definitions: Mapping[str, RuntimeDefinition], runtimes_folder: Path, store: ModelStore
) -> Here:
    """Asks the driver, the system and the disks; takes up to seconds and changes nothing."""
    machine, gpus = await asyncio.gather(asyncio.to_thread(detect), asyncio.to_thread(look_at_gpus))
    definition = definitions["gpu" if machine.gpu_count else "cpu"]
    python: str | NoInterpreter
    try:
        found = await find_interpreter(
            definition, python_versions(definition), with_venv=find_uv() is None
        )
        python = f"{found.path} ({found.version})"
    except NoInterpreter as missing:
        python = missing
    return Here(
        machine=machine,
        gpus=gpus,
        unseen_gpus=max(0, _devices() - len(gpus.gpus)),
        runtime=status_of(
            definition.name,
            read_record(runtimes_folder / definition.name),
            definition,
            shipped=True,
            fingerprint=fingerprint(definition),
            folder=runtimes_folder / definition.name,
        ),
        runtime_bytes=definition.disk_bytes,
        python=python,
        runtimes_folder=str(runtimes_folder),
        runtimes_free_bytes=shutil.disk_usage(runtimes_folder).free,
        compiler=shutil.which("gcc") or shutil.which("cc"),
        cache=usage(store),
    )


def judge(here: Here) -> tuple[Finding, ...]:
    """What is well, what is not, and what to do about it."""
    rules = (_gpus, _processor, _memory, _shared_memory, _runtime, _compiler, _cache)
    return tuple(finding for rule in rules for finding in rule(here))


def _gpus(here: Here) -> Iterator[Finding]:
    seen = here.gpus.gpus
    if here.unseen_gpus:
        yield warning(
            "gpu-driver",
            f"{here.unseen_gpus} NVIDIA GPUs are built in that no driver answers for.",
            "Install NVIDIA's driver, or look why `nvidia-smi` fails. Until then models run "
            "without them.",
        )
    elif not seen:
        yield ok("gpu", "No NVIDIA GPU is seen: models run on the processor.")
    setting = setting_of_runtime(here.runtime)
    floor = setting.vllm.minimum_capability
    for gpu in seen:
        label = one_line(gpu.spec.label, 60)
        has = f"{label}, compute capability {capability_text(gpu.spec.capability)}"
        if gpu.spec.capability < floor:
            yield warning(
                "gpu",
                f"{has}: vLLM needs {capability_text(floor)}.",
                "Run models on the processor, with the runtime cpu.",
            )
            continue
        free, total = format_bytes(gpu.free_bytes), format_bytes(gpu.spec.memory_bytes)
        yield ok("gpu", f"{has}: {free} of {total} are free.")
    if here.machine.gpu_count < len(seen):
        yield warning(
            "gpu-visible",
            f"CUDA_VISIBLE_DEVICES leaves {here.machine.gpu_count} of {len(seen)} GPUs to engines.",
            "Unset it to use all.",
        )
    if seen:
        yield from driver(msgspec.structs.replace(setting, driver_cuda=here.gpus.driver_cuda))


def _processor(here: Here) -> Iterator[Finding]:
    flags, cores = here.machine.cpu_flags, here.machine.cpu_count
    # Only x86 needs extensions; ARM processors list their features under other names.
    if "sse2" in flags and not any(flag.startswith(("avx2", "avx512")) for flag in flags):
        yield warning(
            "processor",
            f"{cores} cores, without AVX2 and AVX-512, which vLLM for processors needs.",
            "Without a GPU, models run on transformers here: slower.",
        )
    else:
        yield ok("processor", f"{cores} cores.")


def _memory(here: Here) -> Iterator[Finding]:
    has = format_bytes(here.machine.memory_bytes)
    if here.machine.memory_bytes < _LEAST_MEMORY_BYTES:
        yield warning("memory", f"{has} of memory.", "Only the smallest models can be loaded.")
    else:
        yield ok("memory", f"{has} of memory.")


def _shared_memory(here: Here) -> Iterator[Finding]:
    free = here.machine.shared_memory_bytes
    if free < _SHARED_MEMORY_BYTES:
        yield warning(
            "shared-memory",
            f"{format_bytes(free)} of shared memory are free; vLLM needs "
            f"{format_bytes(_SHARED_MEMORY_BYTES)}.",
            "Make /dev/shm larger (in a container: --shm-size=1g).",
        )
    else:
        yield ok("shared-memory", f"{format_bytes(free)} of shared memory are free.")


def _runtime(here: Here) -> Iterator[Finding]:
    name, needs, free = here.runtime.name, here.runtime_bytes, here.runtimes_free_bytes
    if here.runtime.phase is BuildPhase.READY:
        engine = here.runtime.vllm_version
        yield ok("runtime", f"The runtime {name} is built{f', vLLM {engine}' if engine else ''}.")
        return
    if isinstance(here.python, NoInterpreter):
        yield blocker("python", here.python.message, here.python.hint or "")
    else:
        yield ok("python", f"The runtime {name} is built at its first use, with {here.python}.")
    if free < needs:
        yield blocker(
            "runtime-disk",
            f"The runtime {name} needs {format_bytes(needs)}; {here.runtimes_folder} has "
            f"{format_bytes(free)} left.",
            "Free some space, or let MESHTUI_RUNTIMES name a folder on another disk.",
        )
    else:
        yield ok(
            "runtime-disk",
            f"{format_bytes(free)} are free for the {format_bytes(needs)} of the runtime {name}.",
        )


def _compiler(here: Here) -> Iterator[Finding]:
    if here.compiler is None:
        yield warning(
            "compiler",
            "There is no C compiler: vLLM compiles small kernels when it starts.",
            "Install gcc and g++ (on Debian: apt install gcc g++).",
        )


def _cache(here: Here) -> Iterator[Finding]:
    free = format_bytes(here.cache.disk_free_bytes)
    if here.cache.problem:
        yield warning(
            "cache",
            here.cache.problem,
            "Let MESHTUI_CACHE name a folder of yours, or have this one's owner open it.",
        )
    elif here.cache.disk_free_bytes < _LEAST_CACHE_BYTES:
        yield warning(
            "cache",
            f"{free} are free for models in {here.cache.root}.",
            "Delete models, or let MESHTUI_CACHE name a folder on another disk.",
        )
    else:
        yield ok("cache", f"{free} are free for models in {here.cache.root}.")


def _devices() -> int:
    """NVIDIA's display and compute devices on the PCI bus."""
    found = 0
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue
        found += vendor == _NVIDIA_VENDOR and kind.startswith(_DISPLAY_CLASSES)
    return found

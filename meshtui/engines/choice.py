"""Which engine serves a model: one decision for the checker and for servers that start.

Decided from what is known of the model, the runtime and the machine; nothing is read here.
"""

from collections.abc import Iterable

import msgspec

from meshtui.compat.rules.gpu import gpu
from meshtui.compat.rules.parallel import tensor_parallel
from meshtui.compat.rules.quantization import quantization, reads_gguf
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.compat.support import Support, transformers_has, vllm_support, wants_chat
from meshtui.domain.finding import Level
from meshtui.domain.task import Engine, EngineChoice
from meshtui.domain.text import one_line
from meshtui.engines.base import Machine
from meshtui.settings.shipped import toml_data

# What vLLM's processes put there to talk to each other, measured with 0.32.0.
_VLLM_SHARED_MEMORY_BYTES = 160 * 1024**2

LOST_WITH_TRANSFORMERS = (
    "one request at a time: further ones wait",
    "no JSON schema, no forced tool calls, no log probabilities",
    "slower than vLLM",
)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The engine, or None where none (or not the wanted one) can serve the model. `reason` says
    why; `lost` what the chosen engine lacks; `fix` what would help. `vllm` and `transformers` are
    what was found of each."""

    engine: Engine | None
    reason: str
    vllm: Support
    transformers: Support
    fallback: Engine | None = None
    lost: tuple[str, ...] = ()
    fix: str = ""


def decide(subject: Subject, setting: Setting, machine: Machine) -> Decision:
    """The engine for a model that generates, embeds, ranks or classifies text. Raises
    `InvalidInput` where its configuration cannot be read."""
    vllm = _vllm(subject, setting, machine)
    transformers = _transformers(subject, setting, machine)
    if setting.engine is EngineChoice.VLLM:
        return _wanted(Engine.VLLM, vllm, transformers)
    if setting.engine is EngineChoice.TRANSFORMERS:
        return _wanted(Engine.TRANSFORMERS, vllm, transformers)
    if vllm.possible:
        return Decision(
            engine=Engine.VLLM,
            reason=vllm.reason,
            fallback=Engine.TRANSFORMERS if transformers.possible else None,
            vllm=vllm,
            transformers=transformers,
        )
    if transformers.possible:
        return Decision(
            engine=Engine.TRANSFORMERS,
            reason=f"vLLM cannot serve it here: {vllm.reason}",
            lost=LOST_WITH_TRANSFORMERS,
            fix=vllm.fix,
            vllm=vllm,
            transformers=transformers,
        )
    return Decision(
        engine=None,
        reason=f"No engine can serve this model here. vLLM: {vllm.reason} "
        f"transformers: {transformers.reason}",
        fix=vllm.fix or "Choose another model, or add what is missing to the runtime.",
        vllm=vllm,
        transformers=transformers,
    )


def _wanted(engine: Engine, vllm: Support, transformers: Support) -> Decision:
    found, other = (vllm, transformers) if engine is Engine.VLLM else (transformers, vllm)
    if found.possible:
        return Decision(
            engine=engine,
            reason=f"Chosen in the settings. {found.reason}",
            lost=LOST_WITH_TRANSFORMERS if engine is Engine.TRANSFORMERS else (),
            vllm=vllm,
            transformers=transformers,
        )
    return Decision(
        engine=None,
        reason=f"{engine.label} is set as this model's engine and cannot serve it here: "
        f"{found.reason}",
        fix="Set the engine to AUTO: the other engine can serve it."
        if other.possible
        else found.fix or "Choose another model, or add what is missing to the runtime.",
        vllm=vllm,
        transformers=transformers,
    )


def _vllm(subject: Subject, setting: Setting, machine: Machine) -> Support:
    """Whether vLLM can serve the model: the device, then what the rules of the checker say."""
    if not setting.has_vllm:
        return vllm_support(subject, setting)
    if obstacle := _device_obstacle(setting.on_cpu, machine):
        return Support(possible=False, reason=obstacle, fix="Choose another machine or runtime.")
    for rule in (gpu, tensor_parallel, quantization):
        for finding in rule(subject, setting):
            if finding.level is Level.BLOCKER:
                return Support(possible=False, reason=finding.message, fix=finding.fix)
    if not subject.has("config.json"):
        reading = reads_gguf(setting)
        if not reading.possible:
            return reading
        return msgspec.structs.replace(reading, sure=False)
    return vllm_support(subject, setting)


def _device_obstacle(on_cpu: bool, machine: Machine) -> str | None:
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
    return None


def _transformers(subject: Subject, setting: Setting, machine: Machine) -> Support:
    """Whether `transformers serve` can serve the model."""
    installed = setting.transformers_version
    if installed is None:
        return _no(f"The runtime {setting.runtime} has no transformers.")
    if not wants_chat(subject, setting):
        # It has routes for chat, completions and transcriptions only (5.19, cli/serving).
        return _no("transformers serve only generates text.")
    missing = [name for name in ("fastapi", "uvicorn") if name not in setting.packages]
    if missing:
        return _no(f"The runtime lacks {' and '.join(missing)}, which `transformers serve` needs.")
    if setting.tensor_parallel_size > 1:
        return _no("transformers serve cannot split a model by tensor parallelism.")
    if not subject.has("config.json"):
        # 5.19 takes `folder:file.gguf` and fails on it: such a file names no architecture.
        return _no("transformers serve cannot serve GGUF files as they are.")
    if obstacle := _transformers_quantization(subject, setting, machine):
        return _no(obstacle)
    configuration = subject.configuration
    if transformers_has(subject, setting):
        is_multimodal = configuration.model_type in setting.transformers.multimodal_model_types
        name = configuration.model_type if is_multimodal else configuration.architectures[0]
        return Support(
            possible=True, reason=f"transformers {installed} supports {one_line(name, 80)}."
        )
    if not configuration.architectures:
        return _no("config.json names no architecture.")
    name = one_line(configuration.architectures[0], 80)
    return _no(f"transformers serve {installed} has no {name}.")


def _transformers_quantization(subject: Subject, setting: Setting, machine: Machine) -> str | None:
    own = subject.configuration.quantization.method if subject.configuration.quantization else None
    asked = setting.quantization
    if asked and asked not in ("bnb-4bit", "bnb-8bit"):
        # A setting that only repeats what the weights say is harmless.
        if asked != own:
            return (
                "transformers serve quantises to bnb-4bit or bnb-8bit only, not to "
                f"{one_line(asked, 40)}."
            )
    elif asked and (missing := _missing(setting, ("bitsandbytes",))):
        return f"The quantization {asked} needs {missing} in the runtime."
    if own is None:
        return None
    needs = toml_data("engines/transformers.toml")["quantization"].get(own)
    if needs is None:
        return f"transformers is not known to read the quantization {one_line(own, 40)!r}."
    if missing := _missing(setting, needs["packages"]):
        return f"Weights quantised with {own} need {missing} in the runtime."
    if needs.get("needs_gpu") and machine.gpu_count == 0:
        return f"transformers reads {own} weights only with a GPU."
    return None


def _no(reason: str) -> Support:
    return Support(possible=False, reason=reason)


def _missing(setting: Setting, packages: Iterable[str]) -> str:
    return " and ".join(name for name in packages if name not in setting.packages)

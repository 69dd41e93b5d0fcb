"""Well-known models with what is worth knowing before one is enabled on a connection."""

from enum import StrEnum
from typing import Annotated

import msgspec

from meshtui.domain.connection import EnabledModel
from meshtui.domain.described import says
from meshtui.domain.task import Task

# The classes of GPUs that presets have settings for, by the GB that their labels count.
GPU_CLASSES_GB = (16, 24, 48, 80, 141)


class Purpose(StrEnum):
    """What people look for; several share a task."""

    CHAT = "chat"
    REASONING = "reasoning"
    VISION = "vision-language"
    CODE = "code"
    EMBEDDING = "embedding"
    RERANKING = "reranking"
    CLASSIFICATION = "classification"
    SAFETY = "safety"
    IMAGE_GENERATION = "image-generation"


class Capability(StrEnum):
    """What a model was taught beside answering: to call tools, to think before it answers, to look
    at images, to keep to a given form (JSON, say)."""

    TOOL = "tool"
    REASONING = "reasoning"
    IMAGE = "image"
    STRUCTURED_OUTPUT = "structured-output"


class PresetSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Serving settings that fit on `gpus` GPUs labelled with `gpu_gb` GB each. `max_tokens` is the
    context length (None: the model's own)."""

    gpu_gb: Annotated[int, says("GPUs of at least so many GB.")]
    gpus: Annotated[int, says("How many of them.")] = 1
    max_tokens: Annotated[
        int | None, says("The context length in tokens; without it the model's own.")
    ] = None
    quantization: Annotated[str | None, says("How weights are quantized while they load.")] = None
    kv_cache_dtype: Annotated[str | None, says("The type of the KV cache, as fp8.")] = None


class Preset(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that is offered when one is chosen.

    `parameters` counts all of them, `active_parameters` those that work on one token where these
    are fewer. `licence` is the Hub's name for it. `gated`: its terms must be accepted on the Hub
    first. `source` says where these facts are from. `settings` has one entry a class of GPUs (see
    `GPU_CLASSES_GB`); a class that is missing is too small, even eight of them.
    """

    name: Annotated[str, says("The preset's name, which is its file's name, too.")]
    model: Annotated[str, says("The model on the Hub: org/name or org/name@revision.")]
    label: Annotated[str, says("What the model is called in lists.")] = ""
    purpose: Annotated[Purpose, says("What it is good for.")]
    task: Annotated[Task, says("What it is for: the Hub's pipeline tag.")]
    licence: Annotated[str, says("The Hub's name of its licence.")] = ""
    gated: Annotated[bool, says("Whether its terms must be accepted on the Hub first.")] = False
    parameters: Annotated[int | None, says("How many parameters it has.")] = None
    active_parameters: Annotated[
        int | None, says("How many of them work on one token, where these are fewer.")
    ] = None
    capabilities: Annotated[tuple[Capability, ...], says("What it can do.")] = ()
    trust_remote_code: Annotated[
        bool, says("Whether it needs Python code from its repository.")
    ] = False
    settings: Annotated[
        tuple[PresetSettings, ...],
        says("Settings for classes of GPUs; a class that is missing is too small."),
    ] = ()
    source: Annotated[str, says("Where these facts are from.")] = ""

    def settings_for(self, gpu_gb: int) -> PresetSettings | None:
        """The settings for GPUs of that many GB: those of the largest class that is not larger;
        None where the model does not fit, or nothing is known."""
        fitting = [one for one in self.settings if one.gpu_gb <= gpu_gb]
        return max(fitting, key=lambda one: one.gpu_gb, default=None)

    def enabled_model(self, settings: PresetSettings | None = None) -> EnabledModel:
        """The model as it goes into a connection."""
        chosen = settings or PresetSettings(gpu_gb=0)
        cache = chosen.kv_cache_dtype
        return EnabledModel(
            model=self.model,
            task=self.task,
            display_name=self.label or None,
            max_tokens=chosen.max_tokens,
            quantization=chosen.quantization,
            tensor_parallel_size=chosen.gpus,
            extra_engine_args=("--kv-cache-dtype", cache) if cache else (),
            trust_remote_code=self.trust_remote_code,
        )

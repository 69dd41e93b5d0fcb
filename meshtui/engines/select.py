"""The engine for a model that is to be started, decided from the files in its folder."""

from pathlib import Path

from meshtui.compat.sources.folder import subject_of_folder
from meshtui.compat.subject import Subject
from meshtui.domain.connection import EnabledModel
from meshtui.domain.errors import InvalidInput, StartFailed
from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.task import Engine, EngineChoice, Task
from meshtui.domain.text import one_line
from meshtui.engines.base import EngineDecision, Machine
from meshtui.engines.choice import decide
from meshtui.engines.place import setting_of


def choose_engine(
    model_dir: Path,
    enabled: EnabledModel,
    choice: EngineChoice,
    runtime: RuntimeStatus,
    machine: Machine,
) -> EngineDecision:
    """The engine for the model in `model_dir` on this runtime and machine.

    Reads the model's JSON files (call it in a thread). Raises `InvalidInput` for folders that
    hold no model, `StartFailed` where no engine, or not the wanted one, can serve it.
    """
    subject = subject_of_folder(model_dir, name=enabled.model, with_headers=False)
    _check_is_model(subject, enabled)
    if subject.is_pipeline:
        return _of_pipeline(subject, enabled, choice, runtime)
    found = decide(subject, setting_of(enabled, choice, runtime, machine), machine)
    if found.engine is None:
        raise StartFailed(found.reason, hint=found.fix)
    return EngineDecision(
        engine=found.engine, reason=found.reason, fallback=found.fallback, lost=found.lost
    )


def _of_pipeline(
    subject: Subject, enabled: EnabledModel, choice: EngineChoice, runtime: RuntimeStatus
) -> EngineDecision:
    kind = one_line(str(subject.json("model_index.json").get("_class_name", "pipeline")), 80)
    if choice is not EngineChoice.AUTO:
        raise StartFailed(
            f"{Engine(choice).label} is set as this model's engine; it is a {kind} of diffusers, "
            "which no other engine serves.",
            hint="Set the engine to AUTO.",
        )
    version = runtime.version("diffusers")
    if version is None:
        raise StartFailed(
            f"It is a {kind} of diffusers, which the runtime {runtime.name} lacks.",
            hint=f"Build the runtime anew (`meshtui runtime build {runtime.name} --rebuild`), or "
            "add diffusers to its definition.",
        )
    if enabled.quantization:
        raise StartFailed(
            "Pipelines of diffusers are served as they are, without quantization.",
            hint="Take the quantization out of the model's settings.",
        )
    return EngineDecision(engine=Engine.DIFFUSERS, reason=f"diffusers {version} runs a {kind}.")


def _check_is_model(subject: Subject, enabled: EnabledModel) -> None:
    if subject.broken_configuration:
        raise InvalidInput(
            subject.broken_configuration,
            hint="The download may be incomplete: delete the model and download it again.",
        )
    if enabled.task is Task.TEXT_TO_IMAGE and not subject.is_pipeline:
        raise InvalidInput(
            "The model folder has no model_index.json, so it is no pipeline of diffusers that "
            "makes pictures.",
            hint="Choose a repository in the format of diffusers, or set the model's task.",
        )
    if subject.is_pipeline:
        return
    if not subject.has("config.json") and not subject.paths(".gguf"):
        raise InvalidInput(
            "The model folder has no config.json, so it is not a model in the format of "
            "transformers.",
            hint="Choose a repository with config.json and safetensors files, or download the "
            "model again.",
        )

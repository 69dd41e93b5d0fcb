"""The engine for a model that is to be started, decided from the files in its folder."""

from pathlib import Path

from meshtui.compat.sources.folder import subject_of_folder
from meshtui.compat.subject import Subject
from meshtui.domain.connection import EnabledModel
from meshtui.domain.errors import InvalidInput, StartFailed
from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.task import EngineChoice, Task
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
    hold no model of text, `StartFailed` where no engine, or not the wanted one, can serve it.
    """
    subject = subject_of_folder(model_dir, name=enabled.model, with_headers=False)
    _check_is_text_model(subject, enabled)
    found = decide(subject, setting_of(enabled, choice, runtime, machine), machine)
    if found.engine is None:
        raise StartFailed(found.reason, hint=found.fix)
    return EngineDecision(
        engine=found.engine, reason=found.reason, fallback=found.fallback, lost=found.lost
    )


def _check_is_text_model(subject: Subject, enabled: EnabledModel) -> None:
    if subject.broken_configuration:
        raise InvalidInput(
            subject.broken_configuration,
            hint="The download may be incomplete: delete the model and download it again.",
        )
    if subject.is_pipeline or enabled.task is Task.TEXT_TO_IMAGE:
        kind = subject.json("model_index.json").get("_class_name", "a pipeline")
        what = f"a diffusers pipeline ({one_line(str(kind), 80)})"
        raise InvalidInput(
            f"This model is {what if subject.is_pipeline else 'for images'}; this version of "
            "meshtui serves text models only.",
            hint="Choose a model that reads text.",
        )
    if not subject.has("config.json") and not subject.paths(".gguf"):
        raise InvalidInput(
            "The model folder has no config.json, so it is not a model in the format of "
            "transformers.",
            hint="Choose a repository with config.json and safetensors files, or download the "
            "model again.",
        )

"""Presets as models that can be judged: the configurations that tests carry for them."""

import re
from pathlib import Path

from meshtui.compat.subject import Subject, SubjectFile
from meshtui.domain.memory import GpuSpec
from meshtui.memory.gpus import gpus
from tests.support import memory_data

DATA = Path(__file__).resolve().parent.parent / "data" / "presets" / "configs"
# Fine-tuned models with the very shapes of one whose configuration we have (their cards say so).
SAME_SHAPES = {
    "meta-llama/Llama-Guard-3-8B": "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen/Qwen3Guard-Gen-8B": "Qwen/Qwen3-8B",
}


def subject_of(model: str) -> Subject | None:
    """The model with nothing but its configuration; None where none is carried."""
    known = SAME_SHAPES.get(model, model)
    texts = _pipeline(known) or _own(known) or memory_data.configuration_files(known)
    if texts is None:
        return None
    files = ("model.safetensors", *texts)
    return Subject(
        name=model,
        source="configuration",
        texts=texts,
        files=tuple(SubjectFile(path=path, size_bytes=1000) for path in files),
    )


def members_of(gpu_gb: int) -> list[GpuSpec]:
    """The GPUs of the catalogue that are labelled so and compute in bfloat16."""
    label = re.compile(rf"\b{gpu_gb}GB$")
    return [gpu for gpu in gpus().values() if label.search(gpu.label) and gpu.capability >= 80]


def _own(model: str) -> dict[str, bytes] | None:
    path = DATA / f"{model.replace('/', '__')}.json"
    return {"config.json": path.read_bytes()} if path.exists() else None


def _pipeline(model: str) -> dict[str, bytes] | None:
    path = memory_data.DATA / "configs" / f"{model.replace('/', '__')}.model_index.json"
    return {"model_index.json": path.read_bytes()} if path.exists() else None

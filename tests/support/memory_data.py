"""The data of tests/data/memory: configurations, vLLM's own answers, and logs of real engines."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from meshtui.compat.configuration import Configuration, read_configuration
from meshtui.domain.memory import GIB, GpuSpec
from meshtui.memory.gpus import gpus
from meshtui.memory.settings import ServingSettings
from meshtui.settings.shipped import release

# Models whose configuration has the very shapes of one that we have.
SAME_SHAPES = {
    "RedHatAI/Qwen3-32B-quantized.w4a16": "Qwen/Qwen3-32B-FP8-Static-PerTensor",
    "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B": "Qwen/Qwen3-8B",
    "Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8": "Qwen/Qwen3-30B-A3B",
    "moonshotai/Kimi-Dev-72B": "Qwen/Qwen2.5-72B",
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "mistralai/Mixtral-8x7B-v0.1",
}
DATA = Path(__file__).resolve().parent.parent / "data" / "memory"


class Record(msgspec.Struct, frozen=True):
    """A log of a real engine: what it says, and the configuration where that is known."""

    said: dict[str, Any]
    configuration: Configuration | None
    settings: ServingSettings

    @property
    def model(self) -> str:
        return str(self.said["model"])

    @property
    def started(self) -> bool:
        return bool(self.said["outcome"] == "started")

    @property
    def version(self) -> tuple[int, ...]:
        return release(str(self.said.get("vllm_version") or ""))

    def gib(self, name: str) -> float | None:
        value = self.said.get(name)
        return float(value) if value is not None else None


def configuration_files(model: str) -> dict[str, bytes] | None:
    """The files of a model, by their names; None where we have none."""
    stem = model.replace("/", "__")
    for name in (f"{stem}.json", f"{stem}.config.json"):
        path = DATA / "configs" / name
        if path.exists():
            files = {"config.json": path.read_bytes()}
            beside = DATA / "configs" / f"{stem}.hf_quant_config.json"
            if beside.exists():
                files["hf_quant_config.json"] = beside.read_bytes()
            return files
    return None


@cache
def configuration(model: str) -> Configuration | None:
    files = configuration_files(model)
    return read_configuration(files) if files is not None else None


def all_configurations() -> dict[str, dict[str, bytes]]:
    """The files of every model that has a config.json, by its name."""
    stems = sorted(
        path.name.removesuffix(".json").removesuffix(".config")
        for path in (DATA / "configs").glob("*.json")
        if not path.name.endswith(("hf_quant_config.json", "params.json", "model_index.json"))
        and path.name != "SOURCES.json"
    )
    found = {
        stem.replace("__", "/"): configuration_files(stem.replace("__", "/")) for stem in stems
    }
    return {model: files for model, files in found.items() if files is not None}


def oracle_rows() -> list[dict[str, Any]]:
    """What vLLM 0.32 itself says of each configuration: KV bytes of one request by its length."""
    rows: list[dict[str, Any]] = json.loads((DATA / "vllm_oracle.json").read_text())
    return rows


@cache
def records() -> tuple[Record, ...]:
    """The logs whose model is stated; those where it was inferred from the figures are left out."""
    said: list[dict[str, Any]] = json.loads((DATA / "ground_truth.json").read_text())
    return tuple(_record(one) for one in said if not one["model_inferred"])


def _record(said: dict[str, Any]) -> Record:
    pipeline = said.get("pp")
    return Record(
        said,
        configuration(said["model"]) or configuration(SAME_SHAPES.get(said["model"], "")),
        ServingSettings(
            gpu=_gpu(said),
            vllm_version=".".join(map(str, release(str(said.get("vllm_version") or "")))) or None,
            tensor_parallel_size=said.get("tp") or 1,
            pipeline_parallel_size=pipeline if isinstance(pipeline, int) else 1,
            max_model_len=said.get("max_model_len"),
            max_num_batched_tokens=said.get("max_num_batched_tokens"),
            max_num_seqs=said.get("max_num_seqs"),
            gpu_memory_utilization=said.get("gpu_memory_utilization"),
            dtype=said.get("dtype") or "auto",
            kv_cache_dtype=said.get("kv_cache_dtype") or "auto",
            prefix_caching=said.get("prefix_caching"),
            enforce_eager=bool(said.get("enforce_eager")),
        ),
    )


def _gpu(said: dict[str, Any]) -> GpuSpec | None:
    """The GPU that a log names, with the total that it prints, if it prints one."""
    names = {
        "H100": "h100",
        "80GB-class": "h100",
        "A100-80": "a100-80",
        "V100-16": "v100-16",
        "RTX 3090": "rtx-3090",
        "Tesla T4": "t4",
        "RTX PRO 6000": "rtx-pro-6000",
        "L4": "l4",
    }
    label = str(said.get("gpu") or "")
    spec = next((gpus()[name] for start, name in names.items() if label.startswith(start)), None)
    total = said.get("gpu_total_gib")
    if spec is None or total is None:
        return spec
    return msgspec.structs.replace(spec, memory_bytes=int(total * GIB))

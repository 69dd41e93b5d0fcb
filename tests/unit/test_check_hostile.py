"""Models that were spoilt on purpose: a finding each time, soon, and never an exception."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from meshtui.compat.configuration import MOST_BYTES
from meshtui.compat.sources.folder import subject_of_folder
from meshtui.compat.subject import Subject
from meshtui.domain.check import CheckReport, CheckWishes, Verdict
from meshtui.domain.codec import to_json
from meshtui.domain.errors import InvalidInput
from meshtui.domain.runtime import Package, RuntimeStatus
from meshtui.engines.check.case import Place
from meshtui.engines.check.known import Known
from meshtui.engines.check.verdict import check
from tests.support.memory_data import all_configurations
from tests.support.models import safetensors
from tests.support.mutations import every_field_wrong, mutated, wrong_values
from tests.support.subjects import subject

PACKAGES = ("vllm==0.32.0", "transformers==5.19.0", "fastapi==1", "uvicorn==1")
PLACE = Place(
    runtime=RuntimeStatus(name="gpu", packages=tuple(Package(*p.split("==")) for p in PACKAGES))
)
WISHES = (
    CheckWishes(gpu="A10"),
    CheckWishes(gpu="H100", max_tokens=4096, tensor_parallel_size=4, kv_cache_dtype="fp8"),
    CheckWishes(),
)
# Far above what any takes on a slow machine, far below what a person would bear.
MOST_S = 10.0
MODELS = sorted(all_configurations())


def judged(model: Subject, wishes: CheckWishes = WISHES[0]) -> CheckReport:
    """Something was found, in bounded time, and it can be sent."""
    began = time.monotonic()
    report = check(Known(model), wishes, PLACE)
    assert time.monotonic() - began < MOST_S
    assert report.findings and report.summary
    assert all(finding.message for finding in report.findings)
    assert b"\\u001b" not in to_json(report)
    return report


@pytest.mark.parametrize("name", MODELS)
def test_mutated_configurations(name: str) -> None:
    files = all_configurations()[name]
    source = json.loads(files["config.json"])
    for seed in range(6):
        spoilt = json.dumps(mutated(source, seed)).encode()
        model = subject(name, texts={**files, "config.json": spoilt})
        judged(model, WISHES[seed % len(WISHES)])


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-3.1-8B-Instruct",
        "google/gemma-3-27b-it",
        "deepseek-ai/DeepSeek-V3.1",
        "Qwen/Qwen3-Next-80B-A3B-Thinking",
        "openai/gpt-oss-20b",
        "nvidia/Nemotron-H-56B-Base-8K",
    ],
)
def test_every_field_with_a_wrong_value(name: str) -> None:
    files = all_configurations()[name]
    for number, spoilt in enumerate(every_field_wrong(json.loads(files["config.json"]))):
        text = json.dumps(spoilt).encode()
        judged(subject(name, texts={**files, "config.json": text}), WISHES[number % len(WISHES)])


def test_wrong_values_in_every_small_file() -> None:
    files = all_configurations()["Qwen/Qwen3-0.6B"]
    names = ("generation_config.json", "tokenizer_config.json", "hf_quant_config.json",
             "model_index.json", "params.json", "adapter_config.json", "processor_config.json",
             "chat_template.json", "model.safetensors.index.json", "modules.json")  # fmt: skip
    keys = ("eos_token", "eos_token_id", "chat_template", "added_tokens_decoder", "weight_map",
            "quantization", "_class_name", "base_model_name_or_path")  # fmt: skip
    for name in names:
        for value in wrong_values():
            whole = json.dumps(value).encode()
            judged(subject(texts={**files, name: whole}))
            inner = json.dumps(dict.fromkeys(keys, value)).encode()
            judged(subject(texts={**files, name: inner}))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe\x00",
        b'{"architectures": ["LlamaForCausalLM"]',
        b"[" * 200_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"num_hidden_layers": ' + b"9" * 5000 + b"}",
        b'{"architectures": ["' + b"A" * 1_000_000 + b'"]}',
        b'{"architectures": ["\\u001b]0;x\\u0007LlamaForCausalLM"], "model_type": "\\u001b[2J"}',
        b'{"architectures": ["LlamaForCausalLM"], "hidden_size": 1e999}',
        b'{"architectures": ["\\ud800"], "model_type": "\\ud800"}',
    ],
)
def test_hostile_json(text: bytes) -> None:
    for name in ("config.json", "tokenizer_config.json", "model_index.json"):
        judged(subject(texts={"config.json": b"{}", name: text}))


def test_a_configuration_of_a_hundred_megabytes(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    (tmp_path / "model.safetensors").write_bytes(safetensors())
    report = judged(subject_of_folder(tmp_path))
    assert report.verdict is Verdict.BLOCKED
    assert any(f"larger than {MOST_BYTES >> 20} MiB" in f.message for f in report.findings)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 8,
        (1 << 40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (20).to_bytes(8, "little") + b'{"a":{"dtype":"F32",',
        safetensors()[:-3],
        safetensors() + b"more",
        safetensors({"a": ("BF16", (1 << 50,), b"")}),
        safetensors({"a": ("ZZ", (1,), b"x")}),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: bytes) -> None:
    files = all_configurations()["Qwen/Qwen3-0.6B"]
    for name, content in {**files, "tokenizer.json": b"{}", "model.safetensors": header}.items():
        (tmp_path / name).write_bytes(content)
    report = judged(subject_of_folder(tmp_path))
    weights = next(f for f in report.findings if f.rule == "weights")
    assert weights.level == "blocker" and "damaged" in weights.message
    # The configuration still tells how much it would take.
    assert report.memory is not None


def test_headers_of_another_model_do_no_harm(tmp_path: Path) -> None:
    files = all_configurations()["meta-llama/Llama-3.1-8B-Instruct"]
    for name, content in {**files, "model.safetensors": safetensors()}.items():
        (tmp_path / name).write_bytes(content)
    judged(subject_of_folder(tmp_path))


def test_strange_folders(tmp_path: Path) -> None:
    for place in (tmp_path / "missing", tmp_path / ("x" * 300), Path("/dev/null"), Path("/proc")):
        try:
            judged(subject_of_folder(place))
        except InvalidInput as error:
            assert error.hint
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    (tmp_path / "config.json").symlink_to("/dev/zero")
    judged(subject_of_folder(tmp_path))


def test_names_that_are_no_names(tmp_path: Path) -> None:
    odd = tmp_path / "\x1b]0;hi\x07\nname-Base"
    odd.mkdir()
    (odd / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    report = judged(subject_of_folder(odd))
    assert "\x1b" not in report.model and "\n" not in report.model


def numbers(value: Any) -> list[int]:
    """All whole numbers in a value."""
    if isinstance(value, dict):
        return [n for inner in value.values() for n in numbers(inner)]
    if isinstance(value, list):
        return [n for inner in value for n in numbers(inner)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


def test_reports_hold_only_numbers_that_json_readers_take() -> None:
    files = all_configurations()["meta-llama/Llama-3.1-8B-Instruct"]
    source = json.loads(files["config.json"])
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"):
        for size in (10**9, 10**12, 10**15, 2**62):
            text = json.dumps({**source, key: size}).encode()
            report = judged(subject(texts={"config.json": text}))
            assert all(abs(n) < 1 << 63 for n in numbers(json.loads(to_json(report))))

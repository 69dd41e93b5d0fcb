"""Every failure is explained, specifically where it is known and usefully where it is not."""

import re
import signal
from pathlib import Path

import pytest

from meshtui.engines.failures import Failure, catalogue, explain, explain_exit

LOGS = Path(__file__).parent.parent / "data" / "engine_logs"
# The one example in which a second cause is named beside the one that it stands for.
AMBIGUOUS = {"k8s-taint": "k8s-insufficient-gpu"}


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.id)
def test_each_entry_recognises_its_own_example(entry: Failure) -> None:
    assert entry.pattern().search(entry.example)
    for where in entry.where:
        explanation = explain(entry.example, where=where)
        assert explanation.failure_id == AMBIGUOUS.get(entry.id, entry.id)
        assert explanation.cause and explanation.fix and explanation.excerpt


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.id)
def test_each_entry_is_a_sentence_for_people(entry: Failure) -> None:
    for text in (entry.cause, entry.fix, entry.fix_with or entry.fix):
        assert text.strip() == text and len(text) < 320
        assert "WRAPPER" not in text
    known = set(entry.pattern().groupindex)
    assert set(re.findall(r"{(\w+)}", entry.fix_with or "")) <= known
    assert not re.search(r"{\w+}", entry.fix)


def test_ids_are_unique() -> None:
    ids = [entry.id for entry in catalogue()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("log", "failure_id", "in_fix"),
    [
        ("vllm-0.32.0-cpu-failed-max-len", "max-len-over-model", "99999"),
        ("vllm-0.32.0-cpu-failed-bad-args", "bad-args", "extra engine arguments"),
        ("vllm-0.32.0-cpu-failed-kv", "kv-too-small", "46464"),
        ("vllm-0.32.0-cpu-failed-trunc", "weights-corrupt", "download"),
        ("vllm-0.32.0-cpu-failed-noweights", "weights-missing", "safetensors"),
        ("vllm-0.32.0-cpu-failed-bnb", "quant-unknown", "bitsandbytes"),
        ("vllm-0.32.0-cpu-failed-custom", "trust-remote-code", "trust_remote_code"),
        ("vllm-0.32.0-cpu-failed-funky", "arch-unsupported", "FunkyForCausalLM"),
        ("vllm-0.32.0-cpu-failed-tp", "tp-heads", "9 heads"),
        ("vllm-0.32.0-cpu-failed-port", "port-in-use", "another port"),
        ("transformers-5.19.0-failed-trunc", "weights-corrupt", "download"),
        ("transformers-5.19.0-failed-noweights", "weights-missing", "safetensors"),
        ("transformers-5.19.0-failed-bnb", "package-required", "runtime"),
        ("transformers-5.19.0-failed-custom", "trust-remote-code", "trust_remote_code"),
        ("transformers-5.19.0-failed-funky", "serve-custom-code", "FunkyForCausalLM"),
        ("transformers-5.19.0-failed-port", "port-in-use", "another port"),
    ],
)
def test_real_failed_starts(log: str, failure_id: str, in_fix: str) -> None:
    text = (LOGS / f"{log}.log").read_text(encoding="utf-8", errors="replace")
    for explanation in (explain(text), explain_exit(1, text)):
        assert explanation.failure_id == failure_id
        assert in_fix in explanation.fix
        assert explanation.excerpt.count("\n") < 8
        assert "pid=" not in explanation.excerpt and "Traceback" not in explanation.excerpt


def test_a_start_that_went_well_explains_nothing() -> None:
    for log in ("vllm-0.32.0-cpu-start", "transformers-5.19.0-start"):
        text = (LOGS / f"{log}.log").read_text(encoding="utf-8", errors="replace")
        assert explain(text).failure_id is None


def test_the_root_cause_beats_the_processes_that_only_report_it() -> None:
    log = "\n".join(
        [
            "(EngineCore pid=5) ERROR 11-22 18:45:34 [core.py:9] EngineCore failed to start.",
            "(EngineCore pid=5) ERROR 11-22 18:45:34 [core.py:9] torch.OutOfMemoryError: CUDA out "
            "of memory. Tried to allocate 1.74 GiB. GPU 0 has a total capacity of 23.57 GiB",
            "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause "
            "above. Failed core proc(s): {}",
        ]
    )
    explanation = explain(log)
    assert explanation.failure_id == "gpu-oom"
    assert "1.74 GiB" in explanation.fix


def test_settings_in_ordinary_lines_are_no_cause() -> None:
    log = (
        "(EngineCore pid=5) INFO 11-22 18:45:34 [core.py:133] Initializing a V1 LLM engine (v0.32) "
        "with config: trust_remote_code=True\n"
        "(APIServer pid=1) WARNING 11-22 18:45:34 [system_utils.py:255] This can cause fd limit "
        "errors like `OSError: [Errno 24] Too many open files`.\n"
        "ValueError: something nobody has seen before"
    )
    explanation = explain(log)
    assert explanation.failure_id is None
    assert explanation.cause == "ValueError: something nobody has seen before"


def test_an_unknown_failure_shows_the_last_error() -> None:
    log = "start\nKeyError: 'first'\nTraceback (most recent call last):\nfoo.BarError: second\nbye"
    assert explain(log).cause == "foo.BarError: second"


def test_an_empty_log_is_explained_too() -> None:
    explanation = explain("")
    assert explanation.cause == "The engine wrote nothing."
    assert explanation.fix
    assert "status 3" in explain_exit(3, "").cause


def test_hostile_logs_are_made_harmless() -> None:
    explanation = explain("ValueError: \x1b]52;c;ZXZpbA==\x07\u202e\x1b[31mred" + "x" * 10_000)
    for text in (explanation.cause, explanation.excerpt):
        assert "\x1b" not in text and "\u202e" not in text and len(text) <= 300


@pytest.mark.parametrize("code", [-signal.SIGKILL, 128 + signal.SIGKILL])
def test_a_killed_engine_most_likely_ran_out_of_memory(code: int) -> None:
    explanation = explain_exit(code, "Loading safetensors checkpoint shards: 50% Completed")
    assert explanation.failure_id == "killed"
    assert "memory" in explanation.cause


@pytest.mark.parametrize(
    ("code", "word", "failure_id"),
    [
        (-signal.SIGILL, "TRANSFORMERS", "crashed"),
        (-signal.SIGSEGV, "runtime", "crashed"),
        (-signal.SIGBUS, "/dev/shm", "crashed"),
        (-signal.SIGTERM, "again", "terminated"),
    ],
)
def test_other_signals(code: int, word: str, failure_id: str) -> None:
    explanation = explain_exit(code, "some line")
    assert explanation.failure_id == failure_id
    assert word in explanation.fix


def test_a_known_message_says_more_than_the_signal() -> None:
    log = "RuntimeError: Failed to infer device type"
    assert explain_exit(-signal.SIGABRT, log).failure_id == "gpu-not-visible"


def test_a_large_log_is_explained_quickly() -> None:
    log = "x" * 200 + "\n"
    assert explain(log * 5000 + "y" * 500_000 + "\nValueError: late").cause == "ValueError: late"

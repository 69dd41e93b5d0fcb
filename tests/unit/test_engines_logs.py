"""Start-up logs of real engines become phases."""

import re
from pathlib import Path

import pytest

from meshtui.domain.server import Phase
from meshtui.engines.base import LogReader, LogUpdate
from meshtui.engines.transformers_serve import TransformersAdapter
from meshtui.engines.vllm import VllmAdapter

LOGS = Path(__file__).parent.parent / "data" / "engine_logs"


def lines(name: str) -> list[str]:
    data = (LOGS / name).read_bytes()
    return [line.decode("utf-8", errors="replace") for line in re.split(rb"[\r\n]", data) if line]


def updates(reader: LogReader, name: str) -> list[LogUpdate]:
    return [update for line in lines(name) if (update := reader.feed(line)) is not None]


def phases(found: list[LogUpdate]) -> list[Phase]:
    order: list[Phase] = []
    for update in found:
        if update.phase is not None and order[-1:] != [update.phase]:
            order.append(update.phase)
    return order


def test_a_start_of_vllm_goes_through_its_phases_once_and_in_order() -> None:
    found = updates(VllmAdapter().log_reader(), "vllm-0.32.0-cpu-start.log")
    assert phases(found) == [Phase.STARTING, Phase.LOADING_WEIGHTS, Phase.WARMING]


def test_the_log_of_vllm_names_its_version_and_the_context_length() -> None:
    found = updates(VllmAdapter().log_reader(), "vllm-0.32.0-cpu-start.log")
    assert [u.engine_version for u in found if u.engine_version] == ["0.32.0"]
    assert [u.context_length for u in found if u.context_length] == [8192]


def test_progress_is_told_while_weights_load_and_not_where_nothing_is_known() -> None:
    found = updates(VllmAdapter().log_reader(), "vllm-0.32.0-cpu-start.log")
    weights = [u.progress for u in found if u.phase is Phase.LOADING_WEIGHTS and u.progress]
    assert weights and weights[-1] == 1.0
    assert all(u.progress is None for u in found if u.phase is Phase.STARTING)


def test_messages_are_short_lines_for_people() -> None:
    for adapter, name in (
        (VllmAdapter(), "vllm-0.32.0-cpu-start.log"),
        (TransformersAdapter(), "transformers-5.19.0-start.log"),
    ):
        messages = [u.message for u in updates(adapter.log_reader(), name) if u.message]
        assert len(messages) >= 5
        for message in messages:
            assert len(message) <= 120 and "\n" not in message and "pid=" not in message


def test_a_start_of_transformers_serve_shows_the_tensors_loaded() -> None:
    found = updates(TransformersAdapter().log_reader(), "transformers-5.19.0-start.log")
    assert phases(found) == [Phase.LOADING_WEIGHTS, Phase.WARMING]
    assert [u.progress for u in found if u.progress] == [0.71, 1.0]
    assert "Loaded 194 of 272 tensors" in [u.message for u in found]


@pytest.mark.parametrize(
    ("line", "phase", "progress", "message"),
    [
        # As in the sources of vLLM 0.28 to 0.33; no GPU is needed to read them.
        (
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  52%|█████▏    | 35/67 "
            "[00:01<00:01, 21.52it/s]",
            Phase.WARMING,
            0.52,
            "Captured 35 of 67 CUDA graphs",
        ),
        (
            "(EngineCore pid=7) INFO 11-22 18:45:34 [gpu_model_runner.py:6582] Graph capturing "
            "finished in 12 secs, took 0.51 GiB",
            Phase.WARMING,
            None,
            "CUDA graphs captured in 12 s",
        ),
        (
            "\x1b[1;36m(Worker_TP1 pid=99)\x1b[0;0m INFO 11-22 18:45:52 [gpu_model_runner.py:4979] "
            "Starting to load model /models/x...",
            Phase.LOADING_WEIGHTS,
            None,
            "Loading weights",
        ),
        (
            "Loading safetensors checkpoint shards:  25% Completed | 1/4 [00:09<00:27,  9.1s/it]",
            Phase.LOADING_WEIGHTS,
            0.25,
            "Loaded 1 of 4 weight files",
        ),
        (
            "(EngineCore pid=7) INFO 11-22 18:45:34 [kv_cache_utils.py:1870] GPU KV cache size: "
            "123,456 tokens, Maximum concurrency for 8,192 tokens per request: 15.07x",
            Phase.WARMING,
            None,
            "KV cache for 123,456 tokens",
        ),
    ],
)
def test_lines_of_other_starts(
    line: str, phase: Phase, progress: float | None, message: str
) -> None:
    update = VllmAdapter().log_reader().feed(line)
    assert update == LogUpdate(phase=phase, progress=progress, message=message)


def test_phases_never_go_back_when_a_slower_worker_still_reports() -> None:
    reader = VllmAdapter().log_reader()
    reader.feed("Loading weights took 1.24 seconds")
    late = reader.feed("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00]")
    assert late is not None
    assert (late.phase, late.progress, late.message) == (None, None, None)


def test_a_hostile_line_cannot_reach_the_terminal() -> None:
    update = VllmAdapter().log_reader().feed("Resolved architecture: \x1b]0;owned\x07\u202eEvil")
    assert update is not None and update.message is not None
    assert "\x1b" not in update.message and "\u202e" not in update.message


def test_ordinary_lines_tell_nothing() -> None:
    reader = VllmAdapter().log_reader()
    assert reader.feed("") is None
    assert reader.feed("(APIServer pid=1) INFO 11-22 18:45:59 [launcher.py:195] Route: /x") is None

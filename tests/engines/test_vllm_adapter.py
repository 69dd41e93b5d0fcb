"""The real vLLM, spoken to through its adapter."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from meshtui.domain.server import Phase
from meshtui.domain.task import Engine
from meshtui.engines.registry import adapter
from meshtui.inference.chat import AnswerFailed, RequestRefused, Target, open_chat
from tests.engines.running_engine import MODEL, RunningEngine, running
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def engine(
    engine_python: Path, smollm2_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningEngine]:
    folder = tmp_path_factory.mktemp("vllm")
    with running(Engine.VLLM, engine_python, smollm2_dir, folder) as started:
        yield started


async def answer(target: Target, **fields: Any) -> tuple[str, list[dict[str, Any]]]:
    body = {"messages": QUESTION, "temperature": 0, "max_tokens": 40, **fields}
    async with aiohttp.ClientSession() as session, open_chat(session, target, body) as stream:
        chunks = [chunk async for chunk in stream]
    pieces = [c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]]
    return "".join(pieces), chunks


async def test_paris_streams_with_its_counts(engine: RunningEngine) -> None:
    text, chunks = await answer(engine.target)
    assert "Paris" in text
    assert len(chunks) >= 8
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["prompt_tokens"] == 37
    assert {chunk["model"] for chunk in chunks} == {MODEL}


async def test_its_log_told_the_phases_the_version_and_the_context_length(
    engine: RunningEngine,
) -> None:
    updates = engine.updates()
    phases = [update.phase for update in updates if update.phase]
    assert list(dict.fromkeys(phases)) == [Phase.STARTING, Phase.LOADING_WEIGHTS, Phase.WARMING]
    assert [update.context_length for update in updates if update.context_length] == [8192]
    assert any(update.engine_version for update in updates)
    assert any(update.progress == 1.0 for update in updates)


async def test_the_key_is_asked_for_and_is_in_no_command_line(engine: RunningEngine) -> None:
    with pytest.raises(AnswerFailed, match="Unauthorized"):
        await answer(msgspec.structs.replace(engine.target, api_key="wrong"))
    assert not any(engine.target.api_key in word for word in engine.launch.argv)
    assert engine.target.api_key not in engine.log.read_text(errors="replace")


async def test_closing_the_stream_stops_the_engine(engine: RunningEngine) -> None:
    body = {
        "messages": [{"role": "user", "content": "Count to one thousand."}],
        "max_tokens": 7000,
        "ignore_eos": True,
    }
    async with aiohttp.ClientSession() as session:
        async with open_chat(session, engine.target, body) as stream:
            for _ in range(5):
                await anext(stream)
            assert await requests_running(session, engine) == 1
        closed = time.monotonic()
        idle = asyncio.Event()

        async def poll() -> None:
            while await requests_running(session, engine):
                pass
            idle.set()

        polling = asyncio.create_task(poll())
        await eventually(idle.is_set, "no request is running", 10)
        await polling
    assert time.monotonic() - closed < 10


async def requests_running(session: aiohttp.ClientSession, engine: RunningEngine) -> int:
    async with session.get(engine.target.base_url + "/metrics") as answer:
        metrics = await answer.text()
    found = re.search(r"^vllm:num_requests_running\{.*\} ([\d.]+)", metrics, re.MULTILINE)
    assert found
    return int(float(found[1]))


async def test_stop_texts_are_no_part_of_the_answer(engine: RunningEngine) -> None:
    text, chunks = await answer(engine.target, stop=["is Par"])
    assert text == "The capital of France "
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


async def test_a_seed_repeats_the_answer(engine: RunningEngine) -> None:
    sampling = {"temperature": 1.3, "seed": 7, "max_tokens": 16}
    first, _ = await answer(engine.target, **sampling)
    second, _ = await answer(engine.target, **sampling)
    other, _ = await answer(engine.target, **{**sampling, "seed": 8})
    assert first == second != other


async def test_the_length_is_kept_to(engine: RunningEngine) -> None:
    _, chunks = await answer(engine.target, max_completion_tokens=3, max_tokens=None)
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": [{"role": "user", "content": "hello " * 9000}]}, "maximum context length"),
        ({"max_tokens": 99999}, "max_tokens=99999"),
        ({"messages": []}, "empty conversation"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "objekt"}},
                }
            },
            "Invalid type",
        ),
    ],
)
async def test_requests_at_fault_are_refused_with_the_reason(
    engine: RunningEngine, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestRefused, match=message) as refused:
        await answer(engine.target, **fields)
    assert refused.value.error["error"]["code"] == 400


async def test_it_is_ready_and_other_ports_are_not(engine: RunningEngine) -> None:
    speaks = adapter(Engine.VLLM)
    async with aiohttp.ClientSession() as session:
        assert await speaks.is_ready(session, engine.target.base_url)
        assert not await speaks.is_ready(session, "http://127.0.0.1:9")


async def test_health_checks_do_not_fill_the_log(engine: RunningEngine) -> None:
    engine.get("/health")
    await answer(engine.target, max_tokens=1)
    assert "GET /health" not in engine.log.read_text(errors="replace")

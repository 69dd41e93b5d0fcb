"""The real `transformers serve`, spoken to through its adapter."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meshtui.domain.server import Phase
from meshtui.domain.task import Engine
from meshtui.engines.registry import adapter
from meshtui.inference.chat import AnswerFailed, RequestRefused, Target, open_chat
from tests.engines.running_engine import MODEL, RunningEngine, running

pytestmark = pytest.mark.engine

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def engine(
    engine_python: Path, smollm2_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningEngine]:
    # A name that the engine would misread as a revision: the adapter must get around it.
    folder = tmp_path_factory.mktemp("user@host")
    model = folder / "model"
    model.symlink_to(smollm2_dir, target_is_directory=True)
    with running(Engine.TRANSFORMERS, engine_python, model, folder) as started:
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
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["prompt_tokens"] == 37
    assert {chunk["model"] for chunk in chunks} == {MODEL}


async def test_its_log_told_the_phases(engine: RunningEngine) -> None:
    updates = engine.updates()
    phases = [update.phase for update in updates if update.phase]
    assert list(dict.fromkeys(phases)) == [Phase.LOADING_WEIGHTS, Phase.WARMING]
    assert any(update.progress == 1.0 for update in updates)
    assert engine.launch.context_length == 8192


async def test_closing_the_stream_stops_the_engine(engine: RunningEngine) -> None:
    body = {"messages": QUESTION, "max_tokens": 4000, "temperature": 2.0, "min_tokens": 3900}
    async with aiohttp.ClientSession() as session:
        async with open_chat(session, engine.target, body) as stream:
            for _ in range(3):
                await anext(stream)
        # It answers one request at a time: one still running would be waited for.
        asked = time.monotonic()
        async with open_chat(session, engine.target, {**body, "max_tokens": 3}) as stream:
            async for chunk in stream:
                if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                    break
    assert time.monotonic() - asked < 10


async def test_stop_texts_are_no_part_of_the_answer(engine: RunningEngine) -> None:
    text, chunks = await answer(engine.target, stop=["is Par"])
    assert text == "The capital of France "
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


async def test_sampling_and_seeds_work(engine: RunningEngine) -> None:
    sampling = {"temperature": 1.3, "seed": 7, "max_tokens": 16}
    first, _ = await answer(engine.target, **sampling)
    second, _ = await answer(engine.target, **sampling)
    other, _ = await answer(engine.target, **{**sampling, "seed": 8})
    assert first == second != other
    greedy, _ = await answer(engine.target, temperature=0, seed=8, max_tokens=16)
    assert greedy == "The capital of France is Paris."


async def test_the_length_is_kept_to(engine: RunningEngine) -> None:
    _, chunks = await answer(engine.target, max_completion_tokens=3, max_tokens=None)
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": [{"role": "user", "content": "hello there, you " * 9000}]}, "8192 tokens"),
        ({"max_tokens": 99999}, "max_tokens=99999"),
        ({"messages": []}, "at least one message"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"response_format": {"type": "json_object"}}, "JSON"),
    ],
)
async def test_requests_at_fault_are_refused_with_the_reason(
    engine: RunningEngine, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestRefused, match=message):
        await answer(engine.target, **fields)


async def test_an_error_while_generating_is_told(engine: RunningEngine) -> None:
    """A penalty that the adapter passes on and the engine finds wrong in the middle of it."""
    with pytest.raises(AnswerFailed, match="penalty"):
        await answer(engine.target, repetition_penalty=-1.0)


async def test_fields_of_other_engines_do_not_hurt(engine: RunningEngine) -> None:
    text, _ = await answer(engine.target, top_k=1, user="me", presence_penalty=0.5)
    assert "Paris" in text


async def test_it_is_ready_and_other_ports_are_not(engine: RunningEngine) -> None:
    speaks = adapter(Engine.TRANSFORMERS)
    async with aiohttp.ClientSession() as session:
        assert await speaks.is_ready(session, engine.target.base_url)
        assert not await speaks.is_ready(session, "http://127.0.0.1:9")

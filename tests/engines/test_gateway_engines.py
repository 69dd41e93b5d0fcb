"""OpenAI's own client, and our own, against both real engines behind a controller as the user's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from meshtui.client import ControllerClient
from meshtui.domain.generation import (
    ChatMessage,
    ChatRequest,
    RunEnded,
    RunNotice,
    RunText,
    RunWaiting,
)
from meshtui.domain.server import Phase
from meshtui.domain.task import Engine
from tests.conftest import TEST_CACHE
from tests.controller_support import stop_everything

pytestmark = pytest.mark.engine

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
START_TIMEOUT_S = 300.0


@pytest.fixture
async def client(
    own_folders: Path, smollm2_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ControllerClient]:
    """A home that has the runtime and the model; the model is enabled for each engine."""
    monkeypatch.setenv("MESHTUI_RUNTIMES", str(TEST_CACHE / "runtimes"))
    monkeypatch.setenv("MESHTUI_CACHE", str(TEST_CACHE / "models"))
    folder = own_folders / "config" / "meshtui" / "connections"
    folder.mkdir(parents=True)
    for name, choice in (("fast", "VLLM"), ("plain", "TRANSFORMERS")):
        (folder / f"{name}.toml").write_text(
            f'[properties]\n"engine.completion" = "{choice}"\n[[enabled_models]]\n'
            f'model = "{MODEL}"\nmax_tokens = 2048\n'
            "[enabled_models.generation]\ntemperature = 0.0\n"
        )
    (folder / "local.toml").write_text("")
    client = ControllerClient()
    await client.connect()
    yield client
    await client.close()
    await stop_everything()


def ask(connection: str, text: str = "What is the capital of France?") -> ChatRequest:
    return ChatRequest(model=MODEL, messages=(ChatMessage("user", text),), connection=connection)


@pytest.mark.parametrize(
    ("connection", "engine"), [("fast", Engine.VLLM), ("plain", Engine.TRANSFORMERS)]
)
async def test_a_real_model_answers_through_the_controller(
    client: ControllerClient, connection: str, engine: Engine
) -> None:
    phases: list[Phase] = []
    text = ""
    async with asyncio.timeout(START_TIMEOUT_S):
        async for event in client.prompt(ask(connection)):
            match event:
                case RunWaiting(server):
                    phases.append(server.phase)
                case RunText(piece):
                    text += piece
                case RunEnded(run):
                    assert run.error is None, run.error
                    assert (run.status, run.engine) == ("done", engine)
                    assert run.usage is not None and run.usage.completion_tokens >= 7
    assert "Paris" in text
    assert Phase.LOADING_WEIGHTS in phases and phases[-1] is Phase.READY

    # Closing the iterator ends the generation: the engine is free for the next prompt at once.
    async with contextlib.aclosing(client.prompt(ask(connection, "Write a long story."))) as events:
        async for event in events:
            if isinstance(event, RunText):
                break
    async with asyncio.timeout(30):
        async for event in client.prompt(ask(connection)):
            assert not isinstance(event, RunNotice)
    statuses = [run.status for run in await client.runs()]
    assert statuses == ["done", "cancelled", "done"]

    await client.set_endpoint(True)
    endpoint = await client.endpoint(with_key=True)
    api = openai.AsyncOpenAI(
        base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0, timeout=120
    )
    ids = [model.id async for model in api.models.list()]
    assert ids == [f"fast/{MODEL}", f"plain/{MODEL}"]
    model = f"{connection}/{MODEL}"
    whole = await api.chat.completions.create(model=model, messages=QUESTION, max_tokens=30)
    assert "Paris" in (whole.choices[0].message.content or "")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.model == MODEL
    assert whole.usage is not None and whole.usage.prompt_tokens == 37
    stream = await api.chat.completions.create(
        model=model, messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage is not None

    too_long: Any = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(openai.BadRequestError, match="2048"):
        await api.chat.completions.create(model=model, messages=too_long)
    with pytest.raises(openai.BadRequestError):
        await api.chat.completions.create(model=model, messages=[])

    if engine is Engine.VLLM:
        await its_other_routes(api, model)
    else:
        with pytest.raises(openai.BadRequestError, match="does not answer /v1/completions"):
            await api.completions.create(model=model, prompt="The capital of France is")
        with pytest.raises(openai.BadRequestError, match="does not answer /v1/responses"):
            await api.responses.create(model=model, input="Hello")
    with pytest.raises(openai.BadRequestError, match="cannot embed"):
        await api.embeddings.create(model=model, input="Paris")

    # A client that stops reading and goes away leaves the engine free as well.
    stream = await api.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Write a long story."}], stream=True
    )
    await anext(aiter(stream))
    await stream.close()
    await api.chat.completions.create(model=model, messages=QUESTION, max_tokens=8, timeout=30)
    await api.close()


async def its_other_routes(api: openai.AsyncOpenAI, model: str) -> None:
    goes_on = await api.completions.create(
        model=model, prompt="The capital of France is", max_tokens=5, temperature=0
    )
    assert "Paris" in goes_on.choices[0].text and goes_on.model == MODEL
    question = "What is the capital of France?"
    response = await api.responses.create(model=model, input=question, max_output_tokens=30)
    assert "Paris" in response.output_text and response.model == MODEL
    text = ""
    async for event in await api.responses.create(
        model=model, input=question, max_output_tokens=30, stream=True
    ):
        if event.type == "response.output_text.delta":
            text += event.delta
    assert text == response.output_text

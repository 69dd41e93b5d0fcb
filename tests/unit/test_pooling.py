"""Embedding, ranking and classifying: for programs, with OpenAI's own client, and for our own."""

import asyncio
import base64
import os
import signal
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from meshtui.client import ControllerClient
from meshtui.domain.controller import EndpointStatus
from meshtui.domain.errors import EngineError, InvalidInput, NotFound
from meshtui.domain.generation import ChatMessage, ChatRequest
from meshtui.domain.pooling import ClassifyRequest, EmbedRequest, Ranked, RerankRequest
from meshtui.domain.task import Engine
from meshtui.inference.chat import AnswerFailed, RequestRefused, Target
from meshtui.inference.pooling import classify, embed, rerank
from tests.controller_support import RunningController, running_controller
from tests.support.pooling_models import enable_pooling

NEAR, FAR = "a stone in the rain", "muumuu"


@pytest.fixture
async def controller(own_folders: Path) -> AsyncIterator[RunningController]:
    enable_pooling()
    async with running_controller() as controller:
        yield controller


@pytest.fixture
async def endpoint(controller: RunningController) -> EndpointStatus:
    await controller.client.set_endpoint(True)
    return await controller.client.endpoint(with_key=True)


@pytest.fixture
async def api(endpoint: EndpointStatus) -> AsyncIterator[openai.AsyncOpenAI]:
    client = openai.AsyncOpenAI(
        base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0, timeout=60
    )
    yield client
    await client.close()


class Program:
    """What talks HTTP to the endpoint without a library of its own."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def post(self, path: str, **body: object) -> tuple[int, dict[str, Any]]:
        async with self.session.post(f"/v1/{path}", json=body) as response:
            return response.status, await response.json()


@pytest.fixture
async def program(controller: RunningController) -> AsyncIterator[Program]:
    connector = aiohttp.UnixConnector(str(controller.socket))
    async with aiohttp.ClientSession("http://meshtui", connector=connector) as session:
        yield Program(session)


async def test_models_are_listed_with_their_tasks(api: openai.AsyncOpenAI) -> None:
    tasks = {model.id: (model.model_extra or {})["task"] async for model in api.models.list()}
    assert tasks["fake/hello"] == "text-generation"
    assert tasks["fake/embedder"] == "feature-extraction"


async def test_openais_client_gets_vectors(api: openai.AsyncOpenAI) -> None:
    one = await api.embeddings.create(model="fake/embedder", input=NEAR)
    many = await api.embeddings.create(model="fake/embedder", input=[FAR, NEAR])
    plain = await api.embeddings.create(
        model="fake/embedder", input=NEAR, encoding_format="float", dimensions=3
    )
    packed: Any = await api.embeddings.create(
        model="fake/embedder", input=NEAR, encoding_format="base64"
    )
    assert [item.index for item in many.data] == [0, 1]
    assert one.data[0].embedding == many.data[1].embedding != many.data[0].embedding
    assert plain.data[0].embedding == pytest.approx(one.data[0].embedding[:3])
    unpacked = struct.unpack("<7f", base64.b64decode(packed.data[0].embedding))
    assert list(unpacked) == pytest.approx(one.data[0].embedding)
    assert one.usage.prompt_tokens == 5 and one.model == "fake/embedder"


async def test_the_blocking_client_gets_vectors(endpoint: EndpointStatus) -> None:
    def work() -> int:
        with openai.OpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key) as client:
            return len(client.embeddings.create(model="fake/embedder", input=NEAR).data)

    assert await asyncio.to_thread(work) == 1


async def test_programs_rank_score_and_classify(program: Program) -> None:
    texts = [FAR, NEAR]
    for model in ("fake/reranker", "fake/embedder"):
        status, found = await program.post(
            "rerank", model=model, query=NEAR, documents=texts, top_n=1
        )
        assert (status, [item["index"] for item in found["results"]]) == (200, [1])
        status, found = await program.post("score", model=model, text_1=NEAR, text_2=texts)
        assert status == 200 and found["data"][1]["score"] > found["data"][0]["score"]
    status, found = await program.post("classify", model="fake/classifier", input=["good", "bad"])
    assert status == 200 and [item["label"] for item in found["data"]] == ["LABEL_1", "LABEL_0"]


async def test_what_does_not_fit_the_task_is_said_before_anything_starts(
    program: Program, controller: RunningController
) -> None:
    for path, model, says in (
        ("chat/completions", "fake/embedder", "cannot chat: it is enabled for feature-extraction"),
        ("completions", "fake/classifier", "cannot chat: it is enabled for text-classification"),
        ("embeddings", "fake/hello", "cannot embed: it is enabled for text-generation"),
        ("rerank", "fake/classifier", "cannot rerank"),
        ("score", "fake/hello", "cannot rerank"),
        ("classify", "fake/reranker", "cannot classify"),
    ):
        status, found = await program.post(path, model=model, messages=[], input="x")
        assert status == 400
        assert says in found["error"]["message"]
        assert set(found["error"]) == {"message", "type", "param", "code"}
    _, found = await program.post("chat/completions", model="fake/embedder", messages=[])
    message = found["error"]["message"]
    assert "It can embed and rerank." in message
    assert "Enabled models that can chat: fake/hello." in message
    assert "connection local" in message
    assert await controller.client.servers() == []


async def test_errors_of_the_engine_come_as_they_are(api: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        await api.embeddings.create(model="fake/embedder", input="x" * 5000)
    with pytest.raises(openai.NotFoundError, match="not enabled"):
        await api.embeddings.create(model="no/such", input="x")


async def test_a_route_that_the_engine_lacks_is_said_in_words(program: Program) -> None:
    status, found = await program.post("completions", model="fake/hello", prompt="x")
    assert status == 400
    assert (
        "vLLM, which serves this model, does not answer /v1/completions"
        in (found["error"]["message"])
    )


async def test_a_program_that_goes_away_cancels_in_the_engine(
    program: Program, controller: RunningController
) -> None:
    await cancelled_in_the_engine(
        controller, program.post("embeddings", model="fake/slow-embedder", input="x")
    )


async def test_a_client_that_goes_away_cancels_in_the_engine(
    controller: RunningController,
) -> None:
    request = EmbedRequest(model="fake/slow-embedder", texts=("x",))
    await cancelled_in_the_engine(controller, controller.client.embed(request))
    assert controller.core.pooling.active == 0


async def cancelled_in_the_engine(controller: RunningController, asking: Awaitable[Any]) -> None:
    asked = asyncio.ensure_future(asking)
    async with aiohttp.ClientSession() as session:

        async def state(**wanted: int) -> None:
            async def holds() -> bool:
                for server in controller.core.servers.list():
                    if server.ready_at is not None:
                        url = f"http://127.0.0.1:{server.port}/fake/state"
                        async with session.get(url) as response:
                            found = await response.json()
                        return all(found[key] == value for key, value in wanted.items())
                return False

            await until(holds)

        await state(running=1)
        asked.cancel()
        await state(running=0, aborted=1)


async def test_an_engine_that_dies_over_a_request_says_of_what(
    controller: RunningController,
) -> None:
    request = EmbedRequest(model="fake/slow-embedder", texts=("x",))
    asked = asyncio.ensure_future(controller.client.embed(request))

    async def answering() -> bool:
        return any(server.active_requests for server in controller.core.servers.list())

    await until(answering)
    [server] = controller.core.servers.list()
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="killed"):
        await asked


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_our_own_client_gets_typed_answers(controller: RunningController) -> None:
    client = controller.client
    found = await client.embed(EmbedRequest(model="fake/embedder", texts=(NEAR, FAR)))
    assert [len(vector) for vector in found.vectors] == [7, 7]
    assert (found.model, found.prompt_tokens) == ("fake/embedder", 5)
    short = await client.embed(
        EmbedRequest(model="fake/embedder", texts=(NEAR,), dimensions=2, connection="local")
    )
    assert short.vectors[0] == found.vectors[0][:2]
    ranking = await client.rerank(
        RerankRequest(model="fake/reranker", query=NEAR, texts=(FAR, NEAR, NEAR))
    )
    assert [item.index for item in ranking.results] == [1, 2, 0]
    assert ranking.results[0] == Ranked(1, pytest.approx(1.0))
    classes = await client.classify(ClassifyRequest(model="fake/classifier", texts=("good", "bad")))
    assert [item.label for item in classes.results] == ["1", "0"]
    assert classes.results[0].scores == {"0": 0.25, "1": 0.75}


async def test_our_own_client_is_told_what_is_wrong(client: ControllerClient) -> None:
    with pytest.raises(InvalidInput, match="There is no text"):
        await client.embed(EmbedRequest(model="fake/embedder", texts=()))
    with pytest.raises(NotFound, match="not enabled"):
        await client.embed(EmbedRequest(model="no/such", texts=("x",)))
    with pytest.raises(InvalidInput, match="cannot embed"):
        await client.embed(EmbedRequest(model="fake/hello", texts=("x",)))
    with pytest.raises(InvalidInput, match="maximum context length"):
        await client.embed(EmbedRequest(model="fake/embedder", texts=("x" * 5000,)))
    whole = EmbedRequest(model="fake/embedder", texts=("x" * 5000,), truncate=True)
    assert len((await client.embed(whole)).vectors) == 1
    with pytest.raises(InvalidInput, match="cannot chat"):
        asked = ChatRequest(model="fake/embedder", messages=(ChatMessage("user", "Hello"),))
        await anext(client.prompt(asked))


@pytest.fixture
async def client(controller: RunningController) -> ControllerClient:
    return controller.client


async def answered(answer: bytes, status: int = 200) -> tuple[asyncio.Server, Target]:
    """An engine that says one thing whatever it is asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(answer)))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = Target(
        base_url=f"http://127.0.0.1:{port}",
        engine=Engine.VLLM,
        model="org/name",
        model_dir=Path("/nowhere"),
    )
    return server, target


@pytest.mark.parametrize(
    "answer",
    [
        b"no json",
        b"{}",
        b'{"data": []}',
        b'{"data": [{"index": 7, "embedding": "AACAPw=="}]}',
        b'{"data": [{"index": 0, "embedding": "AAA"}]}',
        b'{"data": [{"index": 0, "embedding": "AAAA"}]}',
        b'{"data": [{"index": 0, "embedding": [1, 2]}]}',
    ],
)
async def test_an_answer_that_cannot_be_read_is_the_engines_fault(answer: bytes) -> None:
    server, target = await answered(answer)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(EngineError, match="cannot be read"):
            await embed(session, target, ["x"])
    server.close()


async def test_classes_have_the_names_of_the_models_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"id2label": {"0": "no", "1": "yes"}}')
    data = b'{"data": [{"index": 0, "label": "yes", "probs": [0.1, 0.9]}]}'
    server, target = await answered(data)
    async with aiohttp.ClientSession() as session:
        for folder, label in ((tmp_path, "yes"), (Path("/nowhere"), "1")):
            asked = Target(
                base_url=target.base_url, engine=Engine.VLLM, model="m", model_dir=folder
            )
            found = await classify(session, asked, ["x"])
            assert found.results[0].label == label
            assert list(found.results[0].scores.values()) == [0.1, 0.9]
        (tmp_path / "config.json").write_text('{"id2label": {"0": "same", "1": "same"}}')
        asked = Target(base_url=target.base_url, engine=Engine.VLLM, model="m", model_dir=tmp_path)
        assert (await classify(session, asked, ["x"])).results[0].label == "1: same"
    server.close()


async def test_engines_that_only_chat_say_so() -> None:
    target = Target(
        base_url="http://127.0.0.1:9",
        engine=Engine.TRANSFORMERS,
        model="m",
        model_dir=Path("/nowhere"),
    )
    async with aiohttp.ClientSession() as session:
        with pytest.raises(RequestRefused, match="transformers does not answer /v1/rerank"):
            await rerank(session, target, "x", ["y"])


async def test_an_engine_that_is_not_there_does_not_answer() -> None:
    target = Target(
        base_url="http://127.0.0.1:9", engine=Engine.VLLM, model="m", model_dir=Path("/nowhere")
    )
    async with aiohttp.ClientSession() as session:
        with pytest.raises(AnswerFailed, match="does not answer"):
            await embed(session, target, ["x"])

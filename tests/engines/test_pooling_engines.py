"""Real vLLM as a pooling server: vectors of a real model, an order and classes of tiny ones."""

import asyncio
import base64
import os
import re
import struct
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import tomli_w

from meshtui.cache.store import ModelStore
from meshtui.client import ControllerClient
from meshtui.domain.errors import InvalidInput
from meshtui.domain.pooling import ClassifyRequest, EmbedRequest, RerankRequest
from meshtui.domain.server import Phase
from meshtui.domain.task import Engine
from meshtui.settings import paths
from tests.conftest import TEST_CACHE
from tests.controller_support import stop_everything
from tests.support.minilm import MINILM, minilm
from tests.support.models import put
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

MAKER = Path(__file__).with_name("tiny_classifiers.py")
CROSS, CLASSIFIER = "tiny/cross-encoder", "tiny/classifier"
TASKS = {MINILM: "feature-extraction", CROSS: "text-ranking", CLASSIFIER: "text-classification"}
START_TIMEOUT_S = 600.0
MEAL = "A man is eating food."
BREAD, BABY = "A man is eating a piece of bread.", "The girl is carrying a baby."
# What sentence-transformers gives for `MEAL` and `BREAD`, as its documentation of semantic
# textual similarity prints it.
NEARNESS = 0.7553


@pytest.fixture
async def client(
    own_folders: Path, engine_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ControllerClient]:
    """A home that has the runtime and the models, each enabled for its task."""
    monkeypatch.setenv("MESHTUI_RUNTIMES", str(TEST_CACHE / "runtimes"))
    embedder = minilm(TEST_CACHE)
    words = (str(engine_python), str(MAKER), str(embedder), str(tmp_path))
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run(words, env=offline, check=True, capture_output=True, timeout=300)
    store = ModelStore(paths.models_dir())
    for model, folder in (
        (MINILM, embedder),
        (CROSS, tmp_path / "cross-encoder"),
        (CLASSIFIER, tmp_path / "classifier"),
    ):
        files = [path for path in folder.rglob("*") if path.is_file()]
        put(store, model, {str(file.relative_to(folder)): file.read_bytes() for file in files})
    folder = own_folders / "config" / "meshtui" / "connections"
    folder.mkdir(parents=True)
    enabled = [{"model": model, "task": task} for model, task in TASKS.items()]
    (folder / "local.toml").write_text(tomli_w.dumps({"enabled_models": enabled}))
    client = ControllerClient()
    await client.connect()
    yield client
    await client.close()
    await stop_everything()


def dot(one: Any, other: Any) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_real_models_embed_rank_and_classify(client: ControllerClient) -> None:
    # The request itself starts the servers, all at the same time.
    async with asyncio.timeout(START_TIMEOUT_S):
        vectors, ranking, classes = await asyncio.gather(
            client.embed(EmbedRequest(model=MINILM, texts=(MEAL, BREAD, BABY))),
            client.rerank(RerankRequest(model=CROSS, query=MEAL, texts=(BABY, BREAD, MEAL))),
            client.classify(ClassifyRequest(model=CLASSIFIER, texts=(MEAL, BABY))),
        )
    assert dot(vectors.vectors[0], vectors.vectors[1]) == pytest.approx(NEARNESS, abs=0.005)
    assert dot(vectors.vectors[0], vectors.vectors[2]) < 0.2
    assert vectors.prompt_tokens == 8 + 11 + 9
    assert sorted(item.index for item in ranking.results) == [0, 1, 2]
    scores = [item.score for item in ranking.results]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 3
    for item in classes.results:
        assert set(item.scores) == {"negative", "neutral", "positive"}
        assert sum(item.scores.values()) == pytest.approx(1, abs=0.001)
        assert item.scores[item.label] == max(item.scores.values())
    assert {(s.phase, s.engine) for s in await client.servers()} == {(Phase.READY, Engine.VLLM)}

    near = await client.rerank(RerankRequest(model=MINILM, query=MEAL, texts=(BABY, BREAD)))
    assert near.results[0].index == 1
    assert near.results[0].score == pytest.approx(NEARNESS, abs=0.005)
    endless = EmbedRequest(model=MINILM, texts=("word " * 1000,))
    with pytest.raises(InvalidInput, match="maximum context length"):
        await client.embed(endless)
    cut = EmbedRequest(model=MINILM, texts=endless.texts, truncate=True)
    assert len((await client.embed(cut)).vectors[0]) == 384

    await programs_get_the_same(client, list(vectors.vectors[0]))
    await a_program_that_goes_away_frees_the_engine(client)


async def programs_get_the_same(client: ControllerClient, vector: list[float]) -> None:
    await client.set_endpoint(True)
    endpoint = await client.endpoint(with_key=True)
    assert endpoint.base_url and endpoint.api_key
    async with openai.AsyncOpenAI(
        base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0, timeout=120
    ) as api:
        many = await api.embeddings.create(model=MINILM, input=[BABY, MEAL])
        assert many.data[1].embedding == pytest.approx(vector, abs=0.001)
        plain = await api.embeddings.create(model=MINILM, input=MEAL, encoding_format="float")
        assert plain.data[0].embedding == pytest.approx(vector, abs=0.001)
        # Some libraries send the numbers of tokens: [CLS] hello [SEP].
        numbers = await api.embeddings.create(model=MINILM, input=[101, 7592, 102])
        named = await api.embeddings.create(model=MINILM, input="hello")
        assert numbers.data[0].embedding == pytest.approx(named.data[0].embedding, abs=0.001)
        packed: Any = await api.embeddings.create(
            model=MINILM, input=MEAL, encoding_format="base64"
        )
        unpacked = struct.unpack("<384f", base64.b64decode(packed.data[0].embedding))
        assert list(unpacked) == pytest.approx(vector, abs=0.001)
        assert packed.usage.prompt_tokens == 8
        hello: Any = [{"role": "user", "content": "Hello"}]
        with pytest.raises(openai.BadRequestError, match="cannot chat: it is enabled"):
            await api.chat.completions.create(model=MINILM, messages=hello)
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            await api.embeddings.create(model=MINILM, input="word " * 1000)
        with pytest.raises(openai.BadRequestError, match="Matryoshka"):
            await api.embeddings.create(model=MINILM, input=MEAL, dimensions=8)
    bearer = {"Authorization": f"Bearer {endpoint.api_key}"}
    asked: list[tuple[str, dict[str, Any], str]] = [
        ("rerank", {"model": CROSS, "query": MEAL, "documents": [BABY, BREAD]}, "results"),
        ("score", {"model": CROSS, "text_1": MEAL, "text_2": [BABY, BREAD]}, "data"),
        ("score", {"model": MINILM, "text_1": MEAL, "text_2": [BABY, BREAD]}, "data"),
        ("classify", {"model": CLASSIFIER, "input": [BABY, BREAD]}, "data"),
    ]
    async with aiohttp.ClientSession(headers=bearer) as session:
        for route, body, items in asked:
            async with session.post(f"{endpoint.base_url}/{route}", json=body) as response:
                found = await response.json()
            assert response.status == 200, found
            assert found["model"] == body["model"] and len(found[items]) == 2


async def a_program_that_goes_away_frees_the_engine(client: ControllerClient) -> None:
    [server] = [s for s in await client.servers() if s.model == MINILM]

    async def running(session: aiohttp.ClientSession) -> float:
        async with session.get(f"http://127.0.0.1:{server.port}/metrics") as answer:
            found = re.findall(
                r"^vllm:num_requests_(?:running|waiting)\{.*\} ([\d.]+)",
                await answer.text(),
                re.MULTILINE,
            )
        return sum(map(float, found))

    book = EmbedRequest(model=MINILM, texts=("word " * 250,) * 2000)
    asking = asyncio.create_task(client.embed(book))
    async with aiohttp.ClientSession() as session:
        busy, idle = asyncio.Event(), asyncio.Event()

        async def watch() -> None:
            while not await running(session):
                assert not asking.done()
            busy.set()
            while await running(session):
                pass
            idle.set()

        watching = asyncio.create_task(watch())
        await eventually(busy.is_set, "the engine works", 60)
        asking.cancel()
        await eventually(idle.is_set, "no request is left", 60)
        await watching
    assert (await client.embed(EmbedRequest(model=MINILM, texts=(MEAL,)))).vectors

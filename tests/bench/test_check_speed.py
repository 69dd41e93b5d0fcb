"""The checker's verdicts, beside the least that an answer of the controller costs."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from meshtui.cache.store import ModelStore
from meshtui.client import ControllerClient
from meshtui.domain.check import CheckWishes
from meshtui.settings import paths
from tests.bench.measure import Row, median, require
from tests.controller_support import controller_process, running_controller
from tests.hub_server import HubServer
from tests.support.memory_data import configuration_files
from tests.support.models import put, safetensors

MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen/Qwen2.5-7B-Instruct",
    "google/gemma-3-4b-it",
    "Qwen/Qwen3-8B",
    "mistralai/Mistral-7B-Instruct-v0.3",
)
ENTRIES = 200


def entry_files(model: str) -> dict[str, bytes]:
    files = configuration_files(model)
    assert files is not None
    return {**files, "tokenizer.json": b"{}", "model.safetensors": safetensors()}


async def seconds(step: Callable[[], Awaitable[object]], runs: int = 15) -> float:
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        await step()
        took.append(time.perf_counter() - began)
    return median(took[2:])


def test_a_verdict_costs_little_more_than_an_answer() -> None:
    """Warm: the model was looked into before. The picture follows a key: other wishes each time."""
    store = ModelStore(paths.models_dir())
    for model in MODELS:
        put(store, model, entry_files(model))

    async def measure(socket: Path) -> list[Row]:
        client = ControllerClient(socket)
        await client.connect(spawn=False)
        try:
            lengths = iter(range(1024, 1 << 20, 512))

            async def turned() -> None:
                await client.check(MODELS[0], CheckWishes(gpu="A10", max_tokens=next(lengths)))

            async def again() -> None:
                await client.check(MODELS[0], CheckWishes(gpu="A10"))

            bare = await seconds(client.info, 40)
            same = await seconds(again, 40)
            other = await seconds(turned, 40)
            return [
                # At most 30 ms, and 10 ms where only a wish is another.
                Row("verdict, asked again", 1e3 * same, 30.0, 1.0, "ms"),
                Row("verdict, another length", 1e3 * other, 10.0, 1.0, "ms"),
                Row("verdict beside GET /controller", 1e3 * same, 1e3 * bare, 12.0, "ms"),
            ]
        finally:
            await client.close()

    with controller_process({}) as running:
        require("A verdict on a cached model, warm", lambda: asyncio.run(measure(running.socket)))


def test_two_hundred_cached_models() -> None:
    store = ModelStore(paths.models_dir())
    names = [f"acme/{MODELS[i % len(MODELS)].rpartition('/')[2]}-{i}" for i in range(ENTRIES)]
    contents = [entry_files(MODELS[i % len(MODELS)]) for i in range(ENTRIES)]
    for name, files in zip(names, contents, strict=True):
        put(store, name, files)

    async def measure(socket: Path) -> list[Row]:
        client = ControllerClient(socket)
        await client.connect(spawn=False)
        try:
            began = time.perf_counter()
            reports = await client.check_many(names, CheckWishes(gpu="H100"))
            cold_s = time.perf_counter() - began
            assert all(report.memory is not None for report in reports)
            began = time.perf_counter()
            await client.check_many(names, CheckWishes(gpu="H100"))
            warm_s = time.perf_counter() - began
            bare_s = await seconds(client.info, 40)
        finally:
            await client.close()
        return [
            # At most 3 s; the first look of all gets some more on a machine that is busy.
            Row("200 models, looked into for the first time", cold_s, 3.0, 3.0, "s"),
            Row("200 models again", warm_s, 3.0, 0.5, "s"),
            Row("200 models again, beside 200 times GET /controller", warm_s, ENTRIES * bare_s,
                8.0, "s"),
        ]  # fmt: skip

    def attempt() -> list[Row]:
        with controller_process({}) as running:
            return asyncio.run(measure(running.socket))

    require("Verdicts on 200 cached models", attempt)


async def test_no_question_to_the_hub_is_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    async with HubServer() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("acme/llama", entry_files(MODELS[0]))
        async with running_controller() as running:
            await running.client.check("acme/llama", CheckWishes(gpu="A10"))
            first = len(hub.requests)
            for gpu in ("A10", "L4", "H100"):
                await running.client.check("acme/llama", CheckWishes(gpu=gpu))
            assert len(hub.requests) == first
        # Another controller has the files on disk, and asks only whether anything changed.
        async with running_controller() as running:
            await running.client.check("acme/llama", CheckWishes(gpu="A10"))
            assert len(hub.requests) == first + 1

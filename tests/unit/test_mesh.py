"""The Python API against a real controller, and every example of its documentation."""

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import meshtui
import meshtui.mesh
from meshtui.client import ControllerClient
from meshtui.domain.errors import EngineError, InvalidInput, NotFound, Unavailable
from meshtui.domain.generation import ChatMessage
from meshtui.domain.pooling import Ranked
from meshtui.domain.server import Phase
from meshtui.domain.task import Task
from tests.controller_support import controller_process
from tests.layout import REPOSITORY
from tests.support.pooling_models import MODELS, enable_pooling
from tests.support.waiting import wait_until

DOCUMENT = (REPOSITORY / "docs" / "programs.md").read_text()
# The one about pictures runs where a pipeline does, among the tests of engines.
EXAMPLES = [
    example
    for example in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    if "mesh.images" not in example
]
OF_THE_DOCUMENT = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": (Task.TEXT_GENERATION, ()),
    "sentence-transformers/all-MiniLM-L6-v2": (Task.FEATURE_EXTRACTION, ()),
    "BAAI/bge-reranker-v2-m3": (Task.TEXT_RANKING, ()),
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": (Task.TEXT_CLASSIFICATION, ()),
}
PRINTED = (
    ("SmolLM2-135M-Instruct text-generation", "Paris", "completion_tokens=16"),
    ("The capital of France is Paris.",),
    ("near: 0.", "Paris is the capital of France.", "0.75"),
    ("Paris", "1"),
    ("cannot chat: it is enabled for feature-extraction",),
    ("Paris", "2 vectors"),
)
ENDLESS = {
    "fake/endless": (
        Task.TEXT_GENERATION,
        ("--tokens", "100000", "--rate", "50", "--text", "words"),
    ),
    "fake/breaks": (Task.TEXT_GENERATION, ("--tokens", "50", "--crash-at", "token:20")),
}


@pytest.fixture
def controller(own_folders: Path) -> Iterator[None]:
    enable_pooling({**MODELS, **ENDLESS})
    with controller_process():
        yield


def test_the_examples_of_the_documentation_run(own_folders: Path) -> None:
    enable_pooling(OF_THE_DOCUMENT)
    programs = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([programs, os.environ["PATH"]])}
    with controller_process():
        for example, printed in zip(EXAMPLES, PRINTED, strict=True):
            done = subprocess.run(
                [sys.executable, "-c", example],
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, (example, done.stderr)
            for words in printed:
                assert words in done.stdout, (example, done.stdout)


def test_a_program_without_a_loop(controller: None) -> None:
    phases: list[Phase] = []
    with meshtui.connect(spawn=False) as mesh:
        assert {option.enabled.model for option in mesh.models()} >= set(MODELS)
        run = mesh.chat("fake/hello", "Hello", on_wait=lambda server: phases.append(server.phase))
        assert "Paris" in run.answer and run.usage is not None
        assert phases[-1] is Phase.READY
        short = mesh.chat(
            "fake/hello",
            [ChatMessage("user", "Hello"), {"role": "assistant", "content": "Yes?"}],
            system="Be short.",
            max_tokens=2,
        )
        assert short.answer == "The capital " and short.finish_reason == "length"
        assert [message.role for message in short.messages] == ["system", "user", "assistant"]
        assert "".join(mesh.stream("fake/hello", "Hello")) == run.answer
        assert [len(vector) for vector in mesh.embed("fake/embedder", ["a", "b"])] == [7, 7]
        assert len(mesh.embed("fake/embedder", "one text", dimensions=3)) == 1
        assert mesh.rerank("fake/reranker", "rain", ["u", "rain"])[0] == Ranked(
            1, pytest.approx(1.0)
        )
        assert mesh.classify("fake/classifier", ["good"])[0].label == "1"
    with pytest.raises(Unavailable, match="closed"):
        mesh.models()
    mesh.close()
    assert asyncio.run(history()) == []


async def history() -> list[Any]:
    client = ControllerClient()
    try:
        await client.connect(spawn=False)
        return list(await client.runs())
    finally:
        await client.close()


def test_what_is_wrong_comes_as_errors_of_ours(controller: None) -> None:
    with meshtui.connect() as mesh:
        with pytest.raises(InvalidInput, match="cannot chat"):
            mesh.chat("fake/embedder", "Hello")
        with pytest.raises(NotFound, match="not enabled"):
            mesh.chat("no/such", "Hello")
        with pytest.raises(InvalidInput, match="empty"):
            mesh.chat("fake/hello", " ")
        with pytest.raises(InvalidInput, match="role"):
            mesh.chat("fake/hello", [{"role": "king", "content": "Hello"}])
        with pytest.raises(InvalidInput, match="temperature"):
            mesh.chat("fake/hello", "Hello", temperature=-1)
        pieces: list[str] = []
        with pytest.raises(EngineError):
            pieces.extend(mesh.stream("fake/breaks", "Hello"))


def test_leaving_the_loop_stops_the_generation(controller: None) -> None:
    with meshtui.connect() as mesh:
        for piece in mesh.stream("fake/endless", "Go on."):
            if piece:
                break
        wait_until(lambda: running(mesh) == 0, "the engine is free", 60)


def running(mesh: meshtui.mesh.Mesh) -> int:
    [server] = [option.server for option in mesh.models() if option.server is not None]
    with urlopen(f"http://127.0.0.1:{server.port}/fake/state", timeout=20) as answer:
        return int(re.findall(rb'"running": (\d+)', answer.read())[0])


def test_closing_frees_whoever_waits_in_another_thread(controller: None) -> None:
    mesh = meshtui.connect()
    told: list[Exception] = []

    def ask() -> None:
        try:
            mesh.chat("fake/endless", "Go on.")
        except Exception as error:
            told.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    with meshtui.connect() as other:
        wait_until(
            lambda: any(o.server and o.server.active_requests for o in other.models()),
            "the engine works",
            60,
        )
    mesh.close()
    thread.join(timeout=60)
    assert isinstance(told[0], Unavailable)


async def test_a_program_with_a_loop(controller: None) -> None:
    async with meshtui.connect_async(spawn=False) as mesh:
        runs = await asyncio.gather(*(mesh.chat("fake/hello", "Hello") for _ in range(3)))
        assert all("Paris" in run.answer for run in runs)
        pieces = [piece async for piece in mesh.stream("fake/hello", "Hello", max_tokens=2)]
        assert "".join(pieces) == "The capital "
        assert len(await mesh.embed("fake/embedder", ["a"])) == 1
        assert len(await mesh.rerank("fake/reranker", "a", ["b", "c"])) == 2
        assert len(await mesh.classify("fake/classifier", ["b", "c"])) == 2


def test_without_a_controller_and_without_starting_one(own_folders: Path) -> None:
    with pytest.raises(Unavailable, match="not running"):
        meshtui.connect(spawn=False)

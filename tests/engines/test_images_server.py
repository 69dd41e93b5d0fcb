"""The server of pictures with real pipelines: tiny and random, and of diffusers' own making."""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

import meshtui
from tests.engines.running_engine import KEY, free_port, kill_session
from tests.support.pipelines import tiny_pipelines
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.engine

SCRIPT = Path(meshtui.__file__).parent / "serving" / "run_images.py"
HEADERS = {"Authorization": f"Bearer {KEY}"}
START_TIMEOUT_S = 300
LONG = {"steps": 500, "n": 10}  # what takes longer than a test waits, if it is not cancelled


class Images:
    """A server of pictures that has started, ready or not."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.url, self.process, self.log = url, process, log

    def health(self) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=10) as answer:
                return dict(json.load(answer), status=answer.status)
        except urllib.error.HTTPError as refusal:
            return dict(json.load(refusal), status=refusal.code)
        except OSError:
            assert self.process.poll() is None, self.log.read_text()
            return None

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            health = self.health() or {}
            return health.get("status") == 200

        wait_until(ready, "the pipeline is loaded", START_TIMEOUT_S)

    async def total(self, what: str) -> int:
        async with aiohttp.ClientSession() as session, session.get(self.url + "/metrics") as got:
            lines = (await got.text()).splitlines()
        return int(dict(line.split() for line in lines)[f"meshtui_image_{what}_total"])

    async def more_than(self, what: str, before: int) -> None:
        """Until a total has grown; the server says it to those who ask only."""
        async with asyncio.timeout(60):
            while await self.total(what) <= before:
                await asyncio.sleep(0.02)


@contextmanager
def started(python: Path, pipeline: Path, folder: Path, *arguments: str) -> Iterator[Images]:
    port, log = free_port(), folder / f"{pipeline.name}.log"
    environment = {**os.environ, "MESHTUI_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(python), str(SCRIPT), str(pipeline), "--port", str(port), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Images(f"http://127.0.0.1:{port}", process, log)
    finally:
        kill_session(process.pid)
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def pipelines(engine_python: Path) -> Path:
    return tiny_pipelines(engine_python)


@pytest.fixture(scope="module", params=["sd", "sdxl", "flux"])
def images(
    request: pytest.FixtureRequest,
    engine_python: Path,
    pipelines: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Images]:
    folder = tmp_path_factory.mktemp("images")
    with started(engine_python, pipelines / request.param, folder, "--max-waiting", "1") as server:
        server.wait_until_ready()
        yield server


def client(server: Images) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0)


def wanted(**more: object) -> dict[str, Any]:
    return {"prompt": "a cat in the rain", "size": "64x64", "steps": 3, "seed": 7, **more}


async def ask(server: Images, **more: object) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession(headers=HEADERS) as session,
        session.post(server.url + "/v1/images/generations", json=wanted(**more)) as answer,
    ):
        body = await answer.json()
        assert answer.status == 200, body
        return dict(body)


def picture_size(data: str) -> tuple[int, int]:
    """Of a PNG: its header has width and height."""
    header = base64.b64decode(data)[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(header[16:20]), int.from_bytes(header[20:24])


def test_the_openai_client_gets_pictures(images: Images) -> None:
    with client(images) as asking:
        assert [model.id for model in asking.models.list()] == [
            images.log.name.removesuffix(".log")
        ]
        answer = asking.images.generate(
            prompt="a cat", size="64x64", n=2, extra_body={"steps": 2, "seed": 3}  # type: ignore[arg-type]
        )  # fmt: skip
        assert answer.data is not None and len(answer.data) == 2
        first, second = (one.b64_json or "" for one in answer.data)
        assert picture_size(first) == (64, 64) and first != second


def test_the_openai_client_gets_pictures_as_they_come(images: Images) -> None:
    with client(images) as asking:
        events = list(
            asking.images.generate(
                prompt="a cat",
                size="64x64",  # type: ignore[arg-type]
                stream=True,
                partial_images=2,
                extra_body={"steps": 6},
            )
        )
    kinds = [str(event.type) for event in events]
    assert kinds.count("image_generation.progress") == 6
    assert kinds.count("image_generation.partial_image") == 2
    assert kinds[-1] == "image_generation.completed"
    assert picture_size(events[-1].b64_json) == (64, 64)


async def test_a_seed_gives_the_same_picture_and_the_next_seed_another(images: Images) -> None:
    both = await ask(images, n=2)
    again, next_one = await ask(images), await ask(images, seed=8)
    assert [one["seed"] for one in both["data"]] == [7, 8]
    assert both["data"] == again["data"] + next_one["data"]
    assert (await ask(images, seed=None))["data"][0]["seed"] >= 0
    jpeg = await ask(images, output_format="jpeg", output_compression=50, size="128x64")
    assert base64.b64decode(jpeg["data"][0]["b64_json"])[:2] == b"\xff\xd8"
    assert jpeg["size"] == "128x64"


async def test_who_hangs_up_stops_the_making(images: Images) -> None:
    before = await ask(images)
    for streamed in (True, False):
        body = wanted(**LONG, stream=streamed)
        cancelled, steps = await images.total("requests_cancelled"), await images.total("steps")
        async with aiohttp.ClientSession(headers=HEADERS) as session:
            posted = session.post(images.url + "/v1/images/generations", json=body)
            if streamed:
                async with posted as answer:
                    assert await answer.content.readline() == b"event: image_generation.progress\n"
            else:
                waiting = asyncio.ensure_future(posted)
                await images.more_than("steps", steps)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
        await images.more_than("requests_cancelled", cancelled)
    assert (await ask(images))["data"] == before["data"]


async def test_the_queue_is_bounded_and_who_leaves_it_makes_room(images: Images) -> None:
    url = images.url + "/v1/images/generations"
    body = wanted(**LONG, stream=True)
    cancelled = await images.total("requests_cancelled")
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        async with session.post(url, json=body) as working:
            await working.content.readline()
            async with (
                session.post(url, json=body),  # waits in the queue's one place
                session.post(url, json=body) as refused,
            ):
                assert refused.status == 429
                assert int(refused.headers["Retry-After"]) > 0
                assert "try again soon" in (await refused.json())["error"]["message"]

            # Its place is free while the first picture is still being made.
            async with asyncio.timeout(60):
                status = 429
                while status == 429:
                    async with session.post(url, json=body) as answer:
                        status = answer.status
                assert status == 200
        await images.more_than("requests_cancelled", cancelled)


async def test_what_cannot_be_done_is_said(images: Images) -> None:
    url = images.url + "/v1/images/generations"
    cases: list[tuple[dict[str, Any], int, str]] = [
        (wanted(size="63x64"), 400, "multiples of"),
        (wanted(size="4096x4096"), 400, "are the most"),
        (wanted(image="x"), 400, "from text only"),
        (wanted(model="another"), 404, "does not exist"),
        (wanted(response_format="url"), 400, "b64_json"),
        (wanted(wings=2), 400, "`wings` is nothing that this pipeline takes"),
    ]
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        for body, status, words in cases:
            async with session.post(url, json=body) as answer:
                error = (await answer.json())["error"]
                assert (answer.status, words in error["message"]) == (status, True), error
        async with session.post(url, data=b"{") as answer:
            assert answer.status == 400
        async with session.post(images.url + "/v1/images/edits", data=b"") as answer:
            assert answer.status == 400
    async with aiohttp.ClientSession() as session, session.post(url, json=wanted()) as answer:
        assert answer.status == 401


async def test_the_way_there_is_told_and_ending_is_quick(
    engine_python: Path, pipelines: Path, tmp_path: Path
) -> None:
    with started(engine_python, pipelines / "flux", tmp_path) as server:
        await eventually(server.health, "it listens while it loads", START_TIMEOUT_S)
        server.wait_until_ready()
        lines = [line for line in server.log.read_text().splitlines() if "meshtui-images" in line]
        assert any("LoadingWeights" in line and "transformer" in line for line in lines)
        assert lines[-1].endswith("FluxPipeline is loaded")
        async with (
            aiohttp.ClientSession(headers=HEADERS) as session,
            session.post(
                server.url + "/v1/images/generations", json=wanted(**LONG, stream=True)
            ) as answer,
        ):
            await answer.content.readline()
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(timeout=30)


def test_a_pipeline_that_cannot_be_loaded_is_told(
    engine_python: Path, pipelines: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(pipelines / "flux", broken)
    weights = next((broken / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with started(engine_python, broken, tmp_path) as server:
        assert server.process.wait(timeout=START_TIMEOUT_S) == 1
        assert "meshtui-images: Failed" in server.log.read_text()
    empty = subprocess.run(
        [str(engine_python), str(SCRIPT), str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert empty.returncode == 2 and "no model_index.json" in empty.stderr

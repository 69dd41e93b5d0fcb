"""Events of pictures as an engine sends them, whole and broken, and what becomes of them."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from meshtui.domain.errors import EngineError
from meshtui.domain.images import ImageEvent, ImageMade, ImagePreview, ImageRequest, ImageStep
from meshtui.domain.task import Engine
from meshtui.inference.chat import AnswerFailed, RequestRefused, Target
from meshtui.inference.images import PATH, images_body, make_images

PICTURE = base64.b64encode(b"picture").decode()
STEP = {"type": "image_generation.progress", "step": 1, "total_steps": 2, "elapsed_s": 0.5}
PREVIEW = {"type": "image_generation.partial_image", "b64_json": PICTURE, "image_index": 0}
MADE = {"type": "image_generation.completed", "b64_json": PICTURE, "image_index": 0, "seed": 7}
ASKED = ImageRequest(model="org/pictures", prompt="a cat")


class Answers:
    """An engine that sends what a test says."""

    def __init__(self) -> None:
        self.status, self.text = 200, ""
        self.base_url = ""

    def says(self, *events: object, done: bool = True) -> None:
        self.text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        self.text += "data: [DONE]\n\n" if done else ""

    async def answer(self, request: web.Request) -> web.Response:
        return web.Response(status=self.status, text=self.text)

    async def events(self) -> list[ImageEvent]:
        target = Target(
            base_url=self.base_url, engine=Engine.DIFFUSERS, model="m", model_dir=Path()
        )
        async with aiohttp.ClientSession() as session:
            return [event async for event in make_images(session, target, ASKED)]


@pytest.fixture
async def engine() -> AsyncIterator[Answers]:
    answers = Answers()
    app = web.Application()
    app.router.add_post(PATH, answers.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    answers.base_url = f"http://{host}:{port}"
    yield answers
    await runner.cleanup()


async def test_steps_previews_and_pictures_come_out(engine: Answers) -> None:
    engine.says(STEP, PREVIEW, {"type": "of.a.later.version"}, MADE)
    assert await engine.events() == [
        ImageStep(1, 2, 0.5),
        ImagePreview(0, b"picture"),
        ImageMade(0, b"picture", 7),
    ]


@pytest.mark.parametrize(
    "event",
    [[], "text", {}, {**STEP, "step": "x"}, {**MADE, "b64_json": "?"}, {**MADE, "seed": None}],
)
async def test_nonsense_is_an_error_of_the_engine(engine: Answers, event: object) -> None:
    engine.says(event)
    with pytest.raises(EngineError, match="no event of pictures"):
        await engine.events()


async def test_a_failure_on_the_way_is_told(engine: Answers) -> None:
    engine.says(STEP, {"type": "error", "error": {"message": "no memory", "code": 507}})
    with pytest.raises(AnswerFailed, match="no memory"):
        await engine.events()


async def test_a_stream_that_breaks_off_is_no_success(engine: Answers) -> None:
    engine.says(STEP, done=False)
    with pytest.raises(EngineError, match="broke off"):
        await engine.events()


async def test_a_refusal_is_told_from_a_failure(engine: Answers) -> None:
    engine.text = json.dumps({"error": {"message": "`size` is odd", "code": 400}})
    engine.status = 400
    with pytest.raises(RequestRefused, match="`size` is odd"):
        await engine.events()
    engine.status, engine.text = 429, '{"error": {"message": "busy", "code": 429}}'
    with pytest.raises(AnswerFailed, match="busy"):
        await engine.events()


def test_what_is_left_open_is_not_sent() -> None:
    assert images_body(ASKED) == {
        "prompt": "a cat", "n": 1, "output_format": "png", "stream": True,
    }  # fmt: skip
    asked = ImageRequest(
        model="m", prompt="p", width_px=512, steps=4, guidance_scale=0.0, seed=0, previews=2
    )
    body = images_body(asked)
    assert (body["size"], body["num_inference_steps"], body["partial_images"]) == ("512x512", 4, 2)
    assert (body["guidance_scale"], body["seed"]) == (0.0, 0)

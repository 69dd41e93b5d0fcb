"""Has a running engine make pictures, and tells how far it is.

The engine's language is that of `meshtui.serving.images`: OpenAI's events of generated images, with
the steps between them.
"""

import base64
import binascii
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import msgspec

from meshtui.domain.errors import EngineError
from meshtui.domain.images import ImageEvent, ImageMade, ImagePreview, ImageRequest, ImageStep
from meshtui.engines.answers import from_payload
from meshtui.engines.registry import adapter
from meshtui.engines.sse import EventSplitter, EventTooLong
from meshtui.inference.chat import Target, error_page, failure
from meshtui.inference.relay import open_relay, relayed

PATH = "/v1/images/generations"


async def make_images(
    session: aiohttp.ClientSession, target: Target, request: ImageRequest
) -> AsyncGenerator[ImageEvent, None]:
    """Steps, previews and pictures as they come. Closing the generator cancels in the engine.

    Raises `RequestRefused` where the pipeline cannot do what is asked, `AnswerFailed` or
    `EngineError` where it fails.
    """
    speaks = adapter(target.engine)
    async with open_relay(session, target, PATH, images_body(request)) as response:
        if response.status != 200:
            raise failure(speaks.error(response.status, await error_page(response)))
        splitter, is_over = EventSplitter(), False
        async for data in relayed(response):
            try:
                events = splitter.feed(data)
            except EventTooLong as error:
                raise EngineError(f"The engine's answer cannot be read: {error}.") from None
            for event in events:
                if event == b"[DONE]":
                    is_over = True
                elif (told := _event(event)) is not None:
                    yield told
        if not is_over:
            raise EngineError(
                "The engine broke off before the pictures were complete.",
                hint="Look at the server's log.",
            )


def images_body(request: ImageRequest) -> dict[str, Any]:
    """OpenAI's request, streamed, with the names that diffusers gives to the rest."""
    size = None
    if request.width_px is not None or request.height_px is not None:
        size = f"{request.width_px or request.height_px}x{request.height_px or request.width_px}"
    body: dict[str, Any] = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "size": size,
        "n": request.count,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "seed": request.seed,
        "output_format": request.format,
        "partial_images": request.previews or None,
        "stream": True,
    }
    return {name: value for name, value in body.items() if value is not None}


def _event(data: bytes) -> ImageEvent | None:
    """None for kinds that came later than this."""
    try:
        told = msgspec.json.decode(data)
        if "error" in told:
            raise failure(from_payload(told) or told)
        match told["type"]:
            case "image_generation.progress":
                return ImageStep(
                    int(told["step"]), int(told["total_steps"]), float(told["elapsed_s"])
                )
            case "image_generation.partial_image":
                return ImagePreview(int(told["image_index"]), _picture(told))
            case "image_generation.completed":
                return ImageMade(int(told["image_index"]), _picture(told), int(told["seed"]))
            case _:
                return None
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise EngineError(f"The engine sent what is no event of pictures: {data[:200]!r}") from None


def _picture(told: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(told["b64_json"], validate=True)
    except binascii.Error:
        raise ValueError("no base64") from None

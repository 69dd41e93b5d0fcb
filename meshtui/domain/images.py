"""What is asked of models that make pictures, and what they answer."""

import re

import msgspec

from meshtui.domain.server import Explanation, ServerStatus

_MOST_NAME_CHARACTERS = 40


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A picture to make from words. What is None is left to the pipeline.

    `connection` is needed where several enable the model. `seed` is that of the first of `count`
    pictures; the next ones count on from it. `format` is png, jpeg or webp. `previews` is how many
    unfinished pictures are wanted on the way to each one.
    """

    model: str
    prompt: str
    connection: str | None = None
    negative_prompt: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    count: int = 1
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    format: str = "png"
    previews: int = 0


class ImageWaiting(msgspec.Struct, frozen=True, tag="waiting"):
    """The server is not ready yet; its state has changed."""

    server: ServerStatus


class ImageStep(msgspec.Struct, frozen=True, tag="step"):
    """So many steps of all pictures' are done."""

    done: int
    total: int
    elapsed_s: float


class ImagePreview(msgspec.Struct, frozen=True, tag="preview"):
    """A small unfinished picture on the way to the `number`-th one, from 0."""

    number: int
    data: bytes


class ImageMade(msgspec.Struct, frozen=True, tag="made"):
    """The `number`-th picture, from 0, and the seed that makes it again."""

    number: int
    data: bytes
    seed: int


class ImagesEnded(msgspec.Struct, frozen=True, tag="ended"):
    """No more comes. `error` says why not everything did."""

    error: Explanation | None = None


ImageEvent = ImageWaiting | ImageStep | ImagePreview | ImageMade | ImagesEnded


def picture_name(prompt: str, seed: int, suffix: str = "png", number: int = 1) -> str:
    """A file's name that says what it shows: `a-red-fox-7.png`; the next of that name ends in
    `-2`."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:_MOST_NAME_CHARACTERS].strip("-")
    again = f"-{number}" if number > 1 else ""
    return f"{words or 'picture'}-{seed}{again}.{suffix}"

"""What a client asks for, checked: OpenAI's fields, and those of diffusers under its own names.

Source of the names: OpenAI's reference of `POST /v1/images/generations`, and the arguments of
diffusers' pipelines (`num_inference_steps`, `guidance_scale`, `true_cfg_scale`, `seed` ...), which
vLLM-Omni takes too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_IMAGES = 10
MOST_STEPS = 500
MOST_PREVIEWS = 10
MOST_PROMPT_CHARACTERS = 100_000
MOST_SEED = 2**63 - 1
FORMATS = ("png", "jpeg", "webp")

# What OpenAI's clients may send and what means nothing here: their models' own switches.
_IGNORED = frozenset({"background", "moderation", "quality", "style", "user", "model"})
_OF_OTHER_TASKS = ("image", "images", "mask", "input_image", "init_image", "strength")
# Arguments of pipelines that go through as they are, where the pipeline has them.
_PASSED_ON = {
    "guidance_scale": float,
    "true_cfg_scale": float,
    "guidance_rescale": float,
    "max_sequence_length": int,
    "clip_skip": int,
    "eta": float,
    "negative_prompt": str,
    "prompt_2": str,
    "prompt_3": str,
    "negative_prompt_2": str,
    "negative_prompt_3": str,
}
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


class BadRequest(Exception):
    """A request that cannot be served as it is; `param` is the field at fault."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message, self.param = message, param


@dataclass(frozen=True)
class Limits:
    """What the loaded pipeline takes: sizes are multiples of `step_px`, up to `most_px` in all."""

    step_px: int
    default_px: int
    most_px: int
    default_steps: int
    arguments: frozenset[str]


@dataclass(frozen=True)
class ImageRequest:
    """One checked request. `seed` is that of the first picture; the next ones count on from it.

    `previews` is how many unfinished pictures are wanted on the way to each one.
    """

    prompt: str
    width_px: int
    height_px: int
    count: int
    steps: int
    seed: int | None
    format: str
    compression: int | None
    streamed: bool
    previews: int
    passed_on: Mapping[str, Any]

    @property
    def total_steps(self) -> int:
        return self.count * self.steps


def read_request(body: object, limits: Limits) -> ImageRequest:
    """Raises `BadRequest`, whose words name the field and what it may be."""
    if not isinstance(body, dict):
        raise BadRequest("The body is no JSON object.")
    for name in _OF_OTHER_TASKS:
        if body.get(name) is not None:
            raise BadRequest(
                f"`{name}` is given, but this server makes pictures from text only: it changes "
                "none that exist.",
                name,
            )
    if body.get("response_format") not in (None, "b64_json"):
        raise BadRequest(
            "`response_format` can only be `b64_json`: nothing is kept that a URL could lead to.",
            "response_format",
        )
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadRequest("`prompt` has to be a text.", "prompt")
    if len(prompt) > MOST_PROMPT_CHARACTERS:
        raise BadRequest(
            f"`prompt` has {len(prompt):,} characters; {MOST_PROMPT_CHARACTERS:,} are the most.",
            "prompt",
        )
    width_px, height_px = _size(body.get("size"), limits)
    steps_name = "steps" if body.get("steps") is not None else "num_inference_steps"
    format = "png" if body.get("output_format") is None else body["output_format"]
    if format not in FORMATS:
        raise BadRequest(f"`output_format` is one of {', '.join(FORMATS)}.", "output_format")
    return ImageRequest(
        prompt=prompt,
        width_px=width_px,
        height_px=height_px,
        count=_whole(body, "n", 1, MOST_IMAGES) or 1,
        steps=_whole(body, steps_name, 1, MOST_STEPS) or limits.default_steps,
        seed=_whole(body, "seed", 0, MOST_SEED),
        format=format,
        compression=_whole(body, "output_compression", 0, 100),
        streamed=_truth(body, "stream"),
        previews=_whole(body, "partial_images", 0, MOST_PREVIEWS) or 0,
        passed_on=_passed_on(body, limits),
    )


_READ = frozenset(
    {
        "prompt", "size", "n", "steps", "num_inference_steps", "seed", "stream", "partial_images",
        "output_format", "output_compression", "response_format",
    }
)  # fmt: skip


def _passed_on(body: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in body.items():
        if value is None or name in _READ or name in _IGNORED:
            continue
        kind = _PASSED_ON.get(name)
        if kind is None or name not in limits.arguments:
            raise BadRequest(f"`{name}` is nothing that this pipeline takes.", name)
        if kind is float:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise BadRequest(f"`{name}` has to be a number.", name)
            if not -1000 <= value <= 1000:
                raise BadRequest(f"`{name}` is {value:g}; it lies between -1000 and 1000.", name)
            found[name] = float(value)
        elif kind is int:
            found[name] = _whole(body, name, 0, 100_000)
        elif isinstance(value, str) and len(value) <= MOST_PROMPT_CHARACTERS:
            found[name] = value
        else:
            raise BadRequest(f"`{name}` has to be a text.", name)
    return found


def _size(value: object, limits: Limits) -> tuple[int, int]:
    if value in (None, "auto"):
        return limits.default_px, limits.default_px
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise BadRequest("`size` is written as `1024x1024`, or `auto`.", "size")
    width, height = int(found[1]), int(found[2])
    step = limits.step_px
    if width % step or height % step or not width or not height:
        # Pipelines would round silently.
        near = "x".join(str(max(step, round(side / step) * step)) for side in (width, height))
        raise BadRequest(
            f"`size` is {width}x{height}; this pipeline makes multiples of {step} pixels, "
            f"{near} for example.",
            "size",
        )
    if width * height > limits.most_px:
        raise BadRequest(
            f"`size` is {width}x{height}; {limits.most_px:,} pixels are the most that this server "
            "was started for.",
            "size",
        )
    return width, height


def _whole(body: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRequest(f"`{name}` is a whole number from {least:,} to {most:,}.", name)
    return value


def _truth(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value not in (None, True, False):
        raise BadRequest(f"`{name}` is true or false.", name)
    return bool(value)

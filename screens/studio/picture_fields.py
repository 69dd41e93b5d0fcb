"""The fields of a request for pictures: what they accept and what they mean."""

import re
from collections.abc import Mapping
from typing import Any

from meshtui.domain.images import ImageRequest

from .parameters import BadParameter, FieldSpec

SIZE = FieldSpec("picture_size", "Size", "written as 1024x768")
STEPS = FieldSpec("picture_steps", "Steps", "a whole number from 1 to 500")
GUIDANCE = FieldSpec("picture_guidance", "Guidance", "a number from 0 to 100")
SEED = FieldSpec("picture_seed", "Seed", "a whole number from 0 up")
COUNT = FieldSpec("picture_count", "Count", "a whole number from 1 to 10")
WITHOUT = FieldSpec("picture_without", "Without", "a text")
ROWS = ((SIZE, STEPS), (GUIDANCE, SEED, COUNT), (WITHOUT,))
FIELDS = tuple(field for row in ROWS for field in row)
# What an empty field says, where the model does not choose it.
EMPTY = {COUNT: "1", SEED: "any", WITHOUT: "what is not to be seen"}

_SIZE = re.compile(r"\s*(\d{1,5})\s*[x×]\s*(\d{1,5})\s*")


def read(values: Mapping[str, str]) -> dict[str, Any]:
    """What the texts mean, under `ImageRequest`'s names; empty ones are left open. Raises
    `BadParameter`."""
    found: dict[str, Any] = {}
    if text := values.get(WITHOUT.name, "").strip():
        found["negative_prompt"] = text
    if text := values.get(SIZE.name, "").strip():
        size = _SIZE.fullmatch(text)
        if size is None:
            raise BadParameter(SIZE)
        found |= {"width_px": int(size[1]), "height_px": int(size[2])}
    if text := values.get(GUIDANCE.name, "").strip():
        try:
            guidance = float(text)
        except ValueError:
            raise BadParameter(GUIDANCE) from None
        if not 0 <= guidance <= 100:
            raise BadParameter(GUIDANCE)
        found["guidance_scale"] = guidance
    for field, name, least, most in (
        (STEPS, "steps", 1, 500),
        (SEED, "seed", 0, 2**63 - 1),
        (COUNT, "count", 1, 10),
    ):
        if text := values.get(field.name, "").strip():
            if not text.isdecimal() or len(text) > 19 or not least <= int(text) <= most:
                raise BadParameter(field)
            found[name] = int(text)
    return found


def write(request: ImageRequest) -> dict[str, str]:
    """The texts that mean the request."""
    found = {
        STEPS.name: request.steps,
        GUIDANCE.name: None if request.guidance_scale is None else f"{request.guidance_scale:g}",
        SEED.name: request.seed,
        COUNT.name: request.count if request.count != 1 else None,
        WITHOUT.name: request.negative_prompt,
    }
    if request.width_px is not None:
        found[SIZE.name] = f"{request.width_px}x{request.height_px}"
    return {name: str(value) for name, value in found.items() if value is not None}

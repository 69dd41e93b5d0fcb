"""What the server of pictures takes, and what it says to everything else."""

from typing import Any

import pytest

from meshtui.serving.images.pipeline import fitting_offload
from meshtui.serving.images.requests import MOST_IMAGES, BadRequest, Limits, read_request

LIMITS = Limits(
    step_px=16,
    default_px=1024,
    most_px=2048 * 2048,
    default_steps=28,
    arguments=frozenset({"prompt", "guidance_scale", "negative_prompt", "max_sequence_length"}),
)


def asked(**more: object) -> dict[str, Any]:
    return {"prompt": "a cat", **more}


def test_a_prompt_is_enough() -> None:
    request = read_request(asked(), LIMITS)
    assert (request.width_px, request.height_px) == (1024, 1024)
    assert (request.count, request.steps, request.seed) == (1, 28, None)
    assert (request.format, request.streamed, request.previews) == ("png", False, 0)
    assert request.passed_on == {}


def test_what_is_asked_for_is_read() -> None:
    request = read_request(
        asked(
            size="512x768",
            n=3,
            steps=4,
            seed=9,
            output_format="jpeg",
            output_compression=40,
            stream=True,
            partial_images=2,
            guidance_scale=3,
            negative_prompt="dogs",
            max_sequence_length=256,
            quality="high",
            user="someone",
        ),
        LIMITS,
    )
    assert (request.width_px, request.height_px, request.total_steps) == (512, 768, 12)
    assert (request.seed, request.format, request.compression) == (9, "jpeg", 40)
    assert request.streamed and request.previews == 2
    assert request.passed_on == {
        "guidance_scale": 3.0,
        "negative_prompt": "dogs",
        "max_sequence_length": 256,
    }


def test_the_steps_have_the_name_that_diffusers_gives_them_too() -> None:
    assert read_request(asked(num_inference_steps=7), LIMITS).steps == 7


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ([], None, "no JSON object"),
        ({}, "prompt", "has to be a text"),
        (asked(prompt="  "), "prompt", "has to be a text"),
        (asked(prompt="a" * 100_001), "prompt", "100,000 are the most"),
        (asked(size="big"), "size", "1024x1024"),
        (asked(size="1000x1000"), "size", "992x992 for example"),
        (asked(size="0x16"), "size", "multiples of 16"),
        (asked(size=1024), "size", "1024x1024"),
        (asked(size="4096x4096"), "size", "4,194,304 pixels are the most"),
        (asked(n=0), "n", f"from 1 to {MOST_IMAGES}"),
        (asked(n=True), "n", "whole number"),
        (asked(steps=501), "steps", "from 1 to 500"),
        (asked(num_inference_steps="9"), "num_inference_steps", "whole number"),
        (asked(seed=-1), "seed", "whole number"),
        (asked(stream="yes"), "stream", "true or false"),
        (asked(output_format="bmp"), "output_format", "png, jpeg, webp"),
        (asked(output_format=[]), "output_format", "png, jpeg, webp"),
        (asked(response_format="url"), "response_format", "nothing is kept"),
        (asked(image="aGk="), "image", "from text only"),
        (asked(mask="aGk="), "mask", "from text only"),
        (asked(guidance_scale="3"), "guidance_scale", "a number"),
        (asked(guidance_scale=float("nan")), "guidance_scale", "between"),
        (asked(guidance_scale=True), "guidance_scale", "a number"),
        (asked(negative_prompt=["dogs"]), "negative_prompt", "a text"),
        (asked(max_sequence_length=-3), "max_sequence_length", "whole number"),
        (asked(true_cfg_scale=1.0), "true_cfg_scale", "nothing that this pipeline takes"),
        (asked(callback_on_step_end="os.system"), "callback_on_step_end", "nothing that this"),
    ],
)
def test_what_cannot_be_is_said_with_its_field(body: object, param: str | None, words: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        read_request(body, LIMITS)
    assert refusal.value.param == param
    assert words in refusal.value.message


def test_as_much_stays_on_the_gpu_as_fits() -> None:
    components = [24, 10, 1]
    assert fitting_offload(components, 4, 40) == "none"
    assert fitting_offload(components, 4, 38) == "model"
    assert fitting_offload(components, 4, 27) == "sequential"

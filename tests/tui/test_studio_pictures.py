"""The studio with a model that makes pictures."""

import io
import struct
import zlib
from pathlib import Path

import pytest
from meshtui.screens.studio.answer import Standing
from meshtui.screens.studio.answers import Answers
from meshtui.screens.studio.editor import PromptSide
from meshtui.screens.widgets import picture
from meshtui.screens.widgets.fields import Field
from PIL import Image

from meshtui.domain.connection import EnabledModel
from meshtui.domain.images import (
    ImageMade,
    ImagePreview,
    ImageRequest,
    ImagesEnded,
    ImageStep,
    ImageWaiting,
)
from meshtui.domain.server import Explanation, Phase
from meshtui.domain.task import Task
from tests.support.waiting import eventually
from tests.tui.conftest import AppPilot, MeshtuiApp, opened, said, settled, shown
from tests.tui.scripted import ENABLED, ScriptedClient, overview, record, server
from tests.tui.snapshots import assert_looks

FLUX = EnabledModel(model="black-forest-labs/FLUX.1-schnell", task=Task.TEXT_TO_IMAGE)
PROMPT = "A lighthouse in the fog"
SIZES = [(80, 24), (160, 45)]


def file(width_px: int = 256, height_px: int = 192, format: str = "PNG") -> bytes:
    """A picture with an above, a below, a left and a right."""
    image = Image.linear_gradient("L").resize((width_px, height_px))
    across = image.rotate(90, expand=True).resize((width_px, height_px))
    out = io.BytesIO()
    Image.merge("RGB", (image, across, Image.new("L", image.size, 96))).save(out, format)
    return out.getvalue()


def only_pictures() -> ScriptedClient:
    return ScriptedClient(overview(models=(FLUX,)))


def answer(app: MeshtuiApp) -> Standing:
    block = app.screen.query_one(Answers).current
    assert block is not None
    return block.answer.standing


async def ask(app: MeshtuiApp, pilot: AppPilot, **fields: str) -> None:
    side = app.screen.query_one(PromptSide)
    await eventually(lambda: side.query("#picture_count"), "the fields of pictures")
    await settled(pilot)
    side.user.load(PROMPT)
    for name, value in fields.items():
        side.query_one(f"#picture_{name}", Field).value = value
    await pilot.press("ctrl+r")
    await settled(pilot)


def half_blocks(app: MeshtuiApp) -> int:
    return shown(app).count("▄")


async def test_fields_are_those_of_pictures_and_reach_the_request() -> None:
    client = only_pictures()
    async with opened(client, size=(160, 45)) as (app, pilot):
        await ask(
            app, pilot, size="1024x768", steps="4", guidance="3.5", seed="7", count="2",
            without="people",
        )  # fmt: skip
        assert "Steps" in shown(app) and "Max tokens" not in shown(app)
        assert client.pictures_asked == [
            ImageRequest(
                model=FLUX.model,
                connection="local",
                prompt=PROMPT,
                negative_prompt="people",
                width_px=1024,
                height_px=768,
                steps=4,
                guidance_scale=3.5,
                seed=7,
                count=2,
                previews=client.pictures_asked[0].previews,
            )
        ]
        assert client.requests == []


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("size", "big", "Size must be written as 1024x768"),
        ("steps", "0", "Steps must be"),
        ("guidance", "nan", "Guidance must be"),
        ("seed", "-1", "Seed must be"),
        ("count", "11", "Count must be"),
    ],
)
async def test_a_field_that_cannot_be_is_said(field: str, value: str, rule: str) -> None:
    client = only_pictures()
    async with opened(client, size=(160, 45)) as (app, pilot):
        await ask(app, pilot, **{field: value})
        assert rule in shown(app)
        assert app.focused is app.screen.query_one(f"#picture_{field}")
        assert client.pictures_asked == []


async def test_steps_are_told_then_a_preview_then_the_picture(tmp_path: Path) -> None:
    client = only_pictures()
    async with opened(client, size=(160, 45)) as (app, pilot):
        await ask(app, pilot)
        loading = server(Phase.LOADING_WEIGHTS, phases=(record(Phase.LOADING_WEIGHTS, -10),))
        client.answer(ImageWaiting(loading))
        await eventually(lambda: "Load weights" in shown(app), "the way there")
        client.answer(ImageWaiting(server()), ImageStep(2, 8, 1.0))
        await eventually(lambda: "step 2 of 8" in shown(app), "the step")
        await eventually(lambda: "0:03 left" in shown(app), "what is left")
        client.answer(ImagePreview(0, file(64, 48)))
        await eventually(lambda: half_blocks(app) > 500, "the unfinished picture")
        client.answer(ImageStep(8, 8, 4.0), ImageMade(0, file(), 7), ImagesEnded(), None)
        await eventually(lambda: answer(app) is Standing.DONE, "the end")
        await eventually(lambda: "8 steps · 4.0 s · seed 7" in shown(app), "what it took")
        assert half_blocks(app) > 500

        # It is saved as it came, under a name that says what it shows.
        app.screen.query_one(Answers).focus()
        await pilot.press("w")
        await settled(pilot)
        asked = app.screen.query_one(Field)
        assert asked.value.endswith("a-lighthouse-in-the-fog-7.png")
        asked.value = str(tmp_path / "fog.png")
        await pilot.press("enter")
        await eventually(lambda: "Saved as" in said(app), "the note")
        assert (tmp_path / "fog.png").read_bytes() == file()

        # The same again, and back into the editor.
        await pilot.press("r")
        await eventually(lambda: len(client.pictures_asked) == 2, "the second request")
        assert client.pictures_asked[0] == client.pictures_asked[1]


async def test_cancelling_ends_the_making() -> None:
    client = only_pictures()
    async with opened(client, size=(160, 45)) as (app, pilot):
        await ask(app, pilot)
        client.answer(ImageWaiting(server()), ImageStep(2, 8, 1.0))
        await eventually(lambda: "step 2 of 8" in shown(app), "the step")
        await pilot.press("escape")
        await eventually(lambda: client.cancelled == 1, "the engine is told")
        await eventually(lambda: answer(app) is Standing.CANCELLED, "cancelled")
        assert "cancelled" in shown(app)


async def test_a_failure_says_why_and_what_came_is_kept() -> None:
    client = only_pictures()
    async with opened(client, size=(160, 45)) as (app, pilot):
        await ask(app, pilot, count="2")
        failure = Explanation(
            cause="The GPU's memory does not suffice.", fix="Ask for a smaller size."
        )
        client.answer(
            ImageWaiting(server()), ImageStep(4, 8, 1.0), ImageMade(0, file(), 7),
            ImagesEnded(failure),
        )  # fmt: skip
        await eventually(lambda: "does not suffice" in shown(app), "the cause")
        await eventually(lambda: half_blocks(app) > 500, "the picture that was made")
        assert "Ask for a smaller size." in shown(app)


@pytest.mark.parametrize("data", [b"", b"no picture", file()[:200]])
async def test_what_is_no_picture_is_said(data: bytes) -> None:
    client = only_pictures()
    async with opened(client, size=(160, 45)) as (app, pilot):
        await ask(app, pilot)
        client.answer(
            ImageWaiting(server()), ImageStep(1, 1, 1.0), ImageMade(0, data, 7), ImagesEnded()
        )
        await eventually(lambda: "cannot be shown" in shown(app), "what is wrong")


async def test_another_model_has_its_own_fields_and_both_keep_their_values() -> None:
    client = ScriptedClient(overview(models=(ENABLED, FLUX)))
    async with opened(client, size=(160, 45)) as (app, pilot):
        side = app.screen.query_one(PromptSide)
        side.query_one("#max_tokens", Field).value = "99"
        assert "Max tokens" in shown(app)
        await choose(app, pilot, "FLUX")
        await eventually(lambda: "Guidance" in shown(app), "the fields of pictures")
        assert "Max tokens" not in shown(app) and "System" not in shown(app)
        side.query_one("#picture_steps", Field).value = "4"
        await choose(app, pilot, "SmolLM2")
        await eventually(lambda: "Max tokens" in shown(app), "the fields of text")
        assert side.values == {"max_tokens": "99", "picture_steps": "4"}
        await eventually(
            lambda: app.memory.parameters == {"max_tokens": "99", "picture_steps": "4"},
            "both are remembered",
        )


async def choose(app: MeshtuiApp, pilot: AppPilot, name: str) -> None:
    await pilot.press("ctrl+l")
    await settled(pilot)
    await pilot.press(*name)
    await settled(pilot)
    await pilot.press("enter")
    await settled(pilot)


@pytest.mark.parametrize("size", SIZES)
async def test_a_picture_looks_as_it_did(size: tuple[int, int], standing_clock: None) -> None:
    client = only_pictures()
    async with opened(client, size=size) as (app, pilot):
        await ask(app, pilot, steps="8", seed="7")
        client.answer(
            ImageWaiting(server()), ImageStep(8, 8, 4.0), ImageMade(0, file(), 7), ImagesEnded(),
            None,
        )  # fmt: skip
        await eventually(lambda: answer(app) is Standing.DONE, "the end")
        await eventually(lambda: half_blocks(app) > 300, "the picture")
        await settled(pilot)
        assert_looks(app, "picture")


def test_pictures_fit_and_keep_their_shape() -> None:
    wide = picture.strips(file(400, 100), 80, 40)
    assert len(wide) == 10 and {strip.cell_length for strip in wide} == {80}
    high = picture.strips(file(100, 400), 80, 20)
    assert len(high) == 20 and {strip.cell_length for strip in high} == {10}
    for format in ("JPEG", "WEBP"):
        assert len(picture.strips(file(64, 64, format), 20, 20)) == 10
    tiny = picture.strips(file(1000, 1), 80, 40)
    assert len(tiny) == 1


def test_what_is_beyond_reason_is_refused() -> None:
    claim = b"IHDR" + struct.pack(">II", 60_000, 60_000) + bytes([8, 2, 0, 0, 0])
    bomb = file()[:12] + claim + struct.pack(">I", zlib.crc32(claim)) + file()[33:]
    for data in (bomb, b"GIF89a" + bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(50)):
        with pytest.raises(ValueError):
            picture.strips(data, 80, 40)
    with pytest.raises(ValueError, match="no room"):
        picture.strips(file(), 0, 10)

"""How the checker looks, at the smallest supported size and at a usual one."""

import pytest
from meshtui.screens.check.deploy import Deploying

from meshtui.domain.connection import EnabledModel
from meshtui.domain.hub_search import FoundModel
from meshtui.domain.preset import Preset, Purpose
from meshtui.domain.task import Task
from tests.support.waiting import eventually
from tests.tui.check_reports import BASE, LLAMA, QWEN
from tests.tui.conftest import AppPilot, opened, settled, shown
from tests.tui.scenes import checked, open_check
from tests.tui.scripted import ENABLED, ScriptedClient, overview
from tests.tui.snapshots import assert_looks

SIZES = pytest.mark.parametrize("size", [(80, 24), (160, 45)], ids=["80x24", "160x45"])
Size = tuple[int, int]
PRESET = Preset(
    name="phi-4",
    model="microsoft/phi-4",
    label="Phi 4 Instruct",
    purpose=Purpose.CHAT,
    task=Task.TEXT_GENERATION,
    parameters=14_700_000_000,
)
FOUND = [
    FoundModel(model=name, parameters=parameters, downloads=downloads)
    for name, parameters, downloads in (
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512, 12_400_000),
        ("ibm-granite/granite-3.3-8b-instruct", 8_170_848_256, 214_000),
        ("another-organisation/a-name-that-is-much-longer-than-others-Instruct-GPTQ", None, 87),
    )
]


async def press(pilot: AppPilot, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


@SIZES
async def test_empty(size: Size) -> None:
    async with opened(ScriptedClient(), size=size) as (app, pilot):
        await open_check(app, pilot)
        assert_looks(app, "check-empty")


@SIZES
async def test_typing(size: Size) -> None:
    client = ScriptedClient(overview(models=(ENABLED, EnabledModel(model=LLAMA))))
    client.known_presets = [PRESET]

    async def hub(_text: str) -> list[FoundModel]:
        return FOUND

    client.hub = hub
    async with opened(client, size=size) as (app, pilot):
        await open_check(app, pilot)
        await press(pilot, *"instr", "down", "down")
        await eventually(lambda: "Hub ·" in shown(app), "what the Hub found")
        await settled(pilot)
        assert_looks(app, "check-typing")


@SIZES
async def test_deploying(size: Size) -> None:
    client = ScriptedClient(overview(models=(ENABLED, EnabledModel(model=LLAMA))))
    async with opened(client, size=size) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "a", "v", "d")
        await eventually(lambda: isinstance(app.screen, Deploying), "the question")
        await settled(pilot)
        assert_looks(app, "check-deploying")


@SIZES
async def test_runs(size: Size) -> None:
    async with opened(ScriptedClient(), size=size) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "T", "T", "T", "v")
        assert "runs on vLLM 0.33.0" in shown(app)
        assert_looks(app, "check-runs")


@SIZES
async def test_close(size: Size) -> None:
    async with opened(ScriptedClient(), size=size) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "T", "T")
        assert "! close" in shown(app)
        assert_looks(app, "check-close")


@SIZES
async def test_blocked(size: Size) -> None:
    async with opened(ScriptedClient(), size=size) as (app, pilot):
        await checked(app, pilot, BASE)
        await press(pilot, "n")
        assert_looks(app, "check-blocked")


@SIZES
async def test_compare(size: Size) -> None:
    async with opened(ScriptedClient(), size=size) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "c", *"h100", "enter")
        await eventually(lambda: "40.59–41.29 GiB" in shown(app), "the second column")
        await press(pilot, "c", *QWEN, "enter")
        await eventually(lambda: "135.40 GiB" in shown(app), "the third column")
        await settled(pilot)
        assert_looks(app, "check-compare")


@SIZES
async def test_explanation(size: Size) -> None:
    async with opened(ScriptedClient(), size=size) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "enter")
        assert_looks(app, "check-explanation")


async def test_in_the_terminals_own_colours() -> None:
    async with opened(ScriptedClient(), size=(120, 32)) as (app, pilot):
        app.theme = "meshtui-ansi"
        await checked(app, pilot, LLAMA)
        await press(pilot, "T", "T", "T", "v")
        assert_looks(app, "check-meshtui-ansi")

"""How the checker looks, at the smallest supported size and at a usual one."""

import pytest

from tests.support.waiting import eventually
from tests.tui.check_reports import BASE, LLAMA, QWEN
from tests.tui.conftest import AppPilot, opened, settled, shown
from tests.tui.scenes import checked, open_check
from tests.tui.scripted import ScriptedClient
from tests.tui.snapshots import assert_looks

SIZES = pytest.mark.parametrize("size", [(80, 24), (160, 45)], ids=["80x24", "160x45"])
Size = tuple[int, int]


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

"""How the Connections screen and its forms look."""

import pytest
from meshtui.screens.connections.connection_form import ConnectionForm
from meshtui.screens.connections.finder import ModelFinder
from meshtui.screens.connections.model_form import ModelForm
from meshtui.screens.connections.tested import ProbeResult

from tests.support.waiting import eventually
from tests.tui.conftest import opened, settled, shown
from tests.tui.scripted_connections import FOUND, ConnectionsClient
from tests.tui.snapshots import assert_looks
from tests.tui.test_connections import fill, help_text, open_connections, press

pytestmark = pytest.mark.usefixtures("standing_clock")

SIZES = pytest.mark.parametrize("size", [(80, 24), (160, 45)], ids=["80x24", "160x45"])
Size = tuple[int, int]


@SIZES
async def test_the_list_after_a_test(size: Size) -> None:
    async with opened(ConnectionsClient(), size=size) as (app, pilot):
        await open_connections(app, pilot)
        await press(app, pilot, ProbeResult, "t")
        app.clear_notifications()
        await settled(pilot)
        assert_looks(app, "connections-test")
        await pilot.press("escape", "tab")
        await settled(pilot)
        assert_looks(app, "connections")


@SIZES
async def test_the_form_of_a_connection_with_a_fault(size: Size) -> None:
    async with opened(ConnectionsClient(), size=size) as (app, pilot):
        await open_connections(app, pilot)
        await press(app, pilot, ConnectionForm, "e")
        fill(app, "access_token", "hf_pasted")
        await eventually(lambda: "not a reference" in help_text(app), "the fault")
        await settled(pilot)
        assert_looks(app, "connections-form")


@SIZES
async def test_the_form_of_a_model(size: Size) -> None:
    async with opened(ConnectionsClient(), size=size) as (app, pilot):
        await open_connections(app, pilot)
        await pilot.press("tab")
        await press(app, pilot, ModelForm, "e")
        await eventually(lambda: "runs on vLLM" in shown(app), "the verdict")
        await pilot.press("down", "down")
        await settled(pilot)
        assert_looks(app, "connections-model")


@SIZES
async def test_the_choice_of_a_model(size: Size) -> None:
    async with opened(ConnectionsClient(), size=size) as (app, pilot):
        await open_connections(app, pilot)
        await press(app, pilot, ModelFinder, "a")
        await pilot.press(*"summar")
        await eventually(lambda: FOUND.model in shown(app), "what the Hub found")
        await settled(pilot)
        assert_looks(app, "connections-enable")

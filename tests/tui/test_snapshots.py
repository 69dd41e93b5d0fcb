"""How the screens look, at the smallest supported size and at a usual one."""

import pytest
from meshtui.screens.servers.log import ServerLog
from meshtui.screens.studio.finders import History
from meshtui.screens.widgets.log_view import LogView

from meshtui.domain.generation import ChatMessage
from meshtui.domain.server import Explanation
from tests.support.waiting import eventually
from tests.tui import scenes
from tests.tui.conftest import opened, settled
from tests.tui.scripted import NOW, ScriptedClient, server
from tests.tui.snapshots import assert_looks

pytestmark = pytest.mark.usefixtures("standing_clock")

SIZES = pytest.mark.parametrize("size", [(80, 24), (160, 45)], ids=["80x24", "160x45"])
Size = tuple[int, int]


@SIZES
async def test_first_start(size: Size) -> None:
    async with opened(ScriptedClient(), size=size) as (app, _pilot):
        assert_looks(app, "first-start")


@SIZES
async def test_way_there(size: Size) -> None:
    client = ScriptedClient()
    async with opened(client, size=size) as (app, pilot):
        await scenes.waiting(app, client, pilot)
        assert_looks(app, "way-there")


@SIZES
async def test_streaming(size: Size) -> None:
    client = ScriptedClient()
    async with opened(client, size=size) as (app, pilot):
        await scenes.streaming(app, client, pilot)
        assert_looks(app, "streaming")


@SIZES
async def test_answered(size: Size) -> None:
    client = ScriptedClient()
    async with opened(client, size=size) as (app, pilot):
        await scenes.answered(app, client, pilot)
        await pilot.press("escape" if size[0] > 80 else "end")
        await settled(pilot)
        assert_looks(app, "answered")


@pytest.mark.parametrize("theme", ["meshtui-light", "meshtui-ansi"])
async def test_answered_in_another_theme(theme: str) -> None:
    client = ScriptedClient()
    async with opened(client, size=(120, 32)) as (app, pilot):
        app.theme = theme
        await scenes.answered(app, client, pilot)
        assert_looks(app, f"answered-{theme}")


@SIZES
async def test_failed(size: Size) -> None:
    client = ScriptedClient()
    async with opened(client, size=size) as (app, pilot):
        await scenes.failed(app, client, pilot)
        assert_looks(app, "failed")


@SIZES
async def test_servers(size: Size) -> None:
    client = ScriptedClient()
    async with opened(client, size=size) as (app, pilot):
        await scenes.servers(app, client, pilot)
        assert_looks(app, "servers")


@SIZES
async def test_server_details(size: Size) -> None:
    client = ScriptedClient()
    async with opened(client, size=size) as (app, pilot):
        await scenes.servers(app, client, pilot)
        await pilot.press("end", "enter")
        await settled(pilot)
        assert_looks(app, "server-details")


@SIZES
async def test_server_log(size: Size) -> None:
    client = ScriptedClient()
    client.logs[server().id] = [
        *(f"INFO 11-22 19:00:{i % 60:02} [core.py:{i}] step {i}: prompt throughput {i * 7 % 97}.3"
          for i in range(300)),
        "WARNING 11-22 19:05:00 [config.py:7] eager mode: performance may be lower",
        "ERROR 11-22 19:05:01 [core.py:9] ValueError: [/x] is not closed",
    ]  # fmt: skip
    async with opened(client, size=size) as (app, pilot):
        await scenes.servers(app, client, pilot)
        await pilot.press("end", "l")
        await eventually(lambda: isinstance(app.screen, ServerLog), "the log")
        view = app.screen.query_one(LogView)
        await eventually(lambda: len(view.lines) == 302, "its lines")
        await pilot.press("slash", *"step 2", "enter")
        await settled(pilot)
        assert_looks(app, "server-log")


@SIZES
async def test_help(size: Size) -> None:
    async with opened(ScriptedClient(), size=size) as (app, pilot):
        await pilot.press("f1")
        await settled(pilot)
        assert_looks(app, "help")


@SIZES
async def test_palette(size: Size) -> None:
    async with opened(ScriptedClient(), size=size) as (app, pilot):
        await pilot.press("ctrl+p")
        await eventually(lambda: app.screen.query("CommandList").filter("*"), "the list")
        await pilot.pause(0.3)
        assert_looks(app, "palette")


@SIZES
async def test_history(size: Size) -> None:
    client = ScriptedClient()
    client.stored = [
        scenes.run(),
        scenes.run(
            "Silicon rivers\nflow in parallel silence",
            id="run-2",
            starred=True,
            created_at=NOW - 90_000,
            messages=(ChatMessage("user", "Write a haiku about GPUs"),),
        ),
        scenes.run(
            "",
            id="run-3",
            status="failed",
            error=Explanation(cause="The engine ran out of memory.", fix="Stop a server."),
        ),
        scenes.run("Once upon", id="run-4", status="cancelled"),
    ]
    async with opened(client, size=size) as (app, pilot):
        await pilot.press("ctrl+o")
        await eventually(lambda: isinstance(app.screen, History), "the history")
        await eventually(lambda: app.screen.query_one("OptionList").option_count == 4, "its runs")
        await settled(pilot)
        assert_looks(app, "history")


async def test_the_readmes_picture() -> None:
    client = ScriptedClient()
    async with opened(client, size=(120, 32)) as (app, pilot):
        await scenes.conversation(app, client, pilot)
        assert_looks(app, "readme", sized=False)

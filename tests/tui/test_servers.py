"""The servers screen, its logs and its runtimes."""

from meshtui.screens.servers.details import ServerDetails
from meshtui.screens.servers.log import LogScreen, RuntimeLog, ServerLog
from meshtui.screens.widgets.log_view import MAX_LINES, LogView
from meshtui.screens.widgets.table import Table

from meshtui.domain.connection import EnabledModel
from meshtui.domain.controller import RuntimeChanged, ServerChanged
from meshtui.domain.runtime import BuildPhase, RuntimeStatus
from meshtui.domain.server import Phase
from tests.support.waiting import eventually
from tests.tui import scenes
from tests.tui.conftest import opened, settled, shown
from tests.tui.scripted import ENABLED, MODEL, ScriptedClient, overview, server


async def test_a_model_without_a_server_is_started_and_a_running_one_stopped() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await pilot.press("f3")
        await settled(pilot)
        assert "not started" in shown(app)
        await pilot.press("s")
        await eventually(lambda: client.commands == [("start", MODEL, "local")], "the start")
        client.tell(ServerChanged(server()))
        await eventually(lambda: "stops in 18 m" not in shown(app) and "1.8 GB" in shown(app), "it")
        await pilot.press("s")
        await eventually(lambda: client.commands[1:] == [("stop", server().id)], "the stop")


async def test_removing_asks_and_names_what_goes() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        client.tell(ServerChanged(server(Phase.STOPPED)))
        await pilot.press("f3")
        await eventually(lambda: "stopped" in shown(app), "the server")
        await settled(pilot)
        await pilot.press("x")
        await settled(pilot)
        assert MODEL in shown(app)
        assert "its log" in shown(app)
        await pilot.press("escape")
        await settled(pilot)
        assert client.commands == []
        await pilot.press("x")
        await settled(pilot)
        await pilot.press("y")
        await eventually(lambda: client.commands == [("remove", server().id)], "the removal")


async def test_details_show_phases_command_and_why_it_failed() -> None:
    client = ScriptedClient()
    async with opened(client, size=(120, 40)) as (app, pilot):
        client.tell(ServerChanged(scenes.failed_server()))
        await pilot.press("f3")
        await eventually(lambda: "failed" in shown(app), "the server")
        await settled(pilot)
        await pilot.press("enter")
        await eventually(lambda: isinstance(app.screen, ServerDetails), "the details")
        await settled(pilot)
        text = shown(app)
        assert "Warm up" in text
        assert "The KV cache does not fit" in text
        await pilot.press("escape")
        await settled(pilot)
        assert app.current_mode == "servers"


async def log_of(lines: list[str], client: ScriptedClient) -> None:
    client.logs[server().id] = lines
    client.tell(ServerChanged(server()))


async def test_a_log_is_searched_and_followed() -> None:
    client = ScriptedClient()
    await log_of([f"line {n} {'needle' if n % 100 == 0 else ''}" for n in range(1000)], client)
    async with opened(client) as (app, pilot):
        await pilot.press("f3")
        await eventually(lambda: "ready" in shown(app), "the server")
        await settled(pilot)
        await pilot.press("l")
        await eventually(lambda: isinstance(app.screen, ServerLog), "the log")
        view = app.screen.query_one(LogView)
        await eventually(lambda: len(view.lines) == 1000, "all lines")
        await settled(pilot)
        assert "line 999" in shown(app)
        assert "following" in shown(app)
        await pilot.press("slash", *"needle", "enter")
        await settled(pilot)
        assert view.found == 900
        assert "line 900" in shown(app)
        assert "10 with “needle”" in shown(app)
        await pilot.press("N")
        await settled(pilot)
        assert view.found == 800
        assert "line 800" in shown(app)
        assert "not following" in shown(app)
        await pilot.press("n")
        assert view.found == 900
        await pilot.press("f")
        await eventually(lambda: "line 999" in shown(app), "the end")
        await pilot.press("p")
        await eventually(lambda: "there is none" in shown(app), "no log before")


async def test_a_long_log_stays_smooth_and_bounded() -> None:
    """Cost is per visible row: a key press in a log at its limit is painted at once."""
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await log_of(["a line of the log, as long as they are " * 2] * 10, client)
        await pilot.press("f3")
        await eventually(lambda: "ready" in shown(app), "the server")
        await settled(pilot)
        await pilot.press("l")
        await eventually(lambda: isinstance(app.screen, ServerLog), "the log")
        view = app.screen.query_one(LogView)
        view.append([f"{n} " + "x" * 100 for n in range(MAX_LINES + 10)])
        await settled(pilot)
        assert len(view.lines) <= MAX_LINES
        for key in ("home", "pagedown", "w", "end", "w", "pageup"):
            await pilot.press(key)
        await settled(pilot)
        assert "x" * 40 in shown(app)


async def test_a_build_is_seen_in_the_header_and_can_be_cancelled() -> None:
    client = ScriptedClient()
    building = RuntimeStatus(
        name="gpu", phase=BuildPhase.BUILDING, step="torch 2.13.0, 212 MB/s", progress=0.43
    )
    client.logs["gpu"] = ["Resolved 74 packages"]
    async with opened(client, size=(120, 32)) as (app, pilot):
        client.tell(RuntimeChanged(building))
        await eventually(lambda: "runtime gpu 43%" in shown(app), "the build in the header")
        await pilot.press("f3")
        await settled(pilot)
        assert "building 43% torch 2.13.0, 212 MB/s" in shown(app)
        await pilot.press("tab", "down", "c")
        await eventually(lambda: client.commands == [("cancel build", "gpu")], "the cancelling")
        await pilot.press("l")
        await eventually(lambda: isinstance(app.screen, RuntimeLog), "its log")
        assert isinstance(app.screen, LogScreen)
        await eventually(lambda: "Resolved 74 packages" in shown(app), "its line")


async def test_a_tall_screen_shows_what_is_known_of_the_marked_row() -> None:
    client = ScriptedClient()
    async with opened(client, size=(120, 40)) as (app, pilot):
        await pilot.press("f3")
        await settled(pilot)
        assert "Never started; s starts it" in shown(app)
        client.tell(ServerChanged(server()))
        await eventually(lambda: "127.0.0.1:43117" in shown(app), "its figures")
        await pilot.press("r")
        await settled(pilot)
        assert "packages" in shown(app)
        assert "r Servers" in shown(app)
        await pilot.press("escape")
        await settled(pilot)
        assert app.focused is app.screen.query_one("#servers")
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        assert "127.0.0.1:43117" not in shown(app)


async def test_rows_stay_in_their_place_when_states_change() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await scenes.servers(app, client, pilot)
        table = app.screen.query_one("#servers", Table)
        before = [row.key for row in table.rows]
        await pilot.press("end")
        client.tell(ServerChanged(server(Phase.STOPPED)))
        await eventually(lambda: "stopped" in shown(app), "the change")
        assert [row.key for row in table.rows] == before
        assert table.current == server().id


async def test_building_a_ready_runtime_anew_asks_first() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await pilot.press("f3", "r", "b")
        await settled(pilot)
        assert "2.3 GB are replaced" in shown(app)
        assert client.commands == []
        await pilot.press("y")
        await eventually(lambda: client.commands == [("build", "cpu", "True")], "the build")
        await pilot.press("down", "b")
        await eventually(lambda: client.commands[1:] == [("build", "gpu", "False")], "the first")


async def test_p_and_the_palette_prompt_another_model() -> None:
    other = EnabledModel(model="Qwen/Qwen2.5-7B-Instruct")
    client = ScriptedClient(overview(models=(ENABLED, other)))
    async with opened(client) as (app, pilot):
        line = app.screen.query_one("#model")
        assert "SmolLM2" in str(line.render())
        await pilot.press("f3", "end", "p")
        await settled(pilot)
        assert app.current_mode == "studio"
        assert "Qwen2.5-7B-Instruct" in str(line.render())
        await pilot.press("ctrl+p", *"model smol")
        await eventually(lambda: "Model: SmolLM2-135M-Instruct on local" in shown(app), "the hit")
        await settled(pilot)
        await pilot.press("enter")
        await eventually(lambda: "SmolLM2" in str(line.render()), "the model")

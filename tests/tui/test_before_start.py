"""Starting what the checker says does not run: the person is asked first, with the blocker."""

from meshtui.screens.app import MeshtuiApp
from meshtui.screens.studio.answer import Standing
from meshtui.screens.widgets.dialogs import StartAnyway

from meshtui.domain.controller import ServerChanged
from meshtui.domain.finding import Finding, Level
from tests.support.waiting import eventually
from tests.tui import scenes
from tests.tui.conftest import AppPilot, opened, settled, shown
from tests.tui.scripted import MODEL, ScriptedClient, server

BLOCKER = Finding(
    rule="memory",
    level=Level.BLOCKER,
    message="One request of 131,072 tokens needs 16.00 GiB of KV cache.",
    fix="Set max tokens to 37,056.",
)


def refusing() -> ScriptedClient:
    client = ScriptedClient()
    client.blockers = (BLOCKER,)
    return client


async def asked(app: MeshtuiApp, pilot: AppPilot) -> None:
    await eventually(lambda: isinstance(app.screen, StartAnyway), "the question")
    await settled(pilot)
    assert "Start SmolLM2-135M-Instruct, although it does not run?" in shown(app)
    assert BLOCKER.message in " ".join(shown(app).split())
    assert BLOCKER.fix in shown(app)


async def test_a_prompt_to_what_does_not_run_is_sent_only_if_it_is_wanted() -> None:
    client = refusing()
    async with opened(client, size=(120, 40)) as (app, pilot):
        await pilot.press("ctrl+r")
        await asked(app, pilot)
        await pilot.press("escape")
        await eventually(lambda: scenes.blocks(app), "its block")
        block = scenes.blocks(app)[0]
        await eventually(lambda: block.answer.standing is Standing.CANCELLED, "its end")
        assert client.requests == []
        await pilot.press("ctrl+r")
        await asked(app, pilot)
        await pilot.press("y")
        await eventually(lambda: len(client.requests) == 1, "the prompt")


async def test_the_blocker_leads_to_the_checker() -> None:
    client = refusing()
    async with opened(client) as (app, pilot):
        await pilot.press("ctrl+r")
        await asked(app, pilot)
        await pilot.press("c")
        await eventually(lambda: client.checks, "the question")
        assert app.current_mode == "check"
        assert client.checks[0][0] == MODEL
        assert client.requests == []


async def test_nobody_is_asked_about_a_server_that_runs() -> None:
    client = refusing()
    async with opened(client) as (app, pilot):
        client.tell(ServerChanged(server()))
        await eventually(lambda: app.state.servers, "the server")
        await pilot.press("ctrl+r")
        await eventually(lambda: len(client.requests) == 1, "the prompt")


async def test_s_on_the_servers_screen_asks_as_well() -> None:
    client = refusing()
    async with opened(client) as (app, pilot):
        await pilot.press("f3")
        await eventually(lambda: "SmolLM2" in shown(app), "the list")
        await settled(pilot)
        await pilot.press("s")
        await asked(app, pilot)
        assert client.commands == []
        await pilot.press("y")
        await eventually(lambda: client.commands == [("start", MODEL, "local")], "the start")

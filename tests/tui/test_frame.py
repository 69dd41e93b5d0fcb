"""The header's live state, the problems, and the palette."""

import msgspec
from meshtui.screens.commands import Actions
from meshtui.screens.frame import Header
from meshtui.screens.help import ProblemsScreen

from meshtui.domain.connection import BrokenObject
from meshtui.domain.controller import ServerChanged
from tests.support.waiting import eventually
from tests.tui.conftest import opened, said, settled, shown
from tests.tui.scripted import ScriptedClient, overview, server


async def test_a_click_on_the_live_state_goes_where_it_points() -> None:
    broken = (BrokenObject(path="/c/local.toml", line=3, reason="not TOML"),)
    client = ScriptedClient(msgspec.structs.replace(overview(server()), broken=broken))
    async with opened(client) as (app, pilot):
        header = shown(app).split("\n")[0]
        await pilot.click(Header, offset=(header.index("1 ready"), 0))
        await settled(pilot)
        assert app.current_mode == "servers"
        header = shown(app).split("\n")[0]
        await pilot.click(Header, offset=(header.index("1 problem"), 0))
        await eventually(lambda: isinstance(app.screen, ProblemsScreen), "the problems")
        await settled(pilot)
        assert "/c/local.toml, line 3: not TOML" in shown(app)
        assert "Correct it" in shown(app)


async def test_the_tabs_show_the_keys_that_work_now() -> None:
    async with opened(ScriptedClient()) as (app, pilot):
        assert "F4 Cache" in shown(app).splitlines()[0]
        await pilot.press("f4")
        await eventually(lambda: "3 Cache" in shown(app).splitlines()[0], "no text has the focus")
        await pilot.press("1")
        await eventually(lambda: "F4 Cache" in shown(app).splitlines()[0], "an editor has it")


async def test_problems_can_be_listed_while_typing() -> None:
    async with opened(ScriptedClient()) as (app, pilot):
        await pilot.press("f9")
        await eventually(lambda: isinstance(app.screen, ProblemsScreen), "the problems")
        await pilot.press("escape")
        await settled(pilot)
        assert app.focused is app.screen.query_one("#user")


async def test_the_palette_finds_an_action_by_the_word_in_the_footer_too() -> None:
    client = ScriptedClient()
    async with opened(client, size=(120, 40)) as (app, pilot):
        await pilot.press("f4")
        await settled(pilot)
        found = [hit async for hit in Actions(app.screen).search("prune")]
        best = max(found, key=lambda hit: hit.score)
        assert best.text is not None and best.text.startswith("Make room")


async def test_the_palette_has_every_action_and_says_what_is_not_possible_now() -> None:
    client = ScriptedClient()
    async with opened(client, size=(120, 40)) as (app, pilot):
        client.tell(ServerChanged(server()))
        provider = Actions(app.screen)
        titles = [hit.text or "" async for hit in provider.discover()]
        assert "Run the prompt" in titles
        [copy] = [title for title in titles if title.startswith("Copy the marked answer")]
        assert copy.endswith("(not now)")
        await pilot.press("ctrl+p", *"copy the marked")
        await eventually(lambda: "(not now)" in shown(app), "the action")
        await settled(pilot)
        await pilot.press("enter")
        await eventually(lambda: "is not possible just now" in said(app), "why nothing happens")

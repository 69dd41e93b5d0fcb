"""Text from outside that would crash a toolkit or take over a terminal, through every screen."""

import pytest
from meshtui.screens.app import MeshtuiApp
from meshtui.screens.studio.editor import PromptSide
from meshtui.screens.studio.finders import History, ModelPicker
from meshtui.screens.widgets.log_view import LogView
from textual.events import Paste

from meshtui.domain.connection import BrokenObject, EnabledModel
from meshtui.domain.controller import RuntimeChanged, ServerChanged
from meshtui.domain.errors import EngineError
from meshtui.domain.generation import ChatMessage, RunEnded, RunNotice, RunText
from meshtui.domain.runtime import BuildPhase, RuntimeStatus
from meshtui.domain.server import Explanation, Phase
from tests.support.waiting import eventually
from tests.tui import scenes
from tests.tui.conftest import opened, said, settled
from tests.tui.scripted import ScriptedClient, overview, record, server

CORPUS = {
    "osc": "\x1b]0;owned\x07\x1b]52;c;aGFja2Vk\x1b\\after",
    "csi": "\x1b[2J\x1b[31mred\x1b[0m\x1b[?1049l",
    "open": "text \x1b]52;c;never ends",
    "c1": "\x9b2J\x9d0;title\x9c\x85\x90q\x9c",
    "c0": "bell\x07 back\x08\x08 null\x00 form\x0c vt\x0b del\x7f return\rover",
    "bidi": "\u202egnp.exe\u202c \u2066x\u2069 \u200f",
    "markup": "[/] [/x] x[/ [bold]b[/bold] [@click=app.quit]quit[/] [link='x']y[/link] [[",
    "pydantic": "[type=string_type, input_value={'a[0]': [1]}, input_type=dict]",
    "rich": "[red]red[/red] :smile: [link=file:///etc/passwd]x[/link]",
    "variables": "$error {0} %s $$ {{",
    "markdown": "```\n[/x]\n~~~\n<script>alert(1)</script> [a](javascript:x) ![i](http://h/p.png)\n"
    "|a|\n|-|\n|`|`|\n\n# [/]\n\n> [x\n\n1. \n- \n\n```unclosed [/",
    "wide": "漢字かな交じり文 한국어 👩‍👩‍👧‍👦 🇩🇪 ❤️ é ﷽ " * 3,
    "zero": "a\u200bb\u200cc\u200dd\ufeffe" + "\u0301" * 50,
    "long": "x" * 5000 + "漢" * 3000,
    "lines": "\n" * 60 + "\t\ttabs\t" + "\u2028\u2029" + "end",
    "surrogate": "\ud800 lone",
}
EACH = pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS.keys())

# What may never be in a line that goes to the terminal, besides the toolkit's own styling.
_FORBIDDEN = {*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), *"\u202a\u202b\u202d\u202e\u2066"}


def assert_clean(app: MeshtuiApp) -> None:
    """No control character is in any line on the screen."""
    for strip in app.screen._compositor.render_strips():
        found = _FORBIDDEN & set(strip.text)
        assert not found, f"{found!r} in {strip.text!r}"
        for segment in strip:
            # Our own header and footer have actions; none of them quits, and nothing links.
            meta = str(segment.style.meta) if segment.style else ""
            assert "quit" not in meta, "an action came from outside"
            assert not (segment.style and segment.style.link), "a link came from outside"


@EACH
async def test_an_answer(text: str) -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        block = await scenes.press_run(app, pilot)
        for piece in (text[: len(text) // 2], text[len(text) // 2 :], " the end"):
            client.answer(RunText(piece))
            await settled(pilot)
            assert_clean(app)
        client.answer(RunNotice(text), RunEnded(scenes.run(text + " the end")), None)
        await eventually(lambda: block.answer.standing.is_over, "the end")
        await settled(pilot)
        await eventually(lambda: block.shows_markdown, "Markdown")
        await settled(pilot)
        assert_clean(app)
        await pilot.press("m", "y", "home", "end")
        await settled(pilot)
        assert_clean(app)
        assert app.is_running


@EACH
async def test_names_states_and_failures(text: str) -> None:
    """The model's line, the way there, a failure, the picker, servers, details, log, problems."""
    why = Explanation(cause=text, fix=text, excerpt=text)
    enabled = EnabledModel(model=text, display_name=text)
    way = (record(Phase.FETCHING_MODEL, -9, -5, text), record(Phase.WARMING, -5, None, text, 0.3))
    known = {"model": text, "engine_reason": text, "notices": (text,), "command": (text,)}
    warming = server(Phase.WARMING, phases=way, **known)
    first = overview(warming, models=(enabled,))
    client = ScriptedClient(first)
    client.logs[warming.id] = [text, *text.split("\n")]
    async with opened(client, size=(100, 40)) as (app, pilot):
        assert_clean(app)
        block = await scenes.press_run(app, pilot)
        client.answer(*scenes_waiting(warming))
        await eventually(lambda: block.answer.server is not None, "the state")
        await settled(pilot)
        assert_clean(app)
        client.answer(EngineError(text, hint=text))
        await eventually(lambda: block.answer.standing.is_over, "the failure")
        await settled(pilot)
        assert_clean(app)
        client.tell(ServerChanged(server(Phase.FAILED, phases=way, explanation=why, **known)))
        client.tell(RuntimeChanged(RuntimeStatus(name="gpu", phase=BuildPhase.BUILDING, step=text)))
        await pilot.press("ctrl+l")
        await eventually(lambda: isinstance(app.screen, ModelPicker), "the picker")
        await settled(pilot)
        assert_clean(app)
        await pilot.press("escape", "f3")
        await settled(pilot)
        assert_clean(app)
        await pilot.press("enter")
        await settled(pilot)
        assert_clean(app)
        await pilot.press("l")
        await eventually(lambda: app.screen.query(LogView), "the log")
        await eventually(lambda: app.screen.query_one(LogView).lines, "its lines")
        for key in ("w", "right", "end"):
            await pilot.press(key)
            await settled(pilot)
            assert_clean(app)
        await pilot.press("escape", "escape")
        app.state.broken = (BrokenObject(path=text, line=3, reason=text),)
        await pilot.press("!")
        await settled(pilot)
        assert_clean(app)


def scenes_waiting(warming: object) -> tuple[object, ...]:
    """The events of a run that waits for that server."""
    from meshtui.domain.generation import RunStarted, RunWaiting

    return RunStarted("run-1", "x"), RunWaiting(warming)  # type: ignore[arg-type]


@EACH
async def test_toasts_history_and_editors(text: str) -> None:
    client = ScriptedClient()
    asked = (ChatMessage("system", text), ChatMessage("user", text))
    why = Explanation(cause=text, fix=text)
    client.stored = [
        scenes.run(text, messages=asked),
        scenes.run("", id="b", messages=asked, status="failed", error=why),
    ]
    async with opened(client, size=(120, 40)) as (app, pilot):
        app.say(text, "error", title=text)
        app.say(text)
        await settled(pilot)
        assert_clean(app)
        assert said(app)
        await pilot.press("ctrl+o")
        await eventually(lambda: isinstance(app.screen, History), "the history")
        await eventually(lambda: app.screen.query_one("OptionList").option_count == 2, "its runs")
        await settled(pilot)
        assert_clean(app)
        await pilot.press("down", "enter")
        await eventually(lambda: len(scenes.blocks(app)) == 1, "the run")
        await settled(pilot)
        assert_clean(app)
        side = app.screen.query_one(PromptSide)
        side.user.load("")
        app.screen.set_focus(side.user)
        side.user.post_message(Paste(text))
        await settled(pilot)
        assert_clean(app)
        await pilot.press("ctrl+r")
        await eventually(lambda: client.requests or not text.strip(), "the run of it")
        await settled(pilot)
        assert_clean(app)

"""What the studio does with a prompt and its answer."""

from pathlib import Path

import pytest
from meshtui.screens.memory import memory_path
from meshtui.screens.state import Link
from meshtui.screens.studio.answer import Standing
from meshtui.screens.studio.answers import Answers
from meshtui.screens.studio.editor import FIRST_PROMPT, PromptSide
from meshtui.screens.studio.finders import History, ModelPicker
from meshtui.screens.widgets.fields import Field

from meshtui.domain.connection import EnabledModel
from meshtui.domain.controller import ServerChanged
from meshtui.domain.generation import ChatMessage, RunEnded, RunText
from meshtui.domain.server import Phase
from tests.support.waiting import eventually
from tests.tui import scenes
from tests.tui.conftest import opened, said, settled, shown
from tests.tui.scripted import ENABLED, GONE, MODEL, ScriptedClient, overview, record, server


async def test_one_key_press_runs_the_prompt_that_is_there_at_the_first_start() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        assert app.focused is app.screen.query_one("#user")
        assert "^r runs it on this machine" in shown(app)
        await scenes.press_run(app, pilot)
        [request] = client.requests
        assert request.model == MODEL
        assert request.connection == "local"
        assert request.messages == (ChatMessage("user", FIRST_PROMPT),)
        assert app.focused is app.screen.query_one(Answers), "the answers' page has come up"


async def test_a_key_press_before_the_controller_is_there_counts() -> None:
    client = ScriptedClient()
    client.there.clear()
    async with opened(client, connected=False) as (app, pilot):
        await pilot.press("ctrl+r")
        await settled(pilot)
        assert "Runs as soon as the controller is there" in shown(app)
        assert client.requests == []
        client.there.set()
        await eventually(lambda: len(client.requests) == 1, "the prompt to be sent")


async def test_esc_takes_an_early_key_press_back() -> None:
    client = ScriptedClient()
    client.there.clear()
    async with opened(client, connected=False) as (app, pilot):
        await pilot.press("ctrl+r", "escape")
        client.there.set()
        await eventually(lambda: app.state.link is Link.CONNECTED, "connected")
        await settled(pilot)
        assert client.requests == []
        assert "^r runs it on this machine" in shown(app)


async def test_text_is_shown_while_it_streams_and_figures_go_with_it() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await scenes.streaming(app, client, pilot)
        await eventually(lambda: "tok/s" in shown(app), "a rate")
        text = shown(app)
        assert "The capital of France is **Paris**." in text
        assert "TTFT" in text
        assert "31 → 17 tokens" in text


async def test_a_finished_answer_is_rendered_as_markdown_and_m_shows_it_raw() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await scenes.answered(app, client, pilot)
        assert "**Paris**" not in shown(app)
        await pilot.press("m")
        await settled(pilot)
        assert "**Paris**" in shown(app)
        assert "stop" in shown(app)


async def test_esc_cancels_the_run_itself_and_keeps_what_had_arrived() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        block = await scenes.streaming(app, client, pilot)
        await pilot.press("escape")
        await eventually(lambda: client.cancelled == 1, "the stream to be closed")
        await eventually(lambda: block.answer.standing is Standing.CANCELLED, "cancelled")
        await settled(pilot)
        assert "Paris" in block.answer.text
        assert "cancelled" in shown(app)


async def test_esc_while_the_server_starts_cancels_the_prompt() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await scenes.waiting(app, client, pilot)
        await pilot.press("escape")
        await eventually(lambda: client.cancelled == 1, "the stream to be closed")


async def test_the_way_there_shows_phases_progress_and_what_is_to_come() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await scenes.waiting(app, client, pilot)
        text = shown(app)
        for words in ("Fetch model", "Load weights", "50%", "42 MB/s", "Warm up", "1 starting"):
            assert words in text


async def test_a_failure_says_why_and_what_to_press() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await scenes.failed(app, client, pilot)
        text = shown(app)
        assert "Failed while warming up, after 2:14" in text
        assert "The KV cache does not fit" in text
        assert "Set max tokens to 39,936" in text
        await pilot.press("r")
        await eventually(lambda: len(client.requests) == 2, "the second try")
        assert client.requests[0] == client.requests[1]


async def test_the_controllers_death_keeps_the_partial_answer_and_the_app_goes_on() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        block = await scenes.streaming(app, client, pilot)
        client.tell(GONE)
        client.answer(GONE)
        await eventually(lambda: block.answer.standing is Standing.INTERRUPTED, "broken off")
        await eventually(lambda: client.connections_made == 2, "a new controller")
        await eventually(lambda: app.state.link is Link.CONNECTED, "connected again")
        await settled(pilot)
        assert "Paris" in block.answer.text
        assert "what had arrived is kept" in shown(app)
        await pilot.press("r")
        await eventually(lambda: len(client.requests) == 2, "the next run")


async def test_a_chat_goes_on_with_what_was_said() -> None:
    client = ScriptedClient()
    async with opened(client, size=(120, 32)) as (app, pilot):
        side = app.screen.query_one(PromptSide)
        side.system.load("Be brief.")
        await pilot.press("ctrl+g")
        await scenes.ended(app, client, pilot, RunText("Paris."), RunEnded(scenes.run("Paris.")))
        assert side.user.text == "", "the editor waits for the next turn"
        side.user.load("And of Italy?")
        await scenes.press_run(app, pilot)
        assert client.requests[1].messages == (
            ChatMessage("system", "Be brief."),
            ChatMessage("user", FIRST_PROMPT),
            ChatMessage("assistant", "Paris."),
            ChatMessage("user", "And of Italy?"),
        )
        await pilot.press("ctrl+n")
        await settled(pilot)
        assert scenes.blocks(app) == []


async def test_parameters_are_sent_and_wrong_ones_are_refused_with_the_rule() -> None:
    client = ScriptedClient()
    async with opened(client, size=(120, 32)) as (app, pilot):
        side = app.screen.query_one(PromptSide)
        side.fill({"max_tokens": "64", "temperature": "nine", "stop": "END|\\n\\n"})
        await pilot.press("ctrl+r")
        await settled(pilot)
        assert client.requests == []
        assert app.focused is app.screen.query_one("#temperature")
        assert "Temperature must be a number from 0 to 2." in shown(app)
        app.screen.query_one("#temperature", Field).value = "0.5"
        await scenes.press_run(app, pilot)
        sent = client.requests[0].parameters
        assert (sent.max_tokens, sent.temperature, sent.stop) == (64, 0.5, ("END", "\n\n"))


async def test_the_picker_narrows_and_chooses() -> None:
    other = EnabledModel(model="Qwen/Qwen2.5-7B-Instruct")
    client = ScriptedClient(overview(server(), models=(ENABLED, other)))
    async with opened(client) as (app, pilot):
        await pilot.press("ctrl+l")
        await eventually(lambda: isinstance(app.screen, ModelPicker), "the picker")
        await pilot.press(*"qwen")
        await eventually(lambda: app.screen.query_one("OptionList").option_count == 1, "one")
        await pilot.press("enter")
        await settled(pilot)
        await scenes.press_run(app, pilot)
        assert client.requests[0].model == other.model


async def test_history_restores_prompt_and_answer_and_can_be_searched() -> None:
    client = ScriptedClient()
    asked = (ChatMessage("system", "Be brief."), ChatMessage("user", "Name a river."))
    client.stored = [
        scenes.run("The **Seine**.", id="a", messages=asked),
        scenes.run("Rome", id="b"),
    ]
    async with opened(client) as (app, pilot):
        await pilot.press("ctrl+o")
        await eventually(lambda: isinstance(app.screen, History), "the history")
        await pilot.press(*"seine")
        await eventually(lambda: app.screen.query_one("OptionList").option_count == 1, "one")
        await pilot.press("enter")
        await eventually(lambda: len(scenes.blocks(app)) == 1, "the run in the pane")
        await settled(pilot)
        side = app.screen.query_one(PromptSide)
        assert side.user.text == "Name a river."
        assert side.system.text == "Be brief."
        assert "Seine" in shown(app)


async def test_answers_can_be_copied_saved_and_starred(tmp_path: Path) -> None:
    client = ScriptedClient()
    client.stored = [scenes.run()]
    async with opened(client) as (app, pilot):
        await scenes.answered(app, client, pilot)
        await pilot.press("y")
        await eventually(lambda: "OSC 52" in said(app), "which way it went")
        assert app.clipboard == scenes.MARKDOWN
        await pilot.press("s")
        await eventually(lambda: ("star", "run-1", "True") in client.commands, "starred")
        await settled(pilot)
        assert "★" in shown(app)
        await pilot.press("w")
        await settled(pilot)
        field = app.screen.query_one("#value", Field)
        field.value = str(tmp_path / "answer.md")
        await pilot.press("enter")
        file = tmp_path / "answer.md"
        await eventually(lambda: file.exists() and file.read_text() == scenes.MARKDOWN, "the file")
        await pilot.press("w")
        await settled(pilot)
        app.screen.query_one("#value", Field).value = str(tmp_path / "answer.md")
        await pilot.press("enter")
        await eventually(lambda: "left as it is" in said(app), "no overwriting")


async def test_inside_tmux_copying_goes_through_tmux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmux = tmp_path / "tmux"
    tmux.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/argv\ncat > {tmp_path}/buffer\n')
    tmux.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await scenes.answered(app, client, pilot)
        await pilot.press("y")
        await eventually(lambda: "through tmux" in said(app), "which way it went")
    assert (tmp_path / "buffer").read_text() == scenes.MARKDOWN
    assert (tmp_path / "argv").read_text() == "load-buffer -w -\n"


async def test_the_draft_survives_the_app() -> None:
    async with opened(ScriptedClient()) as (app, pilot):
        side = app.screen.query_one(PromptSide)
        side.user.load("a thought")
        side.fill({"seed": "7"})
        await settled(pilot)
        await pilot.press("ctrl+q")
    assert memory_path().stat().st_mode & 0o077 == 0
    async with opened(ScriptedClient()) as (app, _pilot):
        side = app.screen.query_one(PromptSide)
        assert side.user.text == "a thought"
        assert side.values == {"seed": "7"}


async def test_the_terminal_may_change_its_size_while_text_streams() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        block = await scenes.streaming(app, client, pilot)
        for size in ((160, 45), (40, 12), (81, 24), (120, 30), (20, 5), (80, 24)):
            await pilot.resize_terminal(*size)
            client.answer(RunText("more words to wrap, and 日本語 too. "))
            await settled(pilot)
        await eventually(lambda: block.answer.text.count("more words") == 6, "all text")
        await settled(pilot)
        flat = " ".join(shown(app).split())
        assert "日本語" in flat
        client.answer(RunEnded(scenes.run(block.answer.text)), None)
        await eventually(lambda: block.answer.standing is Standing.DONE, "the end")


async def test_the_block_cursor_moves_between_answers() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        for word in ("one", "two", "three"):
            await scenes.answered(app, client, pilot, word)
        pane = app.screen.query_one(Answers)
        assert pane.current is not None
        assert pane.current.answer.text == "three"
        await pilot.press("up", "up")
        assert pane.current.answer.text == "one"
        await pilot.press("down")
        assert pane.current.answer.text == "two"


async def test_a_server_that_changes_is_seen_in_the_models_line() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        assert "not started" in shown(app)
        client.tell(ServerChanged(server()))
        await eventually(lambda: "vLLM 0.32.0 · ready" in shown(app), "ready")
        await settled(pilot)


async def test_esc_leads_to_the_answers_and_back_and_the_footer_says_so() -> None:
    client = ScriptedClient()
    async with opened(client, size=(120, 32)) as (app, pilot):
        assert "esc Answers" not in shown(app), "there is none yet"
        await scenes.answered(app, client, pilot)
        assert "esc Answers" in shown(app)
        await pilot.press("escape")
        await settled(pilot)
        assert app.focused is app.screen.query_one(Answers)
        assert "esc Prompt" in shown(app)
        await pilot.press("escape")
        await settled(pilot)
        assert app.focused is app.screen.query_one("#user")


async def test_how_a_model_stands_is_said_where_the_room_is_small() -> None:
    client = ScriptedClient()
    async with opened(client, size=(120, 32)) as (app, pilot):
        client.tell(ServerChanged(server()))
        await eventually(lambda: "vLLM · ready" in shown(app), "its state, in full")
        await pilot.resize_terminal(40, 20)
        await settled(pilot)
        assert "▾   ready" in shown(app)


async def test_figures_are_wrapped_between_facts_and_no_rate_is_made_up() -> None:
    client = ScriptedClient()
    async with opened(client, size=(120, 32)) as (app, pilot):
        await scenes.answered(app, client, pilot)
        assert "31 → 98 tokens · stop" in shown(app)
        at_once = scenes.run("Paris.", ttft_s=0.008, duration_s=0.00801)
        await scenes.ended(app, client, pilot, RunText("Paris."), RunEnded(at_once))
        assert "tok/s" not in shown(app).partition("Paris.")[2].rpartition("Paris.")[2]


async def test_a_server_that_breaks_down_is_named_and_the_partial_answer_kept() -> None:
    broken = server(Phase.FAILED, phases=(*server().phases, record(Phase.FAILED, 0, 0)))
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        client.tell(ServerChanged(broken))
        failed = scenes.run("Par", status="failed", error=scenes.CAUSE, finish_reason=None)
        await scenes.ended(app, client, pilot, RunText("Par"), RunEnded(failed))
        assert "The server broke down; what had arrived is kept" in shown(app)
        assert "r Retry" in shown(app)


async def test_a_crash_of_the_controller_is_said_once() -> None:
    client = ScriptedClient()
    async with opened(client, size=(120, 32)) as (app, pilot):
        client.tell(GONE)
        await eventually(lambda: client.connections_made == 2, "a new controller")
        await eventually(lambda: "is back" in said(app), "that it is back")
        await settled(pilot)
        assert len(app._notifications) == 1


async def test_a_ready_server_is_not_shown_as_starting() -> None:
    client = ScriptedClient(overview(server()))
    async with opened(client) as (app, pilot):
        await scenes.press_run(app, pilot)
        assert "Waiting for the first token" in shown(app)
        assert "Load weights" not in shown(app)


async def test_a_failure_offers_only_keys_that_do_something() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        block = await scenes.streaming(app, client, pilot)
        client.answer(GONE)
        await eventually(lambda: block.answer.standing is Standing.INTERRUPTED, "broken off")
        await settled(pilot)
        assert "y Copy the answer" in shown(app)
        await pilot.press("y")
        await eventually(lambda: "Answer of" in said(app), "the answer's copy")
        client.stored = [scenes.run("", status="failed", error=scenes.CAUSE)]
        await pilot.press("ctrl+o")
        await eventually(lambda: isinstance(app.screen, History), "the history")
        await eventually(lambda: app.screen.query_one("OptionList").option_count == 1, "its run")
        await pilot.press("enter")
        await eventually(lambda: len(scenes.blocks(app)) == 2, "the failed run")
        await settled(pilot)
        assert "r Retry   y Copy the report" in shown(app)

"""The checker's screen: what keys do to the question, and what is seen of the answer."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from meshtui.screens.check import suggesting
from meshtui.screens.check.compare_screen import CompareScreen
from meshtui.screens.check.deploy import ConnectionPicker, Deploying
from meshtui.screens.check.explain import Arithmetic, Explanation
from meshtui.screens.check.findings import Findings
from meshtui.screens.check.knob import Knob
from meshtui.screens.check.model_field import ModelField, Suggestions
from meshtui.screens.check.page import Page
from meshtui.screens.memory import recall
from meshtui.screens.state import Link
from textual.screen import ModalScreen

from meshtui.domain.check import CheckReport, CheckWishes
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.controller import (
    CacheEntryChanged,
    CacheEntryRemoved,
    RuntimeChanged,
    ServerChanged,
)
from meshtui.domain.errors import HubUnreachable, Unavailable
from meshtui.domain.hub_search import FoundModel
from meshtui.domain.model_cache import CacheEntry
from meshtui.domain.preset import Preset, Purpose
from meshtui.domain.runtime import BuildPhase
from meshtui.domain.task import Task
from tests.support.waiting import eventually
from tests.tui import check_reports
from tests.tui.check_reports import BASE, LLAMA, MYSTERY, QWEN
from tests.tui.conftest import AppPilot, opened, said, settled, shown
from tests.tui.scenes import checked, open_check
from tests.tui.scripted import ENABLED, GPU, MODEL, ScriptedClient, overview, server

ON_LLAMA = overview(models=(ENABLED, EnabledModel(model=LLAMA)))


class WithCache(ScriptedClient):
    """A controller with two models in its cache."""

    async def cache_entries(self) -> list[CacheEntry]:
        return [
            CacheEntry(model=QWEN, folder="a", size_bytes=145_000_000_000),
            CacheEntry(model="acme/tiny", folder="b", size_bytes=270_000_000),
        ]


def wishes(client: ScriptedClient) -> CheckWishes:
    """Those of the newest question."""
    return client.checks[-1][1]


async def press(pilot: AppPilot, *keys: str) -> None:
    await pilot.press(*keys)
    await settled(pilot)


# Naming a model


async def test_a_typed_name_is_checked_with_enter() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await open_check(app, pilot)
        await pilot.press(*LLAMA, "enter")
        await eventually(lambda: "does not run: memory" in shown(app), "the verdict")
        assert client.checks == [(LLAMA, CheckWishes())]
        await settled(pilot)
        assert isinstance(app.focused, Findings)


async def test_names_are_completed_from_what_is_enabled_and_in_the_cache() -> None:
    client = WithCache()
    async with opened(client) as (app, pilot):
        await open_check(app, pilot)
        await eventually(lambda: app.state.entries, "the cache's entries")
        await press(pilot, *"qw")
        assert f"{QWEN}" in shown(app)
        assert "in the cache, 145" in shown(app)
        assert "SmolLM2" not in shown(app)
        await press(pilot, "tab")
        assert app.screen.query_one(ModelField).value == QWEN
        await press(pilot, *["backspace"] * len(QWEN), *"smol", "down", "enter")
        await eventually(lambda: client.checks, "the question")
        assert client.checks[0][0] == MODEL
        assert client.checks[0][1].connection == "local"


PHI = Preset(
    name="phi",
    model="microsoft/phi-4",
    label="Fourteen billion",
    purpose=Purpose.CHAT,
    task=Task.TEXT_GENERATION,
    parameters=14_700_000_000,
)
GRANITE = FoundModel(model="ibm/granite-8b", parameters=8_030_000_000, downloads=5_200_000)


async def test_presets_are_completed_by_their_names_and_their_labels() -> None:
    client = ScriptedClient()
    client.known_presets = [PHI]
    async with opened(client) as (app, pilot):
        await open_check(app, pilot)
        for text in ("phi", "billion"):
            app.screen.query_one(ModelField).value = text
            await eventually(lambda: "preset, 14.7 B" in shown(app), "the preset")
        await press(pilot, "tab")
        assert app.screen.query_one(ModelField).value == PHI.model


async def test_the_hub_is_searched_when_the_typing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ScriptedClient()
    client.known_presets = [msgspec.structs.replace(PHI, model="ibm/granite-tiny")]
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def hub(_text: str) -> list[FoundModel]:
        asked.set()
        await may_answer.wait()
        return [msgspec.structs.replace(GRANITE, model="ibm/granite-tiny"), GRANITE]

    client.hub = hub
    async with opened(client) as (app, pilot):
        await open_check(app, pilot)
        monkeypatch.setattr(suggesting, "_PAUSE_S", 3600)
        await press(pilot, "g", "r", "a")
        assert "searching the Hub…" in shown(app)
        assert client.searches == []
        monkeypatch.setattr(suggesting, "_PAUSE_S", 0)
        await press(pilot, "n")
        await eventually(asked.is_set, "the search")
        assert client.searches == ["gran"], "not for each letter"
        await press(pilot, "down")
        may_answer.set()
        await eventually(lambda: "Hub · 8.0 B · ↓ 5.2 M" in shown(app), "what it found")
        await settled(pilot)
        assert shown(app).count("granite-tiny") == 1, "known already"
        assert app.screen.query_one(Suggestions).marked == "ibm/granite-tiny", "the mark stays"
        assert "searching" not in shown(app)
        await press(pilot, "down", "enter")
        await eventually(lambda: client.checks, "the question")
        assert client.checks[0][0] == GRANITE.model


async def test_a_list_that_was_closed_stays_closed_when_the_hub_answers() -> None:
    client = ScriptedClient()
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def hub(_text: str) -> list[FoundModel]:
        asked.set()
        await may_answer.wait()
        return [GRANITE]

    client.hub = hub
    async with opened(client) as (app, pilot):
        await open_check(app, pilot)
        await press(pilot, "g", "r")
        await eventually(asked.is_set, "the search")
        await press(pilot, "escape")
        may_answer.set()
        await settled(pilot)
        assert GRANITE.model not in shown(app)


async def test_a_hub_that_cannot_be_searched_is_a_line_below_what_is_known() -> None:
    client = ScriptedClient()

    async def hub(_text: str) -> list[FoundModel]:
        raise HubUnreachable("The Hub does not answer.")

    client.hub = hub
    async with opened(client) as (app, pilot):
        await open_check(app, pilot)
        await press(pilot, *"smol")
        await eventually(lambda: "cannot be searched: The Hub does not" in shown(app), "why")
        assert "SmolLM2-135M-Instruct" in shown(app)
        assert said(app) == ""


async def test_folders_are_completed_and_asked_for_by_their_whole_path(tmp_path: Path) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "models" / "tiny" / "config.json").write_text("{}")
    (tmp_path / "models" / "empty").mkdir()
    client = ScriptedClient()
    async with opened(client, size=(160, 40)) as (app, pilot):
        await open_check(app, pilot)
        app.screen.query_one(ModelField).value = f"{tmp_path}/models/"
        await eventually(lambda: "has a config.json" in shown(app), "the folders")
        await settled(pilot)
        assert "empty/" in shown(app)
        await press(pilot, "tab", "enter")
        await eventually(lambda: client.checks, "the question")
        assert client.checks[0][0] == str(tmp_path / "models" / "tiny")


async def test_what_was_checked_comes_back_with_up_and_is_remembered() -> None:
    async with opened(ScriptedClient()) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await checked(app, pilot, QWEN)
        await press(pilot, "slash", "up", "up")
        assert app.screen.query_one(ModelField).value == LLAMA
        await press(pilot, "down")
        assert app.screen.query_one(ModelField).value == QWEN
        await eventually(lambda: recall().checked == [QWEN, LLAMA], "the file")
        await press(pilot, "escape")
        assert isinstance(app.focused, Findings)


async def test_an_unknown_model_says_so_and_lets_the_name_be_corrected() -> None:
    async with opened(ScriptedClient()) as (app, pilot):
        await open_check(app, pilot)
        await pilot.press(*"acme/nothing", "enter")
        await eventually(lambda: "could not check" in shown(app), "the failure")
        await settled(pilot)
        assert "The Hub knows no model acme/nothing." in shown(app)
        assert "Check its name" in shown(app)
        assert isinstance(app.focused, ModelField)


async def test_a_name_that_was_edited_and_left_is_put_back() -> None:
    async with opened(ScriptedClient()) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "slash", *"other", "escape", "escape")
        assert app.screen.query_one(ModelField).value == LLAMA


async def test_a_name_before_the_controller_is_there_counts() -> None:
    client = ScriptedClient()
    client.there.clear()
    async with opened(client, connected=False) as (app, pilot):
        await pilot.press("f6")
        await eventually(lambda: app.screen.query(ModelField), "the screen")
        await pilot.press(*LLAMA, "enter")
        assert client.checks == []
        client.there.set()
        await eventually(lambda: "does not run: memory" in shown(app), "the verdict")


async def test_another_screen_leads_here_with_its_model() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        app.action_check(LLAMA)
        await eventually(lambda: "does not run: memory" in shown(app), "the verdict")
        assert app.current_mode == "check"
        await pilot.press("1")
        app.action_check(QWEN)
        await eventually(lambda: client.checks[-1][0] == QWEN, "the second question")


async def test_c_in_the_cache_leads_here_with_the_marked_model() -> None:
    client = WithCache()
    async with opened(client, size=(120, 40)) as (app, pilot):
        await pilot.press("f4")
        await eventually(lambda: QWEN in shown(app), "the list")
        await press(pilot, "home")
        await pilot.press("c")
        await eventually(lambda: client.checks, "the question")
        assert client.checks[0][0] in (QWEN, "acme/tiny")
        assert app.current_mode == "check"


# Turning parameters


async def test_each_letter_turns_its_parameter_and_the_picture_follows() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)
        assert "short by" in shown(app)
        await press(pilot, "T")
        assert wishes(client).max_tokens == 65536
        await press(pilot, "T")
        assert wishes(client).max_tokens == 37056, "the longest that fits is a stop"
        assert "1.0 requests at 37,056" in shown(app)
        await press(pilot, "v")
        assert wishes(client).kv_cache_dtype == "fp8"
        assert "2.0 requests at 37,056" in shown(app)
        await press(pilot, "n")
        assert (wishes(client).gpus, wishes(client).tensor_parallel_size) == (2, 2)
        assert "GiB each" in shown(app)
        await press(pilot, "g")
        assert wishes(client).gpu == "l4"
        await press(pilot, "G", "G")
        assert wishes(client).gpu == "t4"
        await press(pilot, "q")
        assert wishes(client).quantization == "fp8"
        await press(pilot, "r")
        assert wishes(client).runtime == "cpu"


async def test_left_and_right_turn_the_marked_parameter_from_anywhere() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "right")
        assert wishes(client).gpu == "l4"
        await press(pilot, "shift+tab", "up", "up")
        knob = app.focused
        assert isinstance(knob, Knob) and knob.parameter.name == "kv_cache_dtype"
        await press(pilot, "right")
        assert wishes(client).kv_cache_dtype == "fp8"
        await press(pilot, "up", "left")
        assert wishes(client).max_tokens == 73680, "the longest that fits now"
        await press(pilot, "tab", "tab", "tab", "down")
        assert isinstance(app.focused, Findings)
        await press(pilot, "right")
        assert wishes(client).runtime == "cpu", "the last marked one"


async def test_what_was_chosen_for_one_stands_in_brackets_and_can_be_had_back() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)
        assert "(131,072)" in shown(app)
        await press(pilot, "T")
        assert "◂ 65,536 ▸" in shown(app)
        await press(pilot, "backspace")
        assert "(131,072)" in shown(app)
        await press(pilot, "T", "v", "0")
        assert wishes(client) == CheckWishes()


async def test_all_values_are_in_a_list_and_lengths_can_be_typed() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)
        app.screen.query_one("#knob-max_tokens").focus()
        await press(pilot, "enter", *"20k", "enter")
        await eventually(lambda: wishes(client).max_tokens == 20480, "the typed length")
        app.screen.query_one("#knob-gpu").focus()
        await press(pilot, "enter", *"4090")
        assert "23.52 GiB, compute capability 8.9, 1,008 GB/s" in shown(app)
        await press(pilot, "enter")
        await eventually(lambda: wishes(client).gpu == "rtx-4090", "the GPU")


async def test_a_takes_over_what_is_proposed() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)
        assert "a Apply" in shown(app)
        await press(pilot, "a")
        assert wishes(client).max_tokens == 37056
        assert "a Apply" not in shown(app)


async def test_keys_that_come_faster_than_answers_wait_for_one_and_the_last_counts() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)
        client.may_check.clear()
        await pilot.press("T", "T", "n", "v")
        assert len(client.checks) == 2, "no more questions than can be answered"
        client.may_check.set()
        await eventually(lambda: "10 requests at 37,056" in shown(app), "the last answer")
        await settled(pilot)
        assert len(client.checks) == 3
        asked = CheckWishes(gpus=2, tensor_parallel_size=2, max_tokens=37056, kv_cache_dtype="fp8")
        assert wishes(client) == asked


async def test_another_model_does_not_wait_for_the_answer_about_the_one_before() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)
        client.may_check.clear()
        await pilot.press("T")
        app.action_check(QWEN)
        await eventually(lambda: client.checks[-1][0] == QWEN, "its question")
        client.may_check.set()
        await eventually(lambda: app.screen.query_one(Page).answered == QWEN, "its answer")
        await settled(pilot)
        assert [model for model, _wishes in client.checks] == [LLAMA, LLAMA, QWEN]


async def test_while_an_answer_takes_its_time_the_picture_stays_and_esc_gives_up() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)
        client.may_check.clear()
        await pilot.press("T")
        await eventually(lambda: "checking…" in shown(app), "that it waits")
        await settled(pilot)
        assert "short by" in shown(app)
        assert "◂ 65,536 ▸" in shown(app)
        await press(pilot, "escape")
        assert "does not run: memory" in shown(app)
        assert "(131,072)" in shown(app)


async def test_a_controller_that_goes_away_is_said_and_asked_again_when_it_is_back() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)

        def gone(_model: str, _wishes: CheckWishes) -> CheckReport:
            raise Unavailable("The controller was stopped.", hint="Running servers live on.")

        client.checker = gone
        await press(pilot, "T")
        assert "Running servers live on." in shown(app)
        client.checker = check_reports.report
        client.tell(Unavailable("The controller was stopped."))
        await eventually(lambda: app.state.link is Link.LOST, "the loss")
        await eventually(lambda: "short by" in shown(app), "the answer, once it is back")


async def test_what_a_verdict_rests_on_is_asked_about_again_when_it_changes() -> None:
    client = WithCache()
    async with opened(client) as (app, pilot):
        await checked(app, pilot, QWEN)
        await eventually(lambda: app.state.entries, "the cache's entries")
        client.tell(CacheEntryChanged(CacheEntry(model="acme/tiny", folder="b", size_bytes=1)))
        client.tell(RuntimeChanged(msgspec.structs.replace(GPU, phase=BuildPhase.BUILDING)))
        await eventually(lambda: app.state.builds, "the build")
        await settled(pilot)
        before = len(client.checks)
        client.tell(RuntimeChanged(msgspec.structs.replace(GPU, phase=BuildPhase.READY)))
        await eventually(lambda: len(client.checks) == before + 1, "again, with the runtime")
        client.tell(CacheEntryChanged(CacheEntry(model=QWEN, folder="a", commit="c0ffee")))
        await eventually(lambda: len(client.checks) == before + 2, "again, with the files")
        await press(pilot, "1")
        client.tell(CacheEntryRemoved(QWEN))
        await eventually(lambda: QWEN not in (app.state.entries or {}), "the removal")
        assert len(client.checks) == before + 2, "not while nobody looks"
        await press(pilot, "f6")
        await eventually(lambda: len(client.checks) == before + 3, "again, on the way back")
        assert {model for model, _wishes in client.checks} == {QWEN}


# What is seen


async def test_findings_come_by_weight_and_enter_explains_the_marked_one() -> None:
    async with opened(ScriptedClient()) as (app, pilot):
        await checked(app, pilot, BASE)
        rows = shown(app).split("\n")
        order = [row.split()[1] for row in rows if row[:1] == "▌" and "→" not in row]
        assert order[0] == "✗"
        await press(pilot, "enter")
        assert isinstance(app.screen, Explanation)
        text = shown(app)
        assert "What to do" in text
        assert "Use mistralai/Mistral-Small-24B-Instruct-2501." in text
        await press(pilot, "escape", "down", "enter")
        assert "The sum in GiB" in shown(app)
        await press(pilot, "escape", "m")
        assert isinstance(app.screen, Arithmetic)
        assert "8.03 billion parameters x 2 bytes" in shown(app)


async def test_what_cannot_be_told_says_what_is_known() -> None:
    async with opened(ScriptedClient()) as (app, pilot):
        await checked(app, pilot, MYSTERY)
        text = shown(app)
        assert "○ could not tell" in text
        assert "MysteryForCausalLM is in no release of vLLM" in text
        assert "How much memory it takes is not known." in text


async def test_measured_figures_and_imagined_gpus_wear_a_badge() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)
        assert " SIM" in shown(app)
        found = check_reports.report(LLAMA, CheckWishes())
        assert found.memory is not None
        memory = msgspec.structs.replace(found.memory, measured=True, simulated=False)
        client.checker = lambda _model, _wishes: msgspec.structs.replace(found, memory=memory)
        await press(pilot, "f5")
        assert " measured" in shown(app)
        assert " SIM" not in shown(app)


# What comes of it


async def test_d_gives_the_connection_what_is_proposed_and_starts_the_server() -> None:
    """Where nothing was wished, the proposal counts: what was judged to not fit is not deployed."""
    client = ScriptedClient(ON_LLAMA)
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "v", "d")
        await eventually(lambda: isinstance(app.screen, Deploying), "the question")
        await settled(pilot)
        text = " ".join(shown(app).split())
        assert "Deploy Llama-3.1-8B-Instruct on local with these settings?" in text
        assert "Max tokens: 74,128 (not set before)" in text
        assert "Extra engine arguments: --kv-cache-dtype fp8 (not set before)" in text
        assert "connections/local.toml" in text
        await press(pilot, "y")
        await eventually(lambda: app.current_mode == "servers", "the way to it")
        assert client.commands == [("save", "local", "1"), ("start", LLAMA, "local")]
        _smollm, llama = client.edited["local"].enabled_models
        assert llama.max_tokens == 74128
        assert llama.extra_engine_args == ("--kv-cache-dtype", "fp8")


async def test_d_on_a_connection_that_has_the_settings_asks_nothing() -> None:
    enabled = EnabledModel(model=LLAMA, max_tokens=37056)
    client = ScriptedClient(overview(models=(enabled,)))
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "a", "d")
        await eventually(lambda: client.commands == [("start", LLAMA, "local")], "the start")


async def test_d_can_leave_the_connection_as_it_is_and_restarts_what_runs_already() -> None:
    client = ScriptedClient(ON_LLAMA)
    async with opened(client) as (app, pilot):
        client.tell(ServerChanged(server(id="llama-1", model=LLAMA)))
        await checked(app, pilot, LLAMA)
        await press(pilot, "a", "d")
        await eventually(lambda: isinstance(app.screen, Deploying), "the question")
        await settled(pilot)
        assert "Its server runs already" in shown(app)
        await press(pilot, "k")
        await eventually(lambda: client.commands == [("start", LLAMA, "local")], "the start")
        client.commands.clear()
        await pilot.press("4", "d")
        await eventually(lambda: isinstance(app.screen, Deploying), "the question")
        await pilot.press("enter")
        await eventually(lambda: len(client.commands) == 3, "all of it")
        assert client.commands == [
            ("save", "local", "1"),
            ("stop", "llama-1"),
            ("start", LLAMA, "local"),
        ]


async def test_d_enables_a_model_where_it_is_chosen_to() -> None:
    known = (Connection(name="local"), Connection(name="cluster", execution="gpus"))
    client = ScriptedClient(msgspec.structs.replace(overview(models=()), connections=known))
    async with opened(client) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "d")
        await eventually(lambda: isinstance(app.screen, ConnectionPicker), "the choice")
        await press(pilot, *"clu", "enter")
        await eventually(lambda: isinstance(app.screen, Deploying), "the question")
        await settled(pilot)
        assert "Max tokens: 37,056" in shown(app)
        assert "before" not in shown(app)
        await press(pilot, "y")
        await eventually(lambda: ("start", LLAMA, "cluster") in client.commands, "the start")
        [llama] = client.edited["cluster"].enabled_models
        assert (llama.model, llama.max_tokens) == (LLAMA, 37056)


async def test_deploying_what_does_not_run_asks_and_names_the_blocker() -> None:
    client = ScriptedClient(overview(models=(ENABLED, EnabledModel(model=BASE))))
    async with opened(client) as (app, pilot):
        await checked(app, pilot, BASE)
        await press(pilot, "d")
        await eventually(lambda: isinstance(app.screen, Deploying), "the question")
        await settled(pilot)
        assert "although it does not run?" in shown(app)
        assert "This is a base model" in shown(app)
        await press(pilot, "escape")
        assert client.commands == []


async def test_a_folder_is_to_be_brought_into_the_cache_first(tmp_path: Path) -> None:
    client = ScriptedClient()
    found = check_reports.report(LLAMA, CheckWishes())
    client.checker = lambda model, _wishes: msgspec.structs.replace(found, model=model)
    async with opened(client) as (app, pilot):
        await checked(app, pilot, str(tmp_path))
        await press(pilot, "d")
        await eventually(lambda: "Not in the cache yet" in shown(app), "what to do first")


async def test_up_to_three_stand_side_by_side() -> None:
    client = ScriptedClient()
    async with opened(client, size=(160, 45)) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "c", *"h100", "enter")
        assert isinstance(app.screen, CompareScreen)
        await eventually(lambda: "40.59–41.29 GiB" in shown(app), "the second column")
        await press(pilot, "c", *QWEN, "enter")
        await eventually(lambda: "135.40 GiB" in shown(app), "the third column")
        await settled(pilot)
        assert "c Add" not in shown(app), "three are enough"
        await press(pilot, "y")
        await eventually(lambda: "Comparison copied" in said(app), "the copy")
        await press(pilot, "delete")
        assert "Qwen" not in shown(app)
        await press(pilot, "enter")
        await eventually(lambda: "runs on vLLM" in shown(app), "the marked column")
        assert wishes(client).gpu == "h100"


@pytest.mark.parametrize("name", ["report.md", "report.json"])
async def test_x_writes_a_file_that_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    async with opened(ScriptedClient()) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "x")
        app.screen.query_one("#value").value = str(path)  # type: ignore[attr-defined]
        await press(pilot, "enter")
        await eventually(path.exists, "the file")
        await eventually(lambda: "Saved as" in said(app), "that it is said")
        text = path.read_text("utf-8")
        if name.endswith(".json"):
            assert msgspec.json.decode(text, type=CheckReport).model == LLAMA
        else:
            assert "| weights | 14.99 |" in text
            assert "- **blocker** Memory: One request of 131,072 tokens" in text


async def test_x_writes_a_comparison_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "both.json"
    async with opened(ScriptedClient(), size=(160, 45)) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "c", *"h100", "enter")
        await eventually(lambda: "40.59–41.29 GiB" in shown(app), "the second column")
        await press(pilot, "x")
        app.screen.query_one("#value").value = str(path)  # type: ignore[attr-defined]
        await press(pilot, "enter")
        await eventually(lambda: "Saved as" in said(app), "that it is said")
    reports = msgspec.json.decode(path.read_bytes(), type=list[CheckReport])
    assert [report.memory and report.memory.gpu for report in reports] == ["a10", "h100"]


async def test_y_copies_the_report() -> None:
    async with opened(ScriptedClient()) as (app, pilot):
        await checked(app, pilot, LLAMA)
        await press(pilot, "y")
        await eventually(lambda: "Report copied" in said(app), "the copy")
        assert "**does not run: memory**" in app.clipboard


async def test_the_mouse_turns_opens_and_chooses() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        await open_check(app, pilot)
        await pilot.click(Suggestions, offset=(4, 0))
        await eventually(lambda: client.checks, "the question")
        await checked(app, pilot, LLAMA)
        await pilot.click("#knob-max_tokens", offset=(11, 0))
        await settled(pilot)
        assert wishes(client).max_tokens == 65536
        await pilot.click("#knob-gpu", offset=(1, 0))
        await eventually(lambda: isinstance(app.screen, ModalScreen), "the list")


async def test_the_palette_leads_to_the_screen_and_has_its_actions() -> None:
    async with opened(ScriptedClient(), size=(120, 40)) as (app, pilot):
        await pilot.press("ctrl+p", *"go to check")
        await eventually(lambda: "Go to Check" in shown(app), "the action")
        await settled(pilot)
        await pilot.press("enter")
        await eventually(lambda: app.current_mode == "check", "the screen")

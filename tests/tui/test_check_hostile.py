"""Names, findings and errors from outside, through everything that the checker shows."""

import msgspec
from meshtui.screens.check.model_field import ModelField
from meshtui.screens.widgets.dialogs import StartAnyway

from meshtui.domain.check import CheckReport, CheckWishes
from meshtui.domain.connection import EnabledModel
from meshtui.domain.errors import InvalidInput
from meshtui.domain.finding import Finding, Level
from meshtui.domain.hub_search import FoundModel
from meshtui.domain.memory import MemoryItem
from meshtui.domain.model_cache import CacheEntry
from meshtui.domain.preset import Preset, Purpose
from meshtui.domain.task import Task
from tests.support.waiting import eventually
from tests.tui import check_reports
from tests.tui.check_reports import LLAMA
from tests.tui.conftest import opened, settled
from tests.tui.scenes import checked, open_check
from tests.tui.scripted import ScriptedClient, overview
from tests.tui.test_hostile import EACH, assert_clean


def hostile(text: str) -> CheckReport:
    """A report that says it everywhere."""
    found = check_reports.report(LLAMA, CheckWishes())
    assert found.memory is not None
    parts = (*found.memory.parts, MemoryItem.exact(text, 1 << 28, text))
    memory = msgspec.structs.replace(found.memory, gpu=text, parts=parts, notes=(text,))
    findings = [Finding(rule=text, level=level, message=text, fix=text) for level in Level]
    findings.append(Finding(rule="memory", level=Level.OK, message=text))
    return msgspec.structs.replace(
        found,
        findings=tuple(findings),
        memory=memory,
        source=text,
        commit=text,
        licence=text,
        summary=text,
        architectures=(text,),
        runtime=text,
        vllm_version=text,
        changes=(text, text),
        alternatives=(text, f"{text} × 2"),
    )


@EACH
async def test_a_report_and_all_that_is_made_of_it(text: str) -> None:
    client = ScriptedClient(overview(models=(EnabledModel(model=LLAMA, display_name=text),)))
    report = hostile(text)
    client.checker = lambda _model, _wishes: report
    async with opened(client, size=(130, 40)) as (app, pilot):
        await checked(app, pilot, LLAMA)
        assert_clean(app)
        for keys in (
            ("down", "down", "enter"),
            ("escape", "end", "enter"),
            ("escape", "m"),
            ("escape", "d"),
            ("escape", "x"),
            ("escape", "y"),
            ("c", "enter"),
        ):
            await pilot.press(*keys)
            await settled(pilot)
            assert_clean(app)
        await pilot.press("escape")
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        assert_clean(app)
        assert app.is_running


@EACH
async def test_names_and_errors(text: str) -> None:
    class Client(ScriptedClient):
        async def cache_entries(self) -> list[CacheEntry]:
            return [CacheEntry(model=text, folder=text)]

    async def hub(_text: str) -> list[FoundModel]:
        return [FoundModel(model=f"{text} on the Hub", task=text, licence=text)]

    client = Client(overview(models=(EnabledModel(model=text),)))
    client.hub = hub
    client.known_presets = [
        Preset(
            name="p",
            model=f"{text} preset",
            label=text,
            purpose=Purpose.CHAT,
            task=Task.TEXT_GENERATION,
        )
    ]

    def refused(_model: str, _wishes: CheckWishes) -> CheckReport:
        raise InvalidInput(text, hint=text)

    client.checker = refused
    async with opened(client) as (app, pilot):
        await open_check(app, pilot)
        await eventually(lambda: app.state.entries, "the entries")
        await settled(pilot)
        assert_clean(app)
        app.screen.query_one(ModelField).value = "preset"
        await eventually(lambda: client.searches, "the search")
        await settled(pilot)
        assert_clean(app)
        app.action_check(text)
        await settled(pilot)
        assert_clean(app)
        await pilot.press("slash", "up", "up", "down", "tab", "enter")
        await settled(pilot)
        assert_clean(app)
        assert app.is_running


@EACH
async def test_the_blocker_that_is_shown_before_a_start(text: str) -> None:
    client = ScriptedClient(overview(models=(EnabledModel(model=text, display_name=text),)))
    client.blockers = (Finding(rule=text, level=Level.BLOCKER, message=text, fix=text),)
    async with opened(client) as (app, pilot):
        await pilot.press("ctrl+r")
        await eventually(lambda: isinstance(app.screen, StartAnyway), "the question")
        await settled(pilot)
        assert_clean(app)
        await pilot.press("escape")
        await settled(pilot)
        assert_clean(app)

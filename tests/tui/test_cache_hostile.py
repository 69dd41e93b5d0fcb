"""Text from outside that would crash a toolkit or take over a terminal, through the Cache."""

from meshtui.domain.controller import TransferChanged
from meshtui.domain.errors import ErrorInfo, InvalidInput
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import (
    CacheDetails,
    CacheFile,
    DownloadPlan,
    HubCacheRepo,
    PlannedFile,
    TransferState,
    Verification,
)
from tests.support.waiting import eventually
from tests.tui.conftest import opened, settled
from tests.tui.scripted_cache import CacheClient, entry, transfer
from tests.tui.test_cache import open_cache
from tests.tui.test_hostile import EACH, assert_clean


class Hostile(CacheClient):
    """Everything that it tells holds the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.finding = Finding(rule="x", level=Level.BLOCKER, message=text, fix=text)
        checked = Verification(at=1.0, against="hub", findings=(self.finding,))
        known = dict.fromkeys(("task", "library", "licence", "commit", "url", "folder"), text)
        many = dict.fromkeys(("tags", "languages", "enabled_on", "unsafe"), (text,))
        super().__init__(
            entry(text, last_used_by=text, last_used_at=1.0, **known, **many),
            entry(f"a/{text}", problem=text),
            entry(f"b/{'n' * 300}", verification=checked, downloaded_by=text),
        )
        self.repos = [
            HubCacheRepo(
                model=text,
                commit=text,
                folder=text,
                files=1,
                size_bytes=1,
                findings=(self.finding,),
            )
        ]
        self.download_plan = DownloadPlan(
            model=text,
            commit=text,
            licence=text,
            files=(PlannedFile(path=text, size_bytes=1, selected=True, reason=text),),
            findings=(self.finding,),
        )

    async def cache_entry(self, model: str) -> CacheDetails:
        return CacheDetails(
            entry=self.entries[model],
            card=self.text * 3,
            verdict=self.text,
            architectures=(self.text,),
            files=(CacheFile(path=self.text, size_bytes=1, sha256=self.text),),
            findings=(self.finding,),
        )


@EACH
async def test_names_findings_and_cards(text: str) -> None:
    client = Hostile(text)
    async with opened(client, size=(120, 40)) as (app, pilot):
        table = await open_cache(app, pilot)
        assert len(table.rows) == 3
        for _row in range(3):
            assert_clean(app)
            await pilot.press("enter")
            await settled(pilot)
            assert_clean(app)
            await pilot.press("end", "escape", "down")
            await settled(pilot)
        why = ErrorInfo(code="x", message=text, hint=text)
        client.tell(
            TransferChanged(transfer(text, TransferState.FAILED, error=why, place=text)),
            TransferChanged(transfer(None, id="2", place=text, step=text, total_bytes=None)),
        )
        await eventually(lambda: len(app.state.transfers) == 2, "both")
        await settled(pilot)
        assert_clean(app)
        await pilot.press("t", "down", "up")
        await settled(pilot)
        assert_clean(app)


@EACH
async def test_plans_and_refusals(text: str) -> None:
    client = Hostile(text)
    async with opened(client) as (app, pilot):
        await open_cache(app, pilot)
        for keys in ("a", ("D", "x", "enter"), "d"):
            await pilot.press(*keys)
            await eventually(lambda: app.screen.query(".-planned"), "the plan")
            await settled(pilot)
            assert_clean(app)
            await pilot.press("escape")
        client.fails = InvalidInput(text, hint=text)
        await pilot.press("D", "x", "enter")
        await settled(pilot)
        assert_clean(app)

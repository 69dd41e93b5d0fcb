"""How the Cache looks, at the smallest supported size and at a usual one."""

import pytest
from meshtui.screens.cache.details import EntryDetails
from meshtui.screens.cache.plan import PlanDialog

from meshtui.domain.controller import TransferChanged
from meshtui.domain.errors import ErrorInfo
from meshtui.domain.model_cache import TransferKind, TransferState
from tests.support.waiting import eventually
from tests.tui.conftest import opened, settled, shown
from tests.tui.scripted import NOW
from tests.tui.scripted_cache import LLAMA, MINILM, OLD, QWEN, CacheClient, transfer
from tests.tui.snapshots import assert_looks
from tests.tui.test_cache import open_cache
from tests.tui.test_snapshots import SIZES, Size

pytestmark = pytest.mark.usefixtures("standing_clock")


@SIZES
async def test_list(size: Size) -> None:
    async with opened(CacheClient(), size=size) as (app, pilot):
        table = await open_cache(app, pilot)
        table.go_to(LLAMA)
        await settled(pilot)
        assert_looks(app, "cache-list")


@SIZES
async def test_filtered_and_marked(size: Size) -> None:
    async with opened(CacheClient(), size=size) as (app, pilot):
        await open_cache(app, pilot)
        await pilot.press("slash", *"chat", "enter", "space", "space")
        await settled(pilot)
        assert_looks(app, "cache-filtered")


@SIZES
async def test_with_transfers(size: Size) -> None:
    client = CacheClient()
    why = ErrorInfo(code="unavailable", message="The Hub does not answer.", hint="Try later.")
    async with opened(client, size=size) as (app, pilot):
        table = await open_cache(app, pilot)
        client.tell(
            TransferChanged(transfer()),
            TransferChanged(transfer("a/waits", TransferState.QUEUED, id="t2", total_bytes=None)),
            TransferChanged(transfer("b/failed", TransferState.FAILED, id="t3", error=why)),
            TransferChanged(transfer(MINILM, id="t4", kind=TransferKind.VERIFY)),
        )
        await eventually(lambda: len(table.rows) == 8, "all of them")
        app.clear_notifications()
        await pilot.press("end")
        await settled(pilot)
        assert_looks(app, "cache-transfers")


@SIZES
async def test_transfers_page(size: Size) -> None:
    client = CacheClient()
    why = ErrorInfo(code="no-room", message="The disk is full.", hint="P makes room.")
    async with opened(client, size=size) as (app, pilot):
        await open_cache(app, pilot)
        failed = transfer(OLD, TransferState.FAILED, id="t3", error=why, ended_at=NOW - 90)
        client.tell(TransferChanged(transfer()), TransferChanged(failed))
        await eventually(lambda: len(app.state.transfers) == 2, "both")
        app.clear_notifications()
        await pilot.press("t", "end")
        await settled(pilot)
        assert_looks(app, "cache-transfers-page")


@SIZES
async def test_details(size: Size) -> None:
    async with opened(CacheClient(), size=size) as (app, pilot):
        table = await open_cache(app, pilot)
        table.go_to(LLAMA)
        await pilot.press("enter")
        await eventually(lambda: isinstance(app.screen, EntryDetails), "the page")
        await eventually(lambda: "runs it here" in shown(app), "what is known")
        await settled(pilot)
        assert_looks(app, "cache-details")


@SIZES
@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (("D", *QWEN, "enter"), "cache-download"),
        (("d",), "cache-delete"),
        (("e", "enter"), "cache-export"),
    ],
)
async def test_plans(size: Size, keys: tuple[str, ...], name: str) -> None:
    async with opened(CacheClient(), size=size) as (app, pilot):
        table = await open_cache(app, pilot)
        table.go_to(OLD)
        await pilot.press(*keys[:1])
        await eventually(lambda: isinstance(app.screen, PlanDialog), "the dialog")
        if name == "cache-export":
            app.screen.query_one("#folder").value = "/mnt/usb"  # type: ignore[attr-defined]
        await pilot.press(*keys[1:])
        await eventually(lambda: app.screen.query(".-planned"), "the plan")
        await settled(pilot)
        assert_looks(app, name)


@SIZES
async def test_empty(size: Size) -> None:
    client = CacheClient()
    client.entries = {}
    async with opened(client, size=size) as (app, pilot):
        await open_cache(app, pilot)
        assert_looks(app, "cache-empty")


async def test_in_the_terminals_own_colours() -> None:
    async with opened(CacheClient(), size=(100, 24)) as (app, pilot):
        app.theme = "meshtui-ansi"
        await open_cache(app, pilot)
        await settled(pilot)
        assert_looks(app, "cache-list-ansi")

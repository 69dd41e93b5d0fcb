"""The Cache screen: its list, its keys, what goes on in it."""

import msgspec
from meshtui.screens.cache.details import EntryDetails
from meshtui.screens.cache.transfers import TransfersScreen
from meshtui.screens.widgets.marking import MarkTable

from meshtui.domain.controller import (
    CacheEntryChanged,
    CacheEntryRemoved,
    TransferChanged,
    TransferRemoved,
)
from meshtui.domain.errors import ErrorInfo, Unavailable
from meshtui.domain.model_cache import TransferKind, TransferState
from tests.support.waiting import eventually
from tests.tui.conftest import AppPilot, MeshtuiApp, opened, said, settled, shown
from tests.tui.scripted import GONE
from tests.tui.scripted_cache import LLAMA, MINILM, OLD, QWEN, SHELF, CacheClient, entry, transfer


async def open_cache(app: MeshtuiApp, pilot: AppPilot) -> MarkTable:
    await pilot.press("f4")
    await eventually(lambda: app.state.entries is not None, "the entries")
    await settled(pilot)
    return app.screen.query_one("#entries", MarkTable)


def keys(table: MarkTable) -> list[str]:
    return [row.key for row in table.rows]


async def test_the_list_says_what_each_model_is_and_how_full_the_disk_is() -> None:
    async with opened(CacheClient(), size=(160, 45)) as (app, pilot):
        await open_cache(app, pilot)
        text = shown(app)
        for part in (
            *("5 models", "568 GB of 980 GB free", LLAMA, "served", "bf16 ×4", "gpu-cluster"),
            *("unsafe: pickled weights", "damaged: model-00001", "awq ×2", "v0.1@77777777"),
            *("broken: model_metadata.json", "embedding", "never"),
        ):
            assert part in text, part


async def test_the_filter_narrows_as_one_types_and_esc_takes_it_away() -> None:
    async with opened(CacheClient()) as (app, pilot):
        table = await open_cache(app, pilot)
        await pilot.press("slash", *"chat !awq")
        await settled(pilot)
        assert keys(table) == [one.model for one in (SHELF[4], SHELF[0])]
        assert "2 of 5 models" in shown(app)
        await pilot.press("enter")
        assert app.focused is table
        await pilot.press("escape")
        await settled(pilot)
        assert len(table.rows) == 5
        assert app.current_mode == "cache"


async def test_the_order_goes_from_column_to_column_and_back() -> None:
    async with opened(CacheClient(), size=(160, 45)) as (app, pilot):
        table = await open_cache(app, pilot)
        by_name = keys(table)
        assert "MODEL▾" in shown(app)
        await pilot.press("O")
        assert keys(table) == by_name[::-1]
        await pilot.press("o", "o")
        assert "SIZE▾" in shown(app)
        sizes = [app.state.entries[key].size_bytes for key in keys(table)]  # type: ignore[index]
        assert sizes == sorted(sizes, reverse=True)
        await pilot.press("o", "o")
        await settled(pilot)
        assert "LAST USED▾" in shown(app)
        assert keys(table)[:3] == [LLAMA, MINILM, OLD]


async def test_progress_stands_in_the_row_and_moves_no_row() -> None:
    client = CacheClient()
    async with opened(client, size=(120, 32)) as (app, pilot):
        table = await open_cache(app, pilot)
        await pilot.press("end")
        current = table.current
        client.tell(TransferChanged(transfer()))
        await eventually(lambda: "43%  212 MB/s  0:40 left" in shown(app), "progress")
        assert "⇣ 43% 212 MB/s" in shown(app).split("\n")[0]
        assert table.current == current
        before = keys(table)
        client.tell(TransferChanged(transfer(done_bytes=9_000_000_000)))
        await eventually(lambda: "59%" in shown(app), "more of it")
        assert keys(table) == before
        client.tell(CacheEntryChanged(entry(QWEN)), TransferRemoved("t1"))
        await eventually(lambda: app.state.transfers == {}, "the end")
        await eventually(lambda: "59%" not in shown(app), "the row as an entry")
        assert keys(table) == before
        client.tell(CacheEntryRemoved(QWEN))
        await eventually(lambda: len(table.rows) == 5, "without it")
        assert table.current == current


async def test_a_running_transfer_is_cancelled_and_a_failed_one_retried_or_forgotten() -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        table = await open_cache(app, pilot)
        client.tell(TransferChanged(transfer()))
        await eventually(lambda: QWEN in keys(table), "its row")
        table.go_to(QWEN)
        await pilot.press("x")
        await eventually(lambda: client.commands == [("cancel", "t1")], "the cancelling")
        why = ErrorInfo(code="unavailable", message="The Hub does not answer.", hint="Later.")
        client.tell(TransferChanged(transfer(state=TransferState.FAILED, error=why)))
        await eventually(lambda: "failed: The Hub" in shown(app), "why")
        await pilot.press("r")
        await eventually(lambda: client.commands[1:] == [("retry", "t1")], "the next try")
        await pilot.press("d")
        await eventually(lambda: client.commands[2:] == [("forget", "t1")], "it being forgotten")


async def test_marks_choose_several_and_stay_while_filtered_away() -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        table = await open_cache(app, pilot)
        table.go_to(MINILM)
        await pilot.press("space")
        await pilot.press("slash", *"old", "enter", "ctrl+a", "escape")
        await settled(pilot)
        assert table.marks == {MINILM, OLD}
        assert "✓ 2 marked, 1.4 GB" in shown(app)
        await pilot.press("v")
        wanted = [("verify", OLD, "False"), ("verify", MINILM, "False")]
        await eventually(lambda: sorted(client.commands) == sorted(wanted), "both")
        await pilot.press("escape")
        assert table.marks == frozenset()


async def test_verifying_against_the_hub_and_refusals_are_said() -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        table = await open_cache(app, pilot)
        table.go_to(MINILM)
        await pilot.press("V")
        await eventually(lambda: client.commands == [("verify", MINILM, "True")], "it")
        assert "against the Hub" in said(app)


async def test_details_show_files_findings_and_the_card() -> None:
    client = CacheClient()
    async with opened(client, size=(120, 45)) as (app, pilot):
        table = await open_cache(app, pilot)
        table.go_to(LLAMA)
        await pilot.press("enter")
        await eventually(lambda: isinstance(app.screen, EntryDetails), "the page")
        await eventually(lambda: "vLLM 0.32 runs it here." in shown(app), "what is known")
        text = shown(app)
        for part in (
            *("vLLM 0.32 runs it here.", "131,072 tokens", "frees 16.1 GB", "llama3.1"),
            *("The licence has conditions.", "model-00001-of-00004", "1f1f1f1f"),
        ):
            assert part in text, part
        await pilot.press("end")
        await settled(pilot)
        assert "It answers questions." in shown(app)
        client.tell(CacheEntryRemoved(LLAMA))
        await eventually(lambda: "It was deleted" in shown(app), "that it is gone")
        await pilot.press("escape")
        assert app.current_mode == "cache"


async def test_the_transfers_page_lists_explains_and_acts() -> None:
    client = CacheClient()
    async with opened(client, size=(100, 30)) as (app, pilot):
        await open_cache(app, pilot)
        why = ErrorInfo(code="no-room", message="The disk is full.", hint="Prune.")
        client.tell(
            TransferChanged(
                transfer(
                    LLAMA,
                    TransferState.FAILED,
                    id="t0",
                    kind=TransferKind.EXPORT,
                    error=why,
                    ended_at=1.0,
                )
            ),
            TransferChanged(transfer()),
        )
        await eventually(lambda: len(app.state.transfers) == 2, "both")
        await pilot.press("t")
        await eventually(lambda: isinstance(app.screen, TransfersScreen), "the page")
        await settled(pilot)
        await pilot.press("home", "x", "end")
        await settled(pilot)
        assert "The disk is full." in shown(app)
        await pilot.press("r", "f", "F")
        wanted = [("cancel", "t1"), ("retry", "t0"), ("forget", "t0"), ("forget", "t0")]
        await eventually(lambda: client.commands == wanted, "all of it")


async def test_c_checks_the_model_and_outcomes_are_said_on_every_screen() -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        table = await open_cache(app, pilot)
        table.go_to(MINILM)
        await pilot.press("c")
        await settled(pilot)
        assert app.current_mode == "check"
        assert MINILM in str(client.checks[0])
        wrong = SHELF[3].verification
        assert wrong is not None
        client.tell(
            TransferChanged(transfer(id="a", state=TransferState.DONE)),
            TransferChanged(
                transfer(
                    MINILM,
                    TransferState.DONE,
                    id="b",
                    kind=TransferKind.VERIFY,
                    findings=wrong.findings,
                )
            ),
        )
        await eventually(lambda: f"{QWEN} downloaded." in said(app), "the success")
        await eventually(lambda: "safetensors has changed" in said(app), "what was found")


async def test_an_empty_cache_says_which_keys_fill_it() -> None:
    client = CacheClient()
    client.entries = {}
    async with opened(client) as (app, pilot):
        await open_cache(app, pilot)
        assert "The cache is empty:  D downloads" in shown(app)


async def test_a_controller_that_goes_away_is_said_and_the_list_read_anew() -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        table = await open_cache(app, pilot)
        client.there.clear()
        client.tell(GONE)
        await eventually(lambda: "the controller is away" in shown(app), "that it is away")
        assert len(table.rows) == 5
        del client.entries[OLD]
        client.there.set()
        await eventually(lambda: len(table.rows) == 4, "the list as it is now")


async def test_a_cache_that_cannot_be_read_says_why() -> None:
    client = CacheClient()
    client.fails = Unavailable("The cache cannot be read.", hint="Mount the disk.")
    async with opened(client) as (app, pilot):
        await pilot.press("f4")
        await eventually(lambda: "Mount the disk." in shown(app), "why")


async def test_a_cache_that_cannot_be_written_is_a_problem() -> None:
    client = CacheClient()
    usage = msgspec.structs.replace(client.first.cache, problem="It belongs to bob.")
    client.first = msgspec.structs.replace(client.first, cache=usage)
    async with opened(client) as (app, pilot):
        await open_cache(app, pilot)
        assert "It belongs to bob." in shown(app)
        assert "1 problem" in shown(app)

"""The dialogs of the Cache screen: each shows a plan, and starts what it shows."""

from pathlib import Path

import msgspec
import pytest
from meshtui.screens.cache.plan import PlanDialog
from textual.widgets import Input

from meshtui.domain.errors import Conflict, Unavailable
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import HubCacheRepo, ImportPlan
from tests.support.waiting import eventually
from tests.tui.conftest import AppPilot, MeshtuiApp, opened, said, settled, shown
from tests.tui.scripted_cache import LLAMA, MINILM, OLD, QWEN, CacheClient
from tests.tui.test_cache import open_cache


async def open_dialog(app: MeshtuiApp, pilot: AppPilot, key: str, *, at: str = "") -> PlanDialog:
    table = await open_cache(app, pilot)
    if at:
        table.go_to(at)
    await pilot.press(key)
    await eventually(lambda: isinstance(app.screen, PlanDialog), "the dialog")
    await settled(pilot)
    assert isinstance(app.screen, PlanDialog)
    return app.screen


async def planned(dialog: PlanDialog, pilot: AppPilot) -> None:
    await eventually(lambda: dialog.query(".-planned") and dialog.items.has_focus, "the plan")
    await settled(pilot)


def type_in(dialog: PlanDialog, name: str, text: str) -> None:
    dialog.query_one(f"#{name}", Input).value = text


async def test_a_download_shows_its_files_and_starts_with_the_usual_ones() -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        dialog = await open_dialog(app, pilot, "D")
        await pilot.press(*QWEN, "enter")
        await planned(dialog, pilot)
        text = shown(app)
        for part in ("15.2 GB in 2 of 3 files, 2.1 GB of it there", "apache-2.0", "is gated"):
            assert part in text, part
        await pilot.press("enter")
        await eventually(lambda: client.commands == [("download", QWEN, "", "None")], "the start")
        await eventually(lambda: "its row shows how far" in said(app), "where it is seen")


async def test_files_of_a_download_are_taken_out_and_the_sum_follows() -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        dialog = await open_dialog(app, pilot, "D")
        await pilot.press(*QWEN, "enter")
        await planned(dialog, pilot)
        await pilot.press("down", "space")
        await settled(pilot)
        assert "663 B in 1 of 3 files" in shown(app)
        await pilot.press("enter")
        wanted = [("download", QWEN, "", "['config.json']")]
        await eventually(lambda: client.commands == wanted, "only that file")


async def test_what_cannot_be_downloaded_says_why_in_the_dialog() -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        await open_dialog(app, pilot, "D")
        client.fails = Unavailable("The Hub does not answer.", hint="You seem to be offline.")
        await pilot.press(*QWEN, "enter")
        await eventually(lambda: "You seem to be offline." in shown(app), "why")
        client.fails = None
        client.download_plan = msgspec.structs.replace(client.download_plan, free_bytes=10**9)
        await pilot.press("enter")
        await eventually(lambda: "12.1 GB are missing on the disk" in shown(app), "the disk")
        client.download_plan = msgspec.structs.replace(client.download_plan, cached=True)
        await pilot.press("shift+tab", "shift+tab", "enter")
        await eventually(lambda: "in the cache already" in shown(app), "that it is there")
        await pilot.press("enter")
        assert client.commands == []


async def test_deleting_names_what_is_freed_and_asks_once() -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        dialog = await open_dialog(app, pilot, "d", at=OLD)
        await planned(dialog, pilot)
        assert f"Delete {OLD}?" in shown(app)
        assert "It frees 1.3 GB" in shown(app)
        await pilot.press("escape")
        assert client.commands == []
        await pilot.press("d")
        await eventually(lambda: app.screen.query(".-planned"), "the plan")
        await pilot.press("y")
        await eventually(lambda: client.commands == [("delete", OLD)], "the deletion")
        await eventually(lambda: "1.3 GB freed" in said(app), "what it freed")


async def test_a_served_model_is_not_deleted_and_others_beside_it_are() -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        dialog = await open_dialog(app, pilot, "d", at=LLAMA)
        await planned(dialog, pilot)
        assert "stop it first" in shown(app)
        await pilot.press("y")
        assert isinstance(app.screen, PlanDialog)
        await pilot.press("escape", "ctrl+a", "d")
        await eventually(lambda: app.screen.query(".-planned"), "the plan")
        await settled(pilot)
        assert "Delete 5 models?" in shown(app)
        await pilot.press("y")
        await eventually(lambda: client.commands, "the deletion")
        assert LLAMA not in client.commands[0]
        assert len(client.commands[0]) == 5


def importable(source: str, **changes: object) -> ImportPlan:
    known: dict[str, object] = {
        **{"source": source, "container": "zip", "model": "acme/new", "files": 9},
        **{"size_bytes": 5_000_000_000, "free_bytes": 10**12},
    }
    return ImportPlan(**{**known, **changes})  # type: ignore[arg-type]


async def test_importing_marks_what_is_new_and_asks_before_replacing(tmp_path: Path) -> None:
    client = CacheClient()
    broken = Finding(rule="metadata", level=Level.BLOCKER, message="There is no metadata.")
    client.import_plans = [
        importable("/x/new.zip"),
        importable("/x/llama.zip", model=LLAMA, replaces=True),
        importable("/x/bad.zip", model=None, findings=(broken,)),
    ]
    async with opened(client) as (app, pilot):
        dialog = await open_dialog(app, pilot, "i")
        type_in(dialog, "path", str(tmp_path))
        await pilot.press("enter")
        await planned(dialog, pilot)
        assert client.commands.pop(0) == ("plan import", str(tmp_path))
        assert dialog.items.marks == {"/x/new.zip"}
        await pilot.press("end")
        await settled(pilot)
        assert "There is no metadata." in shown(app)
        await pilot.press("home", "down", "space", "enter")
        await eventually(lambda: "Replace what is in the cache?" in shown(app), "the question")
        assert client.commands == []
        await pilot.press("y")
        wanted = [("import", "/x/new.zip", "False"), ("import", "/x/llama.zip", "True")]
        await eventually(lambda: client.commands == wanted, "both")


async def test_adopting_marks_what_costs_nothing() -> None:
    client = CacheClient()
    client.repos = [
        HubCacheRepo(model="a/linked", commit="1", folder="/h/1", files=3, size_bytes=10**9),
        HubCacheRepo(
            model="b/copied", commit="2", folder="/h/2", files=3, size_bytes=10**9, how="copy"
        ),
        HubCacheRepo(
            model=MINILM, commit="3", folder="/h/3", files=3, size_bytes=10**9, cached=True
        ),
    ]
    async with opened(client) as (app, pilot):
        dialog = await open_dialog(app, pilot, "a")
        await planned(dialog, pilot)
        assert dialog.items.marks == {"/h/1"}
        assert "1 of 3 marked, 1.0 GB; no byte is copied" in shown(app)
        await pilot.press("down", "space")
        await settled(pilot)
        assert "1.0 GB are copied" in shown(app)
        await pilot.press("enter")
        wanted = [("adopt", "/h/1", "False", "False"), ("adopt", "/h/2", "False", "True")]
        await eventually(lambda: client.commands == wanted, "both")


async def test_exporting_shows_where_to_and_takes_the_wishes(tmp_path: Path) -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        dialog = await open_dialog(app, pilot, "e", at=MINILM)
        type_in(dialog, "folder", str(tmp_path))
        type_in(dialog, "volume", "4 lots")
        await pilot.press("tab", "right", "enter")
        await eventually(lambda: "is not a size" in shown(app), "what is wrong")
        type_in(dialog, "volume", "4GB")
        await pilot.press("enter")
        await planned(dialog, pilot)
        await pilot.press("enter")
        wanted = [("export", MINILM, str(tmp_path), "tar", "4000000000")]
        await eventually(lambda: client.commands == wanted, "the export")


async def test_a_path_is_completed_from_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "models-of-ana").mkdir()
    async with opened(CacheClient()) as (app, pilot):
        dialog = await open_dialog(app, pilot, "i")
        type_in(dialog, "path", f"{tmp_path}/mod")
        field = dialog.query_one("#path", Input)
        wanted = f"{tmp_path}/models-of-ana/"
        await eventually(lambda: field._suggestion == wanted, "the name")
        await pilot.press("end", "right")
        assert field.value == wanted


async def test_building_asks_for_what_the_files_do_not_tell(tmp_path: Path) -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        dialog = await open_dialog(app, pilot, "b")
        type_in(dialog, "path", str(tmp_path))
        await pilot.press("enter")
        await eventually(lambda: dialog.focused and dialog.focused.id == "model", "the question")
        await settled(pilot)
        assert dialog.query_one("#task", Input).value == "text-generation"
        await pilot.press("enter")
        await eventually(lambda: "Say it above" in shown(app), "what is missing")
        await pilot.press(*"acme/own")
        type_in(dialog, "library", "transformers")
        await pilot.press("enter")
        wanted = [("build", str(tmp_path), "acme/own", "transformers", "False")]
        await eventually(lambda: client.commands == wanted, "the build")


async def test_pruning_shows_what_would_go_and_what_stays() -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        dialog = await open_dialog(app, pilot, "P")
        await pilot.press("enter")
        await eventually(lambda: "Say above what may." in shown(app), "what is missing")
        await pilot.press(*"30d", "enter")
        await planned(dialog, pilot)
        text = shown(app)
        assert "not used for 200 days" in text
        assert "kept: a server uses it" in text
        await pilot.press("enter")
        assert client.commands == []
        await pilot.press("y")
        wanted = [("prune", "2592000.0", "False")]
        await eventually(lambda: client.commands == wanted, "the pruning")


@pytest.mark.parametrize("key", ["D", "i", "a", "b", "e", "P", "d"])
async def test_every_dialog_is_left_with_esc_and_starts_nothing(key: str) -> None:
    client = CacheClient()
    async with opened(client) as (app, pilot):
        await open_dialog(app, pilot, key, at=MINILM)
        await pilot.press("escape")
        await settled(pilot)
        assert app.screen.query("#entries")
        assert client.commands == []


async def test_a_refused_start_is_said() -> None:
    class Refusing(CacheClient):
        def _started(self, *command: str) -> object:  # type: ignore[override]
            raise Conflict("It is in the cache.", hint="Delete it first.")

    async with opened(Refusing()) as (app, pilot):
        table = await open_cache(app, pilot)
        table.go_to(MINILM)
        await pilot.press("v")
        await eventually(lambda: "Delete it first." in said(app), "why")

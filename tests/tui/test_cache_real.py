"""The Cache screen under a real controller, with real entries on disk."""

import zipfile
from pathlib import Path

from meshtui.screens.app import MeshtuiApp
from meshtui.screens.cache.plan import PlanDialog
from textual.widgets import Input

from meshtui.client import ControllerClient
from tests.controller_support import running_controller
from tests.support.shelf import put_entry
from tests.support.waiting import eventually
from tests.tui.conftest import said, settled, shown
from tests.tui.test_cache import open_cache
from tests.tui.test_real_controller import connected


async def test_an_entry_is_verified_exported_deleted_and_imported_again(tmp_path: Path) -> None:
    put_entry("acme/first")
    put_entry("acme/second")
    async with running_controller({}):
        app = MeshtuiApp(ControllerClient())
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await connected(app, pilot)
            table = await open_cache(app, pilot)
            await eventually(lambda: len(table.rows) == 2, "both")
            await eventually(lambda: "bf16" in shown(app), "what their weights are")
            table.go_to("acme/first")
            await pilot.press("v")
            await eventually(lambda: "acme/first verified." in said(app), "the outcome")
            await eventually(lambda: "ok  verified" in shown(app), "it in the row")

            await pilot.press("enter")
            await eventually(lambda: "LlamaForCausalLM" in shown(app), "the details")
            await eventually(lambda: "model.safetensors" in shown(app), "the files")
            await pilot.press("escape", "e")
            await eventually(lambda: isinstance(app.screen, PlanDialog), "the dialog")
            app.screen.query_one("#folder", Input).value = str(tmp_path)
            await pilot.press("enter")
            await eventually(lambda: app.screen.query(".-planned"), "the plan")
            await settled(pilot)
            await pilot.press("enter")
            await eventually(lambda: "acme/first exported" in said(app), "the archive")
            [archive] = tmp_path.glob("*.zip")
            assert any(name.endswith("config.json") for name in zipfile.ZipFile(archive).namelist())

            await pilot.press("d")
            await eventually(lambda: app.screen.query(".-planned"), "the question")
            await settled(pilot)
            await pilot.press("y")
            await eventually(lambda: len(table.rows) == 1, "one less")

            await pilot.press("i")
            await eventually(lambda: isinstance(app.screen, PlanDialog), "the dialog")
            app.screen.query_one("#path", Input).value = str(archive)
            await pilot.press("enter")
            await eventually(lambda: app.screen.query(".-planned"), "the plan")
            await settled(pilot)
            await pilot.press("enter")
            await eventually(lambda: "acme/first imported" in said(app), "it back again")
            await eventually(lambda: len(table.rows) == 2, "both again")
            assert table.current == "acme/first"

"""The checker's screen under a real controller: with folders that hold only a configuration, and
with a Hub from the first letter of a name to the server that runs it."""

from pathlib import Path

import pytest
from meshtui.screens.app import MeshtuiApp
from meshtui.screens.check.deploy import Deploying
from meshtui.screens.check.page import Page
from meshtui.screens.check.picture import Picture

from meshtui.client import ControllerClient
from meshtui.domain.server import Phase
from tests.controller_support import running_controller
from tests.hub_server import HubServer
from tests.support.memory_data import configuration_files
from tests.support.models import safetensors
from tests.support.waiting import eventually
from tests.tui.conftest import settled, shown
from tests.tui.scenes import checked, open_check
from tests.tui.test_hostile import assert_clean
from tests.tui.test_real_controller import connected

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def folder(root: Path) -> str:
    """A model of which only the configuration is there."""
    files = configuration_files(LLAMA)
    assert files is not None
    for name, content in files.items():
        (root / name).write_bytes(content)
    return str(root)


async def test_keys_change_the_picture_of_a_folders_model(tmp_path: Path) -> None:
    async with running_controller():
        app = MeshtuiApp(ControllerClient())
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await connected(app, pilot)
            await checked(app, pilot, folder(tmp_path))
            assert "runs on vLLM" in shown(app)
            assert_clean(app)
            await pilot.press("g")
            await eventually(lambda: "22.06 GiB ▏" in shown(app), "the GPU's bar")
            await settled(pilot)
            assert "Does not fit" in shown(app), "128 Ki tokens on an A10"
            assert " SIM" in shown(app)
            await pilot.press("a")
            await eventually(lambda: "Longest context that fits" in shown(app), "the proposal")
            await settled(pilot)
            for key in ("v", "n", "q", "q", "t", "T", "G"):
                before = app.screen.query_one(Picture).render()
                await pilot.press(key)
                await eventually(
                    lambda before=before: (
                        not app.screen.query_one(Picture)  # type: ignore[misc]
                        .render()
                        .is_same(before)
                    ),
                    f"another picture after {key}",
                )
                await settled(pilot)
                assert_clean(app)


async def test_a_model_is_found_on_the_hub_checked_and_deployed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = configuration_files(LLAMA)
    assert files is not None
    async with HubServer() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("acme/llama-mini", {**files, "model.safetensors": safetensors()})
        async with running_controller({"fake/hello": ()}) as running:
            app = MeshtuiApp(ControllerClient())
            async with app.run_test(size=(120, 40), notifications=True) as pilot:
                await connected(app, pilot)
                await open_check(app, pilot)
                await pilot.press(*"acme")
                await eventually(lambda: "acme/llama-mini" in shown(app), "what the Hub found")
                await pilot.press("down", "enter")
                await eventually(
                    lambda: app.screen.query_one(Page).answered == "acme/llama-mini", "the verdict"
                )
                await settled(pilot)
                await pilot.press("T", "d")
                await eventually(lambda: isinstance(app.screen, Deploying), "the question")
                await settled(pilot)
                assert "It is enabled with these settings in" in shown(app)
                await pilot.press("y")
                await eventually(
                    lambda: any(
                        server.model == "acme/llama-mini" and server.phase is Phase.READY
                        for server in app.state.servers.values()
                    ),
                    "its server",
                )
            [connection] = await running.client.connections()
            enabled = connection.enabled_models[-1]
            assert (enabled.model, enabled.max_tokens) == ("acme/llama-mini", 65536)


async def test_what_the_controller_cannot_make_sense_of_is_said(tmp_path: Path) -> None:
    async with running_controller():
        app = MeshtuiApp(ControllerClient())
        async with app.run_test(size=(100, 30), notifications=True) as pilot:
            await connected(app, pilot)
            await checked(app, pilot, folder(tmp_path))
            await checked(app, pilot, str(tmp_path / "nothing"))
            await settled(pilot)
            assert "runs on" not in shown(app)
            assert_clean(app)

"""What the app loads and does before it has painted anything."""

import subprocess
import sys
from pathlib import Path

from meshtui.screens.state import Link

from meshtui.domain.controller import ControllerInfo
from meshtui.domain.errors import Unavailable
from tests.support.waiting import eventually
from tests.tui.conftest import opened, said, settled, shown
from tests.tui.scripted import INFO, ScriptedClient

_SCRIPT = Path(__file__).with_name("first_frame.py")

# Each is large, or belongs to something that a painted screen does not need.
TOO_EARLY = {
    "aiohttp",
    "httpx",
    "huggingface_hub",
    "kubernetes",
    "pydantic",
    "requests",
    "markdown_it",
    "rich.markdown",
    "rich.syntax",
    "pygments",
    "sqlite3",
    "ssl",
    "tomli_w",
    "tree_sitter",
    "torch",
    "transformers",
    "vllm",
    "meshtui.controller.core",
    "meshtui.controller.daemon",
    "meshtui.deploy",
    "meshtui.engines",
    "meshtui.hub",
    "meshtui.cache",
    "meshtui.inference",
    "meshtui.studio",
    "meshtui.cli.prompt",
    "meshtui.screens.cache",
    "meshtui.screens.help",
    "meshtui.screens.commands",
    "meshtui.screens.servers",
    "meshtui.screens.check",
    "meshtui.screens.studio.finders",
    "textual.widgets._data_table",
    "textual.widgets._markdown",
}


def test_nothing_heavy_is_imported_before_the_first_frame() -> None:
    found = subprocess.run(
        [sys.executable, str(_SCRIPT)], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    assert "meshtui.screens.studio.screen" in found, "the studio was painted"
    early = {name for name in found if name in TOO_EARLY}
    assert not early


async def test_the_first_frame_does_not_wait_for_the_controller() -> None:
    class Slow(ScriptedClient):
        async def connect(self, *, spawn: bool = True, timeout_s: float = 20.0) -> ControllerInfo:
            await self.may_connect.wait()
            return INFO

        def __init__(self) -> None:
            import asyncio

            super().__init__()
            self.may_connect = asyncio.Event()

    client = Slow()
    async with opened(client, connected=False) as (app, pilot):
        await settled(pilot)
        assert "starting controller…" in shown(app)
        assert "What is the capital of France?" in shown(app)
        await pilot.press("a")
        client.may_connect.set()
        await eventually(lambda: app.state.link is Link.CONNECTED, "connected")
        await settled(pilot)
        assert "starting controller" not in shown(app)


async def test_a_controller_that_does_not_start_is_said_and_tried_again() -> None:
    client = ScriptedClient()
    client.refuse = Unavailable("The controller did not start within 20 s.", hint="See its log.")
    async with opened(client, connected=False) as (app, pilot):
        await eventually(lambda: "did not start" in said(app), "the reason")
        assert app.state.link is Link.LOST
        client.refuse = None
        await eventually(lambda: app.state.link is Link.CONNECTED, "the next try")
        await settled(pilot)

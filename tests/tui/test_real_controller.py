"""The app under a real controller: real processes, sockets and events, engines that are fast."""

import os
import signal

from meshtui.screens.app import MeshtuiApp
from meshtui.screens.state import Link
from meshtui.screens.studio.answer import Standing
from meshtui.screens.studio.block import Block
from meshtui.screens.studio.editor import PromptSide
from meshtui.screens.studio.finders import History
from meshtui.screens.widgets.log_view import LogView

from meshtui.client import ControllerClient
from meshtui.domain.server import Phase
from tests.controller_support import controller_process, running_controller
from tests.support.waiting import eventually
from tests.tui import scenes
from tests.tui.conftest import AppPilot, settled, shown
from tests.tui.test_hostile import assert_clean


async def connected(app: MeshtuiApp, pilot: AppPilot) -> None:
    await eventually(lambda: app.state.link is Link.CONNECTED, "connected")
    await settled(pilot)


async def choose(app: MeshtuiApp, pilot: AppPilot, model: str) -> None:
    app.memory.model, app.memory.connection = model, "local"
    app.screen._model_chosen(f"local\n{model}")  # type: ignore[attr-defined]
    await settled(pilot)


async def over(block: Block, standing: Standing) -> None:
    await eventually(lambda: block.answer.standing is standing, f"{standing}", timeout_s=60)


async def test_one_key_press_deploys_and_answers() -> None:
    async with running_controller({"fake/hello": ()}):
        app = MeshtuiApp(ControllerClient())
        async with app.run_test(size=(100, 30), notifications=True) as pilot:
            await connected(app, pilot)
            block = await scenes.press_run(app, pilot)
            await over(block, Standing.DONE)
            await settled(pilot)
            assert "Paris" in block.answer.text
            text = shown(app)
            assert "The capital of France is Paris." in text
            assert "TTFT" in text
            assert "1 ready" in text
            await pilot.press("ctrl+o")
            await eventually(lambda: isinstance(app.screen, History), "the history")
            options = app.screen.query_one("OptionList")
            await eventually(lambda: options.option_count == 1, "the run in it")  # type: ignore[attr-defined]
            await pilot.press("enter")
            await eventually(lambda: len(scenes.blocks(app)) == 2, "the run, restored")
            assert scenes.blocks(app)[1].answer.text == block.answer.text


async def test_esc_stops_the_engine_and_chat_goes_on_from_there() -> None:
    async with running_controller({"fake/slow": _slow()}) as controller:
        app = MeshtuiApp(ControllerClient())
        async with app.run_test(size=(100, 30), notifications=True) as pilot:
            await connected(app, pilot)
            await pilot.press("ctrl+g")
            block = await scenes.press_run(app, pilot)
            await eventually(lambda: len(block.answer.text) > 20, "some text", timeout_s=60)
            await pilot.press("escape")
            await over(block, Standing.CANCELLED)

            def requests() -> int:
                [server] = controller.core.servers.list()
                return server.active_requests

            await eventually(lambda: requests() == 0, "the engine to be free")
            kept = block.answer.text
            app.screen.query_one(PromptSide).user.load("and then?")
            second = await scenes.press_run(app, pilot)
            said = [message.content for message in second.answer.request.messages]
            assert said == [scenes.PROMPT, kept, "and then?"]
            await pilot.press("escape")
            await over(second, Standing.CANCELLED)


async def test_a_failed_start_ends_with_cause_log_and_retry() -> None:
    async with running_controller({"fake/broken": ("--crash-at", "weights")}):
        app = MeshtuiApp(ControllerClient())
        async with app.run_test(size=(100, 30), notifications=True) as pilot:
            await connected(app, pilot)
            block = await scenes.press_run(app, pilot)
            await over(block, Standing.FAILED)
            await settled(pilot)
            assert "Failed" in shown(app)
            assert block.answer.explanation is not None
            assert block.answer.explanation.cause
            await pilot.press("l")
            await eventually(lambda: app.screen.query(LogView), "the log")
            await eventually(lambda: len(app.screen.query_one(LogView).lines) > 3, "its lines")
            await settled(pilot)
            assert_clean(app)


async def test_hostile_output_of_an_engine_reaches_no_terminal() -> None:
    async with running_controller({"fake/hostile": ("--text", "hostile", "--tokens", "40")}):
        app = MeshtuiApp(ControllerClient())
        async with app.run_test(size=(100, 30), notifications=True) as pilot:
            await connected(app, pilot)
            block = await scenes.press_run(app, pilot)
            await eventually(lambda: block.answer.standing.is_over, "the end", timeout_s=60)
            await settled(pilot)
            assert "markup" in block.answer.text
            assert_clean(app)


async def test_the_controller_is_killed_while_text_streams() -> None:
    """What had arrived is kept, a new controller takes the server over, and the app goes on."""
    with controller_process({"fake/slow": _slow()}) as process:
        app = MeshtuiApp(ControllerClient(process.socket))
        async with app.run_test(size=(100, 30), notifications=True) as pilot:
            await connected(app, pilot)
            block = await scenes.press_run(app, pilot)
            await eventually(lambda: len(block.answer.text) > 20, "some text", timeout_s=60)
            os.kill(process.pid, signal.SIGKILL)
            await over(block, Standing.INTERRUPTED)
            kept = block.answer.text
            assert len(kept) > 20
            await eventually(lambda: app.state.link is Link.CONNECTED, "a new one", timeout_s=60)
            await eventually(lambda: app.state.count(Phase.READY) == 1, "its server, adopted")
            await settled(pilot)
            assert block.answer.text == kept
            assert "what had arrived is kept" in " ".join(shown(app).split())


def _slow() -> tuple[str, ...]:
    return ("--tokens", "2000", "--rate", "50", "--text", "words")

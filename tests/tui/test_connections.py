"""The Connections screen: its list, its forms, and what it asks before something is lost."""

import msgspec
from meshtui.screens.connections.connection_form import ConnectionForm
from meshtui.screens.connections.finder import ModelFinder
from meshtui.screens.connections.model_form import ModelForm
from meshtui.screens.connections.screen import ConnectionsScreen
from meshtui.screens.connections.tested import ProbeResult
from meshtui.screens.widgets.dialogs import Confirm
from textual.screen import Screen
from textual.widgets import Input, Static

from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import Conflict
from meshtui.domain.task import EngineChoice
from meshtui.settings import paths, toml_file
from tests.controller_support import running_controller
from tests.support.waiting import eventually
from tests.tui.conftest import AppPilot, MeshtuiApp, opened, quick_keys, said, settled, shown
from tests.tui.scripted_connections import BASE, CLUSTER, FOUND, LLAMA, PRESET, ConnectionsClient


async def open_connections(app: MeshtuiApp, pilot: AppPilot) -> ConnectionsScreen:
    await pilot.press("f7")
    await eventually(lambda: isinstance(app.screen, ConnectionsScreen), "the screen")
    await eventually(lambda: "◐" not in shown(app), "the verdicts")
    await settled(pilot)
    assert isinstance(app.screen, ConnectionsScreen)
    return app.screen


async def press(app: MeshtuiApp, pilot: AppPilot, kind: type[Screen[object]], *keys: str) -> None:
    """Presses keys that open a dialog of that kind."""
    await pilot.press(*keys)
    await eventually(lambda: isinstance(app.screen, kind), kind.__name__)
    await settled(pilot)


def fill(app: MeshtuiApp, key: str, text: str) -> None:
    field = app.screen.query_one(f"#f-{key}", Input)
    field.value = text
    field.focus()


def help_text(app: MeshtuiApp) -> str:
    return str(app.screen.query_one("#said", Static).content)


async def closed(app: MeshtuiApp) -> None:
    await eventually(lambda: isinstance(app.screen, ConnectionsScreen), "the form is closed")


async def test_the_list_shows_state_models_servers_and_broken_files() -> None:
    async with opened(ConnectionsClient(), size=(160, 45)) as (app, pilot):
        await open_connections(app, pilot)
        text = shown(app)
        for part in ("gpu-cluster", "a10", "not tested", "file is broken, line 7: Invalid value",
                     "env:HF_TOKEN", "for the seminar"):  # fmt: skip
            assert part in text, part
        assert "runs on vLLM" in text and "does not run: instruct" in text
        assert "The Hub knows no model sentence-transformers" in text
        await pilot.press("down")
        await settled(pilot)
        assert "SmolLM2-135M-Instruct" in shown(app)


async def test_a_new_connection_is_checked_while_it_is_typed() -> None:
    client = ConnectionsClient()
    async with opened(client) as (app, pilot):
        await open_connections(app, pilot)
        await press(app, pilot, ConnectionForm, "n")
        assert "its file's name" in help_text(app)
        await pilot.press(*"local")
        await eventually(lambda: "of this name" in help_text(app), "the fault")
        await pilot.press("enter")
        assert isinstance(app.screen, ConnectionForm) and not client.commands
        await pilot.press(*"2", "down", "right", "down", "down")
        fill(app, "access_token", "hf_pasted")
        await eventually(lambda: "not a reference" in help_text(app), "the other fault")
        fill(app, "access_token", "env:LAB")
        await eventually(lambda: "✗" not in shown(app), "it is well")
        await pilot.press("enter")
        await closed(app)
        made = client.own["local2"]
        assert (made.execution, made.access_token, made.properties) == ("a10", "env:LAB", {})


async def test_what_is_not_touched_stays_as_it_is_in_the_file() -> None:
    odd = Connection(
        name="odd",
        runtime="gone",
        properties={"a b": "x\x1b[31m  y", "engine.completion": "vllm", "q": "it's"},
        enabled_models=(EnabledModel(model="a/b", display_name="x\x07y [red]", max_tokens=5),),
    )
    client = ConnectionsClient(odd)
    async with opened(client) as (app, pilot):
        await open_connections(app, pilot)
        await pilot.press("end", "up")
        await press(app, pilot, ConnectionForm, "e")
        assert "gone (not there)" in shown(app)
        fill(app, "hub", "https://mirror.lab")
        await pilot.press("enter")
        await closed(app)
        properties = {
            **odd.properties,
            "engine.completion": "VLLM",
            "hub.endpoint": "https://mirror.lab",
        }
        assert client.own["odd"] == msgspec.structs.replace(odd, properties=properties)
        await pilot.press("tab")
        await press(app, pilot, ModelForm, "e")
        fill(app, "max_tokens", "4,096")
        await pilot.press("enter")
        await closed(app)
        [model] = client.own["odd"].enabled_models
        assert model == msgspec.structs.replace(odd.enabled_models[0], max_tokens=4096)


async def test_whose_the_token_is_is_told_and_never_the_token() -> None:
    async with opened(ConnectionsClient()) as (app, pilot):
        await open_connections(app, pilot)
        await press(app, pilot, ConnectionForm, "e", "ctrl+t")
        await eventually(lambda: "account ana, with the role read" in said(app), "the account")
        fill(app, "access_token", "env:OTHER")
        await pilot.press("ctrl+t")
        await eventually(lambda: "does not accept" in said(app), "the refusal")


async def test_the_second_of_two_editors_is_told_and_keeps_what_was_typed() -> None:
    client = ConnectionsClient()
    async with opened(client) as (app, pilot):
        await open_connections(app, pilot)
        await press(app, pilot, ConnectionForm, "e")
        client.change_elsewhere("gpu-cluster")
        fill(app, "proxy", "http://proxy:3128")
        await pilot.press("enter")
        await eventually(lambda: "changed by somebody else" in help_text(app), "the refusal")
        assert "http://proxy:3128" in shown(app)
        await press(app, pilot, Confirm, "escape")
        assert "What you changed here is lost" in shown(app)
        await pilot.press("y")
        await closed(app)
        assert client.own["gpu-cluster"] == CLUSTER


async def test_a_model_of_the_hub_is_enabled_with_its_verdict_beside() -> None:
    client = ConnectionsClient()
    async with opened(client) as (app, pilot):
        await open_connections(app, pilot)
        await press(app, pilot, ModelFinder, "a")
        assert PRESET.model in shown(app)
        await pilot.press(*"summar")
        await eventually(lambda: FOUND.model in shown(app), "what the Hub found")
        assert "gated" in shown(app)
        await press(app, pilot, ModelForm, "enter")
        await eventually(lambda: "knows no model acme/summariser-7b" in shown(app), "the verdict")
        fill(app, "max_tokens", "0")
        await eventually(lambda: "at least 1" in help_text(app), "the fault")
        fill(app, "max_tokens", "many")
        await eventually(lambda: "whole number" in help_text(app), "the other fault")
        fill(app, "max_tokens", "8192")
        fill(app, "extra_engine_args", "--enforce-eager --seed '3 4'")
        await pilot.press("enter")
        await closed(app)
        enabled = client.own["gpu-cluster"].enabled_models[-1]
        assert (enabled.model, enabled.max_tokens) == (FOUND.model, 8192)
        assert enabled.extra_engine_args == ("--enforce-eager", "--seed", "3 4")


async def test_what_is_known_here_does_not_wait_for_the_hub() -> None:
    client = ConnectionsClient()
    client.hub_answers.clear()
    async with opened(client) as (app, pilot):
        await open_connections(app, pilot)
        await press(app, pilot, ModelFinder, "a")
        await pilot.press(*"qwen")
        await eventually(lambda: PRESET.model in shown(app), "what is known here")
        await pilot.press(*"xyz")
        await eventually(lambda: "searching the Hub" in shown(app), "what is waited for")
        client.hub_answers.set()
        await eventually(lambda: "enter takes it" in shown(app), "nothing is found")


async def test_presets_and_any_name_can_be_enabled_too() -> None:
    client = ConnectionsClient()
    async with opened(client) as (app, pilot):
        await open_connections(app, pilot)
        await press(app, pilot, ModelFinder, "a")
        await press(app, pilot, ModelForm, "enter")
        assert "Qwen3 4B" in shown(app)
        await pilot.press("enter")
        await closed(app)
        await press(app, pilot, ModelFinder, "a")
        await pilot.press(*"acme/own@v2")
        await eventually(lambda: "enter takes it" in shown(app), "nothing is known")
        await press(app, pilot, ModelForm, "enter")
        await pilot.press("enter")
        await closed(app)
        models = [one.model for one in client.own["gpu-cluster"].enabled_models]
        assert models[-2:] == [PRESET.model, "acme/own@v2"]


async def test_the_verdict_follows_the_settings() -> None:
    client = ConnectionsClient()
    async with opened(client) as (app, pilot):
        await open_connections(app, pilot)
        await pilot.press("tab")
        await press(app, pilot, ModelForm, "e")
        await eventually(lambda: "runs on vLLM" in shown(app), "the verdict")
        asked = len(client.checks)
        app.screen.query_one("#f-engine").focus()
        await pilot.press("right", "right")
        await eventually(lambda: len(client.checks) > asked, "it is asked anew")
        await eventually(lambda: client.checks[-1][1].engine is EngineChoice.VLLM, "the newest")
        assert client.checks[-1][0] == LLAMA


async def test_arrows_go_from_field_to_field_and_the_form_follows() -> None:
    async with opened(ConnectionsClient()) as (app, pilot):
        await open_connections(app, pilot)
        await pilot.press("tab")
        await press(app, pilot, ModelForm, "e")
        await pilot.press(*["down"] * 11)
        await settled(pilot)
        assert app.focused and app.focused.id == "f-trust_remote_code"
        assert "only for authors you trust" in help_text(app) and "remote code" in shown(app)
        await pilot.press("up")
        assert app.focused.id == "f-extra_engine_args"
        assert "enter Save" in shown(app)


async def test_who_may_not_change_it_is_told_before_anything_is_typed() -> None:
    client = ConnectionsClient()
    client.locked = "ben is no administrator of meshtui here."
    async with opened(client) as (app, pilot):
        await open_connections(app, pilot)
        await press(app, pilot, ConnectionForm, "e")
        assert "ben is no administrator" in help_text(app)


async def test_deleting_and_disabling_ask_first() -> None:
    client = ConnectionsClient()
    async with opened(client) as (app, pilot):
        screen = await open_connections(app, pilot)
        await pilot.press("tab", "down")
        await press(app, pilot, Confirm, "x")
        assert f"Disable {BASE}?" in shown(app)
        await pilot.press("y")
        await eventually(lambda: BASE not in shown(app), "it is gone")
        await pilot.press("escape")
        assert screen.focused and screen.focused.id == "connections"
        await press(app, pilot, Confirm, "x")
        text = shown(app)
        assert "Delete the connection gpu-cluster?" in text and "2 models enabled" in text
        client.error = Conflict("It has servers that run: a/b.", hint="Stop them first.")
        await pilot.press("y")
        await eventually(lambda: "Stop them first" in said(app), "the refusal")
        await press(app, pilot, Confirm, "x")
        await pilot.press("y")
        await eventually(lambda: "gpu-cluster" not in client.own, "it is deleted")
        assert client.commands[-1] == ("delete", "gpu-cluster", "2")


async def test_a_copy_gets_another_name() -> None:
    client = ConnectionsClient()
    async with opened(client) as (app, pilot):
        screen = await open_connections(app, pilot)
        await pilot.press("d")
        await eventually(lambda: "gpu-cluster-2" in shown(app), "the question")
        await pilot.press("enter")
        await eventually(lambda: "gpu-cluster-2" in client.own, "the copy")
        await eventually(lambda: screen._connections.current == "gpu-cluster-2", "the cursor")


async def test_a_test_is_shown_and_remembered() -> None:
    async with opened(ConnectionsClient()) as (app, pilot):
        await open_connections(app, pilot)
        await press(app, pilot, ProbeResult, "t")
        assert "Kubernetes v1.36.2 answers" in shown(app)
        assert "Servers wait until one is" in shown(app)
        await pilot.press("escape")
        await settled(pilot)
        assert "No GPU of a10" in shown(app)


async def test_keys_that_do_nothing_here_are_not_offered() -> None:
    async with opened(ConnectionsClient()) as (app, pilot):
        screen = await open_connections(app, pilot)
        assert not screen.check_action("prompt", ())
        await pilot.press("end")
        await settled(pilot)
        for action in ("edit", "delete", "test", "duplicate", "enable"):
            assert not screen.check_action(action, ()), action
        await pilot.press("e", "x", "t", "d", "a", "enter")
        await settled(pilot)
        assert app.screen is screen


async def test_a_model_is_prompted_and_checked_from_here() -> None:
    async with opened(ConnectionsClient()) as (app, pilot):
        await open_connections(app, pilot)
        await pilot.press("tab", "p")
        await eventually(lambda: app.current_mode == "studio", "the studio")
        assert (app.memory.connection, app.memory.model) == ("gpu-cluster", LLAMA)
        await pilot.press("f7")
        await eventually(lambda: app.current_mode == "connections", "back")
        await settled(pilot)
        await pilot.press("c")
        await eventually(lambda: app.current_mode == "check", "the checker")


async def test_with_a_real_controller_a_connection_is_made_and_a_model_enabled() -> None:
    async with running_controller({}) as running:
        app = MeshtuiApp(running.client, initial="connections")
        async with app.run_test(size=(120, 40)) as pilot, quick_keys(pilot):
            await eventually(lambda: len(app.state.connections) == 1, "connected")
            await press(app, pilot, ConnectionForm, "n")
            await pilot.press(*"lab")
            fill(app, "access_token", "env:LAB_TOKEN")
            await pilot.press("enter")
            await closed(app)
            await eventually(lambda: len(app.state.connections) == 2, "it is there")
            app.screen.query_one("#connections").focus()
            await eventually(lambda: "lab" in shown(app), "it is listed")
            await settled(pilot)
            await press(app, pilot, ModelFinder, "a")
            await eventually(lambda: "Qwen" in shown(app), "the presets")
            await press(app, pilot, ModelForm, "enter")
            await pilot.press("enter")
            await closed(app)
            path = paths.config_dir() / "connections" / "lab.toml"

            def models() -> list[str]:
                data = toml_file.read(path).data
                return [one["model"] for one in data.get("enabled_models", [])]

            await eventually(lambda: len(models()) == 1, "it is in the file")
            assert toml_file.read(path).data["access_token"] == "env:LAB_TOKEN"

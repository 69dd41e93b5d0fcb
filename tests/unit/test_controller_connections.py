"""Connections changed through the controller: what is refused, and who hears of it."""

import os
from pathlib import Path

import msgspec
import pytest

from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.controller import ConnectionsChanged, Overview
from meshtui.domain.editing import Fault
from meshtui.domain.errors import Conflict, FileChanged, InvalidInput, NotAllowed, NotFound
from meshtui.domain.finding import Finding, Level
from meshtui.settings import paths
from tests.controller_support import running_controller
from tests.hub_server import HubServer

LAB = Connection(name="lab", enabled_models=(EnabledModel(model="fake/hello"),))


def levels(findings: list[Finding]) -> dict[str, Level]:
    return {finding.rule: finding.level for finding in findings}


async def test_a_connection_is_made_changed_renamed_copied_and_deleted() -> None:
    async with running_controller() as running:
        client = running.client
        made = await client.create_connection(LAB)
        assert made.connection.enabled_models[0].model == "fake/hello"
        assert made.path == str(paths.config_dir() / "connections" / "lab.toml")
        wanted = msgspec.structs.replace(made.connection, runtime="cpu")
        saved = await client.save_connection("lab", wanted, made.revision)
        assert saved.connection.runtime == "cpu" and saved.revision != made.revision
        renamed = msgspec.structs.replace(wanted, name="seminar")
        await client.save_connection("lab", renamed, saved.revision)
        await client.duplicate_connection("seminar", "copy")
        names = {one.name for one in await client.connections()}
        assert names == {"local", "seminar", "copy"}
        await client.delete_connection("copy")
        with pytest.raises(NotFound):
            await client.editable_connection("copy")


async def test_whoever_listens_hears_of_a_change_at_once() -> None:
    async with running_controller() as running:
        events = running.client.events()
        assert isinstance(await anext(events), Overview)
        await running.client.create_connection(LAB)
        event = await anext(events)
        while not isinstance(event, ConnectionsChanged):
            event = await anext(events)
        assert "lab" in [one.name for one in event.connections]
        assert ("lab", "fake/hello") in [(m.connection, m.enabled.model) for m in event.models]
        await events.aclose()


async def test_the_second_of_two_editors_is_told() -> None:
    async with running_controller() as running:
        client = running.client
        seen = await client.create_connection(LAB)
        await client.save_connection("lab", LAB, seen.revision)
        gpu = msgspec.structs.replace(LAB, runtime="gpu")
        now = (await client.editable_connection("lab")).revision
        first = await client.save_connection("lab", gpu, now)
        with pytest.raises(FileChanged, match="changed by somebody else"):
            await client.save_connection("lab", LAB, seen.revision)
        assert seen.revision is not None and first.revision is not None
        with pytest.raises(FileChanged):
            await client.delete_connection("lab", seen.revision)
        path = Path(first.path)
        path.write_text(f"{path.read_text()}# by hand\n")
        with pytest.raises(FileChanged):
            await client.save_connection("lab", LAB, first.revision)
        with pytest.raises(Conflict, match="a connection of this name"):
            await client.create_connection(LAB)


async def test_what_a_running_server_needs_is_not_taken_away() -> None:
    async with running_controller() as running:
        client = running.client
        seen = await client.create_connection(LAB)
        server = await client.start_server("fake/hello", "lab")
        for refused in (
            client.delete_connection("lab"),
            client.save_connection("lab", Connection(name="lab"), seen.revision),
            client.save_connection(
                "lab", msgspec.structs.replace(LAB, name="other"), seen.revision
            ),
        ):
            with pytest.raises(Conflict, match="servers that run: fake/hello") as caught:
                await refused
            assert "server stop" in str(caught.value.hint)
        # Other settings of it may change: they count at its next start.
        wanted = msgspec.structs.replace(LAB, runtime="cpu")
        await client.save_connection("lab", wanted, seen.revision)
        await client.stop_server(server.id)
        await client.delete_connection("lab")


async def test_the_shipped_connection_can_be_changed_and_is_back_when_that_is_deleted() -> None:
    async with running_controller() as running:
        client = running.client
        (paths.config_dir() / "connections" / "local.toml").unlink()
        shipped = await client.editable_connection("local")
        assert shipped.shipped and shipped.revision is None
        with pytest.raises(Conflict, match="comes with meshtui"):
            await client.delete_connection("local")
        wanted = msgspec.structs.replace(shipped.connection, runtime="cpu")
        with pytest.raises(Conflict, match="keeps its name"):
            await client.save_connection(
                "local", msgspec.structs.replace(wanted, name="mine"), None
            )
        own = await client.save_connection("local", wanted, None)
        assert own.shipped and own.revision is not None
        await client.delete_connection("local", own.revision)
        assert (await client.editable_connection("local")).connection.runtime is None


async def test_all_that_is_wrong_is_told_with_its_place() -> None:
    async with running_controller() as running:
        wrong = Connection(
            name="a b",
            execution="moon",
            runtime="nothing",
            access_token="hf_secret",
            enabled_models=(EnabledModel(model="no name", max_tokens=0),),
        )
        found = await running.client.connection_faults(wrong)
        assert [fault.at for fault in found] == [
            ("name",),
            ("runtime",),
            ("execution",),
            ("access_token",),
            ("enabled_models", 0, "model"),
            ("enabled_models", 0, "max_tokens"),
        ]
        assert "hf_secret" not in str(found)
        taken = await running.client.connection_faults(Connection(name="local"))
        assert taken == [Fault(("name",), "there is a connection of this name")]
        assert await running.client.connection_faults(Connection(name="local"), "local") == []
        with pytest.raises(InvalidInput, match="no such runtime") as refused:
            await running.client.create_connection(wrong)
        assert "hf_secret" not in str(refused.value)


async def test_text_that_a_terminal_must_not_see_is_kept_in_the_file() -> None:
    async with running_controller() as running:
        odd = msgspec.structs.replace(LAB, properties={"x": "a\x1b[31mb\x07"})
        await running.client.create_connection(odd)
        seen = await running.client.editable_connection("lab")
        assert seen.connection.properties == odd.properties


async def test_a_test_looks_at_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TOKEN", "hf_alice")
    async with HubServer() as hub, running_controller() as running:
        lab = Connection(
            name="lab",
            runtime="cpu",
            access_token="env:LAB_TOKEN",
            properties={"hub.endpoint": hub.url},
        )
        found = await running.client.test_connection(lab)
        assert levels(found) == {
            "execution": Level.OK,
            "runtime": Level.OK,
            "hub": Level.OK,
            "token": Level.OK,
            "models": Level.WARNING,
        }
        said = " ".join(finding.message for finding in found)
        assert "alice" in said and "hf_alice" not in said and "vLLM 0.32.0" in said
        bad = msgspec.structs.replace(
            lab, access_token="env:NOT_SET", runtime="nothing", execution="moon"
        )
        found = await running.client.test_connection(bad)
        assert levels(found)["token"] is levels(found)["runtime"] is Level.BLOCKER
        assert levels(found)["execution"] is Level.BLOCKER
        unbuilt = await running.client.test_connection(
            msgspec.structs.replace(
                lab, runtime="gpu", properties={"hub.endpoint": "http://[::1]:1"}
            )
        )
        assert levels(unbuilt)["runtime"] is levels(unbuilt)["hub"] is Level.WARNING
        assert levels(unbuilt)["token"] is Level.WARNING


async def test_who_is_no_administrator_changes_no_connection() -> None:
    system = Path(os.environ["MESHTUI_SYSTEM_CONFIG"])
    async with running_controller() as running:
        client = running.client
        made = await client.create_connection(LAB)
        assert made.locked == ""
        system.write_text('[users]\nadmins = ["somebody-else"]\n')
        seen = await client.editable_connection("lab")
        assert "is no administrator" in seen.locked
        assert (await client.info()).locked == ("users.admins",)
        for refused in (
            client.create_connection(msgspec.structs.replace(LAB, name="other")),
            client.save_connection("lab", LAB, seen.revision),
            client.duplicate_connection("lab", "copy"),
            client.delete_connection("lab"),
        ):
            with pytest.raises(NotAllowed, match="may not change connections") as caught:
                await refused
            assert "somebody-else" in str(caught.value.hint)
        system.unlink()
        await client.delete_connection("lab")

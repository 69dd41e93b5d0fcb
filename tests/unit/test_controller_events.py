"""What changes is told to all who listen, and a slow one costs nobody anything."""

import asyncio
import json
from pathlib import Path

import pytest

from meshtui.client import ControllerClient
from meshtui.controller.events import MAX_UNTOLD, EventHub
from meshtui.domain.connection import BrokenObject
from meshtui.domain.controller import (
    ConnectionsChanged,
    ControllerEvent,
    ControllerInfo,
    Overview,
    RunRecorded,
    ServerChanged,
    ServerRemoved,
)
from meshtui.domain.errors import Unavailable
from meshtui.domain.generation import Run
from meshtui.domain.server import Phase, ServerStatus
from tests.controller_support import running_controller

INFO = ControllerInfo(version="1", pid=1, started_at=0.0, socket="s", log="l")


def server(name: str, phase: Phase = Phase.READY, **more: object) -> ServerStatus:
    return ServerStatus(id=name, model="a/b", connection="c", phase=phase, created_at=0.0, **more)  # type: ignore[arg-type]


@pytest.fixture
def hub() -> EventHub:
    return EventHub(lambda: Overview(controller=INFO))


async def test_newer_news_about_the_same_thing_replace_older_ones(hub: EventHub) -> None:
    batches = hub.subscribe(60)
    assert await anext(batches) == [Overview(controller=INFO)]
    for progress in range(10_000):
        hub.publish(ServerChanged(server("one", stops_at=float(progress))))
    hub.publish(ServerChanged(server("two")))
    hub.publish(ServerRemoved("two"))
    assert await anext(batches) == [
        ServerChanged(server("one", stops_at=9_999.0)),
        ServerRemoved("two"),
    ]
    await batches.aclose()


async def test_a_listener_that_does_not_read_gets_a_fresh_overview(hub: EventHub) -> None:
    batches = hub.subscribe(60)
    await anext(batches)
    for number in range(MAX_UNTOLD * 3):
        run = Run(id=str(number), created_at=0.0, model="a/b", connection="c", messages=())
        hub.publish(RunRecorded(run))
    (subscriber,) = hub._subscribers
    assert len(subscriber._untold) <= MAX_UNTOLD
    assert await anext(batches) == [Overview(controller=INFO)]
    await batches.aclose()
    assert hub._subscribers == set()


async def test_silence_is_told_from_the_end(hub: EventHub) -> None:
    batches = hub.subscribe(0.01)
    await anext(batches)
    assert await anext(batches) == []
    hub.close()
    with pytest.raises(StopAsyncIteration):
        await anext(batches)


async def next_of(events: object, kind: type[ControllerEvent]) -> ControllerEvent:
    async with asyncio.timeout(10):
        async for event in events:  # type: ignore[attr-defined]
            if isinstance(event, kind):
                return event  # type: ignore[no-any-return]
    raise AssertionError(f"no {kind}")


async def test_an_edited_file_is_told_and_a_broken_one_with_its_line(own_folders: Path) -> None:
    async with running_controller({"fake/hello": ()}) as controller:
        events = controller.client.events()
        overview = await next_of(events, Overview)
        assert isinstance(overview, Overview)
        assert [model.enabled.model for model in overview.models] == ["fake/hello"]
        path = own_folders / "config" / "meshtui" / "connections" / "lab.toml"
        path.write_text('[[enabled_models]]\nmodel = "a/b"\n')
        changed = await next_of(events, ConnectionsChanged)
        assert isinstance(changed, ConnectionsChanged)
        assert [connection.name for connection in changed.connections] == ["lab", "local"]
        path.write_text(
            '[[enabled_models]]\nmodel = "a/b"\nmax_tokens = "\x1b"\n'.replace("\x1b", "many")
        )
        changed = await next_of(events, ConnectionsChanged)
        assert isinstance(changed, ConnectionsChanged)
        (broken,) = changed.broken
        assert broken == BrokenObject(
            path=str(path),
            line=3,
            reason="enabled_models[1].max_tokens: Expected int | null, got str",
        )
        assert [connection.name for connection in changed.connections] == ["lab", "local"]
        await events.aclose()


async def test_a_reader_that_stops_reading_does_not_hold_up_the_others() -> None:
    async with running_controller({"fake/hello": ()}) as controller:
        reader, writer = await asyncio.open_unix_connection(str(controller.socket))
        writer.write(b"GET /events HTTP/1.1\r\nHost: meshtui\r\n\r\n")
        await reader.readuntil(b'"overview"')
        # It reads nothing from here on, while far more is told than any buffer holds.
        listener = controller.client.events()
        await anext(listener)
        for number in range(300):
            notice = f"{number} " + "x" * 20_000
            controller.core.server_changed(server("one", notices=(notice,)))
            await asyncio.sleep(0)
        seen = await next_of(listener, ServerChanged)
        assert isinstance(seen, ServerChanged)
        assert (await controller.client.info()).memory_bytes
        await listener.aclose()
        # What it reads at last is whole lines of news, the last of them the newest.
        limit = asyncio.timeout(10)
        async with limit:
            buffered = b""
            while b'["299 ' not in buffered:
                buffered += await reader.read(65_536)
        writer.close()
        await writer.wait_closed()


async def test_the_end_of_the_controller_ends_the_stream_with_a_word() -> None:
    async with running_controller({"fake/hello": ()}) as controller:
        client = ControllerClient()
        events = client.events()
        await anext(events)
        controller.core.hub.close()
        with pytest.raises(Unavailable, match="was stopped"):
            await anext(events)
        await client.close()


async def test_what_is_told_is_safe_to_show() -> None:
    async with running_controller({"fake/hello": ()}) as controller:
        events = controller.client.events()
        await anext(events)
        evil = "\x1b]0;owned\x07\u202etxt\x9b2J"
        controller.core.server_changed(server("one", engine_reason=evil, notices=(evil,)))
        event = await anext(events)
        assert isinstance(event, ServerChanged)
        text = json.dumps(event.server.notices) + event.server.engine_reason
        assert not any(bad in text for bad in ("\x1b", "\u202e", "\x9b", "\x07"))
        await events.aclose()

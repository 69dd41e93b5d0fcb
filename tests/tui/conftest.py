"""Fixtures of the screens' tests: apps under a scripted controller, and a clock that stands."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest
from meshtui.screens.app import MeshtuiApp
from meshtui.screens.state import Link
from meshtui.screens.studio import answer, block
from textual.pilot import Pilot

from tests.support.waiting import eventually
from tests.tui.scripted import NOW, ScriptedClient

AppPilot = Pilot[None]
Opened = tuple[MeshtuiApp, AppPilot]
# From the app to the focused widget and up again to the screen; each is a queue of its own.
_HOPS = 4

Opener = Callable[..., AbstractAsyncContextManager[Opened]]


@asynccontextmanager
async def opened(
    client: ScriptedClient, *, size: tuple[int, int] = (80, 24), connected: bool = True
) -> AsyncGenerator[Opened, None]:
    """The app on a terminal of that size, connected to the script."""
    app = MeshtuiApp(client)
    async with app.run_test(size=size, notifications=True) as pilot, quick_keys(pilot):
        if connected:
            await eventually(lambda: app.state.link is Link.CONNECTED, "connected")
            await settled(pilot)
        yield app, pilot


@asynccontextmanager
async def quick_keys(pilot: AppPilot) -> AsyncGenerator[None, None]:
    """After each key the toolkit waits until the processor is quiet: 40 ms here, and up to a
    second where the machine is busy. The widgets' queues tell more, and sooner."""

    async def drained(_least_s: float = 0) -> None:
        for _turn in range(_HOPS):
            # A key reaches the app's queue from the driver's, which needs a turn of the loop.
            await asyncio.sleep(0)
            await pilot._wait_for_screen()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textual.app.wait_for_idle", drained)
        yield


async def settled(pilot: AppPilot) -> None:
    """Everything that was set going has been painted: the screen stays as it is."""
    before, now = "", "?"
    while before != now:
        for _turn in range(_HOPS):
            await pilot._wait_for_screen()
        pilot.app.screen._on_timer_update()
        before, now = now, shown(cast("MeshtuiApp", pilot.app))


def shown(app: MeshtuiApp) -> str:
    """The text on the screen."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


def said(app: MeshtuiApp) -> str:
    """The toasts that are up, in one line."""
    return " ".join(notification.message for notification in app._notifications)


@pytest.fixture
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands at `NOW`, in UTC, so that pictures are the same every day."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    fixed = cast("object", SimpleNamespace(time=lambda: NOW, monotonic=lambda: 1000.0))
    local = time.localtime(NOW)
    monkeypatch.setattr(answer, "time", fixed)
    monkeypatch.setattr(block, "time", fixed)
    monkeypatch.setattr("meshtui.screens.servers.rows.time", fixed)
    monkeypatch.setattr("meshtui.screens.servers.details.time", fixed)
    monkeypatch.setattr("meshtui.screens.servers.screen.time", fixed)
    monkeypatch.setattr("meshtui.screens.cache.rows.time", fixed)
    monkeypatch.setattr("meshtui.screens.cache.transfers.time", fixed)
    monkeypatch.setattr(
        "meshtui.screens.words.time",
        SimpleNamespace(
            localtime=lambda epoch=None: local if epoch is None else time.localtime(epoch),
            strftime=time.strftime,
        ),
    )

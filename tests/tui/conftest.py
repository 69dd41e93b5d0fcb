"""Fixtures of the screens' tests: apps under a scripted controller, and a clock that stands."""

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
Opener = Callable[..., AbstractAsyncContextManager[Opened]]


@asynccontextmanager
async def opened(
    client: ScriptedClient, *, size: tuple[int, int] = (80, 24), connected: bool = True
) -> AsyncGenerator[Opened, None]:
    """The app on a terminal of that size, connected to the script."""
    app = MeshtuiApp(client)
    async with app.run_test(size=size, notifications=True) as pilot:
        if connected:
            await eventually(lambda: app.state.link is Link.CONNECTED, "connected")
            await settled(pilot)
        yield app, pilot


async def settled(pilot: AppPilot) -> None:
    """Everything that was set going has been painted."""
    for _turn in range(3):
        await pilot.pause()


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
    monkeypatch.setattr(
        "meshtui.screens.words.time",
        SimpleNamespace(
            localtime=lambda epoch=None: local if epoch is None else time.localtime(epoch),
            strftime=time.strftime,
        ),
    )

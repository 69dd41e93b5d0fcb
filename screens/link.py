"""Keeps the app connected: starts the controller, follows its events, comes back when it dies."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from meshtui.domain.controller import ControllerEvent
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.text import one_line

from .state import Link, State

if TYPE_CHECKING:
    from meshtui.client import ControllerClient

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0


async def follow(
    client: "ControllerClient",
    state: State,
    publish: Callable[[ControllerEvent | None], None],
) -> None:
    """Runs for the life of the app. `publish` is called after every change of `state`, with the
    event that made it, or None where the link itself changed."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            await client.connect()
            async with aclosing(client.events()) as events:
                async for event in events:
                    state.apply(event)
                    if state.link is not Link.CONNECTED:
                        state.link, state.link_problem = Link.CONNECTED, ""
                        state.failed_tries = 0
                        pause_s = _FIRST_PAUSE_S
                        publish(None)
                    publish(event)
            problem = "The controller has gone away."
        except (MeshtuiError, OSError, TimeoutError) as error:
            problem = one_line(str(error) or type(error).__name__)
        state.link, state.link_problem = Link.LOST, problem
        state.failed_tries += 1
        publish(None)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

"""Waiting for conditions, with a deadline, instead of sleeping and hoping."""

import asyncio
import time
from collections.abc import Callable

INTERVAL_S = 0.02


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Blocks until the condition holds; fails with `what` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}"
        time.sleep(INTERVAL_S)


async def eventually(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """As `wait_until`, while the event loop runs."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}"
        await asyncio.sleep(INTERVAL_S)

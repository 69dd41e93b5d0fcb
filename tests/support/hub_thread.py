"""The local Hub in a thread of its own, for tests that block or start processes that ask it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.hub_server import HubServer


@contextmanager
def hub_in_thread() -> Iterator[HubServer]:
    """It answers while the caller's thread does something else. Repositories and faults may be
    added from any thread."""
    hub = HubServer()
    begun, ending = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with hub:
            begun.set()
            await ending.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="hub")
    thread.start()
    assert begun.wait(10)
    try:
        yield hub
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
        loop.close()

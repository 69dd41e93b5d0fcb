"""Tells everybody who listens what has changed, without ever waiting for a slow listener."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from meshtui.domain.controller import (
    CacheEntryChanged,
    CacheEntryRemoved,
    ControllerEvent,
    Overview,
    RunRecorded,
    RuntimeChanged,
    ServerChanged,
    ServerRemoved,
    TransferChanged,
    TransferRemoved,
)

# Beyond this many different things untold, one fresh overview is the shorter tale.
MAX_UNTOLD = 256

_Key = tuple[str, str]


class Subscriber:
    """What one listener has not been told yet. A newer event about the same thing replaces the
    older one, so a listener that does not read costs memory for things, not for changes."""

    def __init__(self) -> None:
        self._untold: dict[_Key, ControllerEvent] = {}
        self._overflowed = True  # the first event is an overview
        self._news = asyncio.Event()
        self._news.set()

    def offer(self, event: ControllerEvent) -> None:
        if self._overflowed:
            return
        key = _key(event)
        # Taken out first, so that it stands in the order of its newest change.
        self._untold.pop(key, None)
        self._untold[key] = event
        if len(self._untold) > MAX_UNTOLD:
            self._untold.clear()
            self._overflowed = True
        self._news.set()

    def wake(self) -> None:
        self._news.set()

    async def wait(self, timeout_s: float) -> bool:
        """Whether there is news, within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._news.wait()
        except TimeoutError:
            return False

    def take(self, overview: Callable[[], Overview]) -> list[ControllerEvent]:
        """Everything untold, oldest first."""
        self._news.clear()
        if self._overflowed:
            self._overflowed = False
            return [overview()]
        events, self._untold = list(self._untold.values()), {}
        return events


class EventHub:
    """All listeners."""

    def __init__(self, overview: Callable[[], Overview]) -> None:
        self._overview = overview
        self._subscribers: set[Subscriber] = set()
        self._closed = False

    def close(self) -> None:
        """Ends every subscription."""
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.wake()

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._subscribers)

    def publish(self, event: ControllerEvent) -> None:
        for subscriber in self._subscribers:
            subscriber.offer(event)

    async def subscribe(self, keep_alive_s: float) -> AsyncGenerator[list[ControllerEvent], None]:
        """Batches of events, the first of them an `Overview`; an empty batch every
        `keep_alive_s` in which nothing happened."""
        subscriber = Subscriber()
        self._subscribers.add(subscriber)
        try:
            while True:
                news = await subscriber.wait(keep_alive_s)
                if self._closed:
                    return
                yield subscriber.take(self._overview) if news else []
        finally:
            self._subscribers.discard(subscriber)


def _key(event: ControllerEvent) -> _Key:
    match event:
        case ServerChanged(server):
            return "server", server.id
        case ServerRemoved(server_id):
            return "server", server_id
        case RuntimeChanged(runtime):
            return "runtime", runtime.name
        case RunRecorded(run):
            return "run", run.id
        case CacheEntryChanged(entry):
            return "cache-entry", entry.model
        case CacheEntryRemoved(model):
            return "cache-entry", model
        case TransferChanged(transfer):
            return "transfer", transfer.id
        case TransferRemoved(transfer_id):
            return "transfer", transfer_id
        case _:
            return type(event).__name__, ""

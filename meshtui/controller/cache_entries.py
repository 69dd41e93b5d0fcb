"""The entries of the model cache as everybody who listens knows them."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

import msgspec

from meshtui.cache.index import CacheIndex
from meshtui.cache.store import ModelStore
from meshtui.cache.usage import usage
from meshtui.domain.connection import Connection
from meshtui.domain.controller import (
    CacheEntryChanged,
    CacheEntryRemoved,
    CacheUsageChanged,
    ControllerEvent,
)
from meshtui.domain.model_cache import CacheEntry, CacheUsage
from meshtui.domain.server import ServerStatus

_LOGGER = logging.getLogger(__name__)
LOOK_EVERY_S = 2.0
# Looking takes at most this part of the time, however many entries there are.
_SHARE = 0.02
# As much of it where it was asked to.
_SHARE_ASKED = 0.25
_LOOK_INTO_S = 0.1
# Other programs write to the disk all the time: a thousandth of it is no news.
_FREE_NEWS = 0.001

Names = Mapping[str, tuple[str, ...]]


class Entries:
    """Lists the cache, and tells what has changed since the last look.

    It looks when it is asked, when we changed something (`look_soon`), and every two seconds
    while somebody listens: the folder may be changed by other programs, people and machines.
    """

    def __init__(
        self,
        store: ModelStore,
        index: CacheIndex,
        *,
        connections: Callable[[], Mapping[str, Connection]],
        servers: Callable[[], list[ServerStatus]],
        publish: Callable[[ControllerEvent], None],
        is_heard: Callable[[], bool],
    ) -> None:
        self._store = store
        self._index = index
        self._connections = connections
        self._servers = servers
        self._publish = publish
        self._is_heard = is_heard
        self._found: list[CacheEntry] = []
        self._told: dict[str, CacheEntry] | None = None
        self._users: tuple[Names, Names] = ({}, {})
        self._looking = asyncio.Lock()
        self._soon = asyncio.Event()
        self._unread = False
        self._watch: asyncio.Task[None] | None = None
        self.usage: CacheUsage | None = None

    def open(self) -> None:
        self.look_soon()
        self._watch = asyncio.create_task(self._look_again(), name="cache")

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await asyncio.to_thread(self._index.save)

    def look_soon(self) -> None:
        """Something was changed."""
        self._soon.set()

    def users_changed(self) -> None:
        """Connections or servers did. Cheap where nothing follows from it."""
        if self._told is not None and self._users != self._users_now():
            self._tell(self._with_users(self._found))

    async def look(self) -> list[CacheEntry]:
        """All entries as they are on disk now."""
        async with self._looking:
            found, space = await asyncio.to_thread(self._look)
            self._found = found
            entries = self._with_users(found)
            if self._tell(entries):
                await asyncio.to_thread(self._index.save)
            self._tell_usage(
                msgspec.structs.replace(
                    space, entries=len(found), used_bytes=sum(entry.size_bytes for entry in found)
                )
            )
            return entries

    def with_users(self, entry: CacheEntry) -> CacheEntry:
        """The entry with who enables and serves it now."""
        return _with_users(entry, *self._users_now())

    def served_by(self, model: str) -> tuple[ServerStatus, ...]:
        """The servers that use a model: any that is not over."""
        return tuple(
            server
            for server in self._servers()
            if server.model == model and not server.phase.is_over
        )

    def enabled_on(self, model: str) -> tuple[str, ...]:
        return self._users_now()[0].get(model, ())

    def _look(self) -> tuple[list[CacheEntry], CacheUsage]:
        """Blocks. New entries are looked into for a moment; the rest of many has its turn at the
        next look."""
        self._index.list()
        self._unread = self._index.refine(_LOOK_INTO_S)
        return self._index.list(), usage(self._store)

    def _users_now(self) -> tuple[Names, Names]:
        enabled: dict[str, tuple[str, ...]] = {}
        for connection in self._connections().values():
            for one in connection.enabled_models:
                enabled[one.model] = (*enabled.get(one.model, ()), connection.name)
        served: dict[str, tuple[str, ...]] = {}
        for server in self._servers():
            if not server.phase.is_over:
                served[server.model] = (*served.get(server.model, ()), server.id)
        return enabled, served

    def _with_users(self, found: list[CacheEntry]) -> list[CacheEntry]:
        self._users = self._users_now()
        return [_with_users(entry, *self._users) for entry in found]

    def _tell(self, entries: list[CacheEntry]) -> bool:
        """Publishes what differs from what was told; whether anything did."""
        before, self._told = self._told, {entry.model: entry for entry in entries}
        if before is None:
            # Nobody was told of any entry yet: whoever wants them asks.
            return True
        news: list[ControllerEvent] = [
            CacheEntryChanged(entry) for entry in entries if before.get(entry.model) != entry
        ]
        news += [CacheEntryRemoved(model) for model in before if model not in self._told]
        for event in news:
            self._publish(event)
        return bool(news)

    def _tell_usage(self, now: CacheUsage) -> None:
        before, self.usage = self.usage, now
        if before is not None:
            moved = abs(now.disk_free_bytes - before.disk_free_bytes)
            if moved < _FREE_NEWS * now.disk_total_bytes:
                now = msgspec.structs.replace(now, disk_free_bytes=before.disk_free_bytes)
                self.usage = now
        if now != before:
            self._publish(CacheUsageChanged(now))

    async def _look_again(self) -> None:
        pause_s = LOOK_EVERY_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._soon.wait()
            if not self._soon.is_set() and not self._is_heard():
                continue
            self._soon.clear()
            began = time.monotonic()
            try:
                await self.look()
            except Exception:
                _LOGGER.exception("the model cache could not be read")
            took_s = time.monotonic() - began
            pause_s = took_s if self._unread else max(LOOK_EVERY_S, took_s / _SHARE)
            if not self._unread:
                # Of thousands of transfers that end, each has changed something.
                await asyncio.sleep(took_s / _SHARE_ASKED)


def _with_users(entry: CacheEntry, enabled: Names, served: Names) -> CacheEntry:
    enabled_on, served_by = enabled.get(entry.model, ()), served.get(entry.model, ())
    if entry.enabled_on == enabled_on and entry.served_by == served_by:
        return entry
    return msgspec.structs.replace(entry, enabled_on=enabled_on, served_by=served_by)

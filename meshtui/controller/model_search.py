"""Searches of the Hub, as somebody types: what was just asked is not asked again."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from meshtui.domain.connection import Connection
from meshtui.domain.hub_search import FoundModel
from meshtui.hub.reach import Reach, reach_of
from meshtui.hub.search import search
from meshtui.settings.downloads import connection_for

_FRESH_S = 60.0
_MOST_KEPT = 200
_Key = tuple[Reach, str, str | None, int]


class ModelSearch:
    """A minute's memory of searches."""

    def __init__(self, connections: Callable[[], Mapping[str, Connection]]) -> None:
        self._connections = connections
        self._found: OrderedDict[_Key, tuple[float, list[FoundModel]]] = OrderedDict()

    async def search(
        self, text: str, *, task: str | None = None, connection: str | None = None, limit: int = 20
    ) -> list[FoundModel]:
        """As `meshtui.hub.search.search`, at the Hub of `connection`. Raises `NotFound` where there
        is none of that name."""
        named = connection_for(self._connections(), "", connection)
        reach = await asyncio.to_thread(reach_of, named)
        key = (reach, " ".join(text.split()).lower(), task, limit)
        before = self._found.get(key)
        if before is not None and time.monotonic() - before[0] < _FRESH_S:
            return before[1]
        found = await search(text, reach, task=task, limit=limit)
        self._found[key] = (time.monotonic(), found)
        self._found.move_to_end(key)
        if len(self._found) > _MOST_KEPT:
            self._found.popitem(last=False)
        return found

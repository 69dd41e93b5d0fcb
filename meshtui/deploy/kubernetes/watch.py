"""One watch for all objects of a kind in a namespace, kept up for as long as somebody looks.

The list is read once; then the API server tells what changes. A connection that ends is taken up
where it was left; only where the server has forgotten that place (410) is the list read again.
So the number of requests depends neither on the number of servers nor on that of their changes.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping

import msgspec

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.errors import ClusterError

# The API server ends a watch after this long; a random share keeps many from ending together.
_WATCH_S = 300
_PAGE = 500
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0

_log = logging.getLogger(__name__)


class Gone(Exception):
    """The place in the history is forgotten: the list has to be read again."""


class WatchEvent(msgspec.Struct, frozen=True):
    """One line of a watch."""

    type: str
    object: Json


class Watch:
    """Mirrors objects by name. `changed` gets each object that is new, changed or gone (then with
    None), and `troubled` gets what keeps the mirror from being current, None when it is current
    again. `start` it, `close` it."""

    def __init__(
        self,
        cluster: Cluster,
        path: str,
        *,
        changed: Callable[[str, Json | None], None],
        troubled: Callable[[ClusterError | None], None] = lambda _: None,
        selector: str = "",
        field_selector: str = "",
    ) -> None:
        self._cluster = cluster
        self._path = path
        self._changed = changed
        self._troubled = troubled
        chosen = {"labelSelector": selector, "fieldSelector": field_selector}
        self._query = {name: value for name, value in chosen.items() if value}
        self._objects: dict[str, Json] = {}
        self._version = ""
        self._current = asyncio.Event()
        self._trouble: ClusterError | None = None
        self._task: asyncio.Task[None] | None = None
        self.lists = 0
        """How often the whole list was read."""

    @property
    def objects(self) -> Mapping[str, Json]:
        return self._objects

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"watch{self._path}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def current(self) -> None:
        """Returns when the list was read. Raises the `ClusterError` that prevents it, where
        trying again is of no use."""
        assert self._task is not None, "start() first"
        waiting = asyncio.ensure_future(self._current.wait())
        try:
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not self._current.is_set() and self._trouble is not None:
            raise self._trouble

    async def _run(self) -> None:
        delay_s = _FIRST_DELAY_S
        while True:
            version = self._version
            try:
                if not self._version:
                    await self._list()
                self._settle(None)
                await self._watch()
            except Gone:
                self._version = ""
                if not version:  # gone at once after a list: do not spin
                    await asyncio.sleep(delay_s)
                continue
            except ClusterError as error:
                self._settle(error)
                if error.is_lasting:
                    # A permission that was taken away may be given back; nobody is to be asked
                    # for it all the time.
                    if not self._current.is_set():
                        return
                    delay_s = _LONGEST_DELAY_S
                _log.info("the watch of %s broke off: %s", self._path, error.message)
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
                delay_s = min(delay_s * 2, _LONGEST_DELAY_S)
                continue
            delay_s = _FIRST_DELAY_S

    async def _list(self) -> None:
        found: dict[str, Json] = {}
        query = {**self._query, "limit": str(_PAGE)}
        while True:
            page = await self._cluster.get(self._path, **query)
            for one in page["items"]:
                found[one["metadata"]["name"]] = one
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                break
        self.lists += 1
        before, self._objects = self._objects, found
        self._version = page["metadata"]["resourceVersion"]
        for name in before.keys() - found.keys():
            self._tell(name, None)
        for name, one in found.items():
            if _version(before.get(name)) != _version(one):
                self._tell(name, one)

    async def _watch(self) -> None:
        """Until the server ends it; raises `Gone` and `ClusterError`."""
        query = {
            **self._query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(int(_WATCH_S * random.uniform(0.8, 1.2))),
        }
        try:
            async with contextlib.aclosing(self._cluster.lines(self._path, **query)) as lines:
                async for line in lines:
                    if line:
                        self._take(line)
        except ClusterError as error:
            if error.status == 410:
                raise Gone from error
            raise

    def _take(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line, type=WatchEvent)
        except msgspec.DecodeError:
            raise Gone from None  # cut off in the middle: what it said is not known
        if event.type == "ERROR":
            # An expired place has the code 410; whatever else it is, a new list settles it.
            raise Gone
        meta = event.object["metadata"]
        self._version = meta["resourceVersion"]
        if event.type == "BOOKMARK":
            return
        name = meta["name"]
        if event.type == "DELETED":
            self._objects.pop(name, None)
            self._tell(name, None)
        else:
            self._objects[name] = event.object
            self._tell(name, event.object)

    def _tell(self, name: str, one: Json | None) -> None:
        try:
            self._changed(name, one)
        except Exception:  # whoever listens must not end the watch for all others
            _log.exception("a listener of %s failed at %s", self._path, name)

    def _settle(self, trouble: ClusterError | None) -> None:
        if trouble is None:
            self._current.set()
        if trouble is not self._trouble:
            self._trouble = trouble
            self._troubled(trouble)


def _version(one: Json | None) -> str | None:
    return one["metadata"]["resourceVersion"] if one is not None else None

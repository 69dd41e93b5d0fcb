"""Brings the log of a pod's engine to a file, line by line as it grows, and says why it ended.

Each line comes with its time from the cluster, by which a connection that broke off is taken up
where it was left; the file has the lines without it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.objects import SERVER_CONTAINER
from meshtui.deploy.kubernetes.phases import Observation
from meshtui.deploy.local import DEFAULT_LOG_BYTES, LOG_NAME, OLDER_LOG_NAME
from meshtui.domain.server import Explanation
from meshtui.engines.failures import explain

_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 30.0
# A log that ends does so with its container; that it goes on all the same is an exception.
_ENDED_DELAY_S = 15.0
# RFC 3339 with all nine digits, as kubelets write it: `2026-11-25T14:00:00.123456789Z`.
_SECONDS_END, _FRACTION_END = 19, 29
# Of an ended engine's log: what explains the end stands in its last part.
_LAST_LINES = "4000"
_LAST_BYTES = str(512 * 1024)

_log = logging.getLogger(__name__)


class PodLog:
    """The log of one run of a container. `feed` gets its lines. `end` says that the run is over:
    the rest is read then (`previous`: another run of the container goes on already). `follow` may
    be cancelled and called again: it goes on. `catch_up` reads what there is and returns."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        pod: str,
        container: str,
        folder: Path,
        feed: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        self._container = container
        self._folder = folder
        self._feed = feed
        self._last = ""
        self._over = asyncio.Event()
        self._pending: list[bytes] = []
        self._is_read = False
        self._is_previous = False
        self._written = asyncio.Event()

    def end(self, *, previous: bool = False) -> None:
        self._is_previous = previous
        self._over.set()

    async def follow(self) -> None:
        """Returns when the run is over and all of it is in the file. Raises `ClusterError` where
        the log may not be read."""
        async with self._writing():
            await self._read_all()

    async def catch_up(self) -> None:
        """Raises `ClusterError`."""
        async with self._writing():
            await self._read(follow=False)

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        self._is_read = False
        writing = asyncio.create_task(self._write_all(), name="pod-log")
        try:
            yield
        finally:
            self._is_read = True
            self._written.set()
            await asyncio.shield(writing)

    async def _read_all(self) -> None:
        troubled_s = _FIRST_DELAY_S
        while True:
            was_over = self._over.is_set()
            delay_s = _ENDED_DELAY_S
            try:
                await self._read(follow=not was_over)
                troubled_s = _FIRST_DELAY_S
            except ClusterError as error:
                if error.status in (400, 404):
                    return  # the pod, or this run of it, is gone
                if error.is_lasting:
                    raise
                _log.info("%s broke off: %s", self._path, error.message)
                delay_s, troubled_s = troubled_s, min(troubled_s * 2, _LONGEST_DELAY_S)
            if was_over:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._over.wait()

    async def _read(self, *, follow: bool) -> None:
        query = {"container": self._container, "timestamps": "true"}
        if follow:
            query["follow"] = "true"
        elif self._is_previous:
            query["previous"] = "true"
        if self._last:
            query["sinceTime"] = self._last[:_SECONDS_END] + self._last[_FRACTION_END:]
        async with contextlib.aclosing(self._cluster.lines(self._path, **query)) as lines:
            async for line in lines:
                time, _, text = line.partition(b" ")
                stamp = time.decode("ascii", "replace")
                if stamp > self._last:  # those of the same second come again
                    self._last = stamp
                    self._take_in(text)

    def _take_in(self, text: bytes) -> None:
        self._pending.append(text + b"\n")
        self._written.set()
        # Progress bars rewrite their line with \r.
        for part in text.decode("utf-8", "replace").split("\r"):
            if part:
                self._feed(part)

    async def _write_all(self) -> None:
        """What comes while a block is written is the next block."""
        while self._pending or not self._is_read:
            await self._written.wait()
            self._written.clear()
            data, self._pending = b"".join(self._pending), []
            if data:
                await asyncio.to_thread(self._write, data)

    def _write(self, data: bytes) -> None:
        path = self._folder / LOG_NAME
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(data)
                size = file.tell()
            if size > DEFAULT_LOG_BYTES:
                path.replace(self._folder / OLDER_LOG_NAME)
        except OSError as error:
            _log.error("the log %s cannot be written: %s", path, error)


async def last_words(cluster: Cluster, namespace: str, seen: Observation) -> Explanation:
    """Why an engine ended: the explanation of what is seen, with what all of its log adds to the
    end of it that the pod's status holds. Where the cluster itself ended the engine (out of
    memory, a probe, an eviction), that is the reason."""
    found = seen.explanation or Explanation(
        cause="The engine ended without saying why.", fix="Read its log, and start it again."
    )
    told = found.failure_id or ""
    if seen.pod is None or seen.run is None or told.startswith("k8s-"):
        return found
    query = {
        "container": SERVER_CONTAINER,
        "tailLines": _LAST_LINES,
        "limitBytes": _LAST_BYTES,
        # A run that goes on comes after the one that ended.
        "previous": "true" if seen.runs else "false",
    }
    try:
        log = await cluster.text(f"/api/v1/namespaces/{namespace}/pods/{seen.pod}/log", **query)
    except ClusterError:
        return found
    said = await asyncio.to_thread(explain, log)
    if said.failure_id is None or said.failure_id == found.failure_id:
        return found
    return msgspec.structs.replace(found, **msgspec.structs.asdict(said))

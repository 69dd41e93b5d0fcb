"""The namespaces that servers are in, each with one door to its cluster and one view of it all."""

import asyncio
import logging
from collections.abc import Callable

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.fleet import Fleet
from meshtui.deploy.kubernetes.phases import Observation
from meshtui.domain.errors import MeshtuiError, Unavailable
from meshtui.domain.execution import KubernetesExecution

# Who waits for a view of a cluster is told after so long what keeps it from coming.
_PATIENCE_S = 30.0

_log = logging.getLogger(__name__)


class Doors:
    """Connections to clusters, one for each context of the kubeconfig."""

    def __init__(self) -> None:
        self._clusters: dict[str | None, Cluster] = {}
        self._opening = asyncio.Lock()

    async def get(self, context: str | None) -> Cluster:
        """Asks no cluster; raises `InvalidInput` where the kubeconfig does not have it."""
        async with self._opening:
            found = self._clusters.get(context)
            if found is None:
                found = self._clusters[context] = await Cluster.connect(context)
            return found

    async def close(self) -> None:
        for cluster in self._clusters.values():
            await cluster.close()
        self._clusters.clear()


class Space:
    """A namespace of a cluster. `changed` gets the name of a server of which something is seen
    that differs from before. `trouble` is why what is seen may be out of date."""

    def __init__(
        self,
        doors: Doors,
        context: str | None,
        namespace: str,
        *,
        changed: Callable[["Space", str], None],
        troubled: Callable[["Space"], None],
    ) -> None:
        self.context = context
        self.namespace = namespace
        self.trouble: MeshtuiError | None = None
        self._doors = doors
        self._changed = changed
        self._troubled = troubled
        self._fleet: Fleet | None = None
        self._opening: asyncio.Task[None] | None = None
        self.is_current = False
        """Whether all servers of the namespace are known."""

    async def cluster(self) -> Cluster:
        """Asks no cluster; raises `InvalidInput` where the kubeconfig does not have it."""
        return await self._doors.get(self.context)

    def look(self) -> None:
        """Begins to watch, in the background; again where that had failed."""
        if self._opening is None or (self._opening.done() and not self.is_current):
            self._opening = asyncio.get_running_loop().create_task(
                self._open(), name=f"namespace-{self.namespace}"
            )

    async def watched(self) -> None:
        """Returns when all is known; raises the `MeshtuiError` that prevents it for now."""
        self.look()
        assert self._opening is not None
        await asyncio.wait({self._opening}, timeout=_PATIENCE_S)
        if not self.is_current:
            raise self.trouble or Unavailable(
                f"The cluster does not tell what is in the namespace {self.namespace}.",
                hint="Try again; `meshtui doctor` says what keeps it from answering.",
            )

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        if self._fleet is not None:
            await self._fleet.close()

    # -- what is seen

    def seen(self, name: str) -> Observation | None:
        return self._fleet.seen(name) if self._fleet else None

    def deployment(self, name: str) -> Json | None:
        return self._fleet.deployment(name) if self._fleet else None

    async def _open(self) -> None:
        try:
            cluster = await self.cluster()
            self._fleet = fleet = Fleet(
                cluster,
                self.namespace,
                changed=lambda name, _: self._tell(name),
                described=self._tell,
                troubled=self._watch_troubled,
            )
            try:
                await fleet.open()
            except ClusterError:
                self._fleet = None
                await fleet.close()
                raise
            self.is_current = True
        except MeshtuiError as error:
            _log.info("the namespace %s is not watched: %s", self.namespace, error)
            self._set_trouble(error)
            return
        self.trouble = None
        for name in fleet.observations:
            self._changed(self, name)
        # Also of those servers of which nothing is there any more.
        self._troubled(self)

    def _tell(self, name: str) -> None:
        # Until all is known, a server that is not seen may be there all the same.
        if self.is_current:
            self._changed(self, name)

    def _watch_troubled(self, trouble: ClusterError | None) -> None:
        if trouble is not None or self.is_current:
            self._set_trouble(trouble)

    def _set_trouble(self, trouble: MeshtuiError | None) -> None:
        if trouble is not self.trouble:
            self.trouble = trouble
            self._troubled(self)


class Spaces:
    """All namespaces that were ever asked for. `stop` looking, then `close` the connections."""

    def __init__(
        self, *, changed: Callable[[Space, str], None], troubled: Callable[[Space], None]
    ) -> None:
        self._changed = changed
        self._troubled = troubled
        self._doors = Doors()
        self._spaces: dict[tuple[str | None, str], Space] = {}

    def of(self, execution: KubernetesExecution) -> Space:
        """Where that execution config puts its servers; nothing is asked yet."""
        key = execution.context, execution.namespace
        found = self._spaces.get(key)
        if found is None:
            found = self._spaces[key] = Space(
                self._doors, *key, changed=self._changed, troubled=self._troubled
            )
        return found

    async def stop(self) -> None:
        """Nothing more is seen."""
        await asyncio.gather(*(space.close() for space in self._spaces.values()))

    async def close(self) -> None:
        await self._doors.close()

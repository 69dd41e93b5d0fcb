"""Puts a server on the cluster and says what the cluster shows of it."""

import asyncio
from collections.abc import Callable

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.objects import INSTANCE, deployment, path_of
from meshtui.deploy.kubernetes.phases import Observation, observe
from meshtui.deploy.kubernetes.spec import PodServer
from tests.cluster.waiting import until


class Placed:
    """A server whose Deployment is on the cluster. It may go to this test's nodes only."""

    def __init__(self, cluster: Cluster, server: PodServer) -> None:
        self.cluster = cluster
        self.server = server
        self._path = path_of(deployment(server))
        self._space = f"/api/v1/namespaces/{server.execution.namespace}"

    async def apply(self) -> None:
        manifest = deployment(self.server)
        # The marker is no part of what is described: it keeps tests off each other's nodes.
        spec = manifest["spec"]["template"]["spec"]
        own = {"meshtui-test": self.server.execution.namespace}
        spec["nodeSelector"] = {**spec.get("nodeSelector", {}), **own}
        await self.cluster.apply(self._path, manifest)

    async def pods(self) -> list[Json]:
        query = {"labelSelector": f"{INSTANCE}={self.server.name}"}
        return list((await self.cluster.get(f"{self._space}/pods", **query))["items"])

    async def pod(self, *, placed: bool = True) -> str:
        """The name of its only pod, as soon as it has a node."""
        selector = f"{self._space}/pods"

        def there(found: Json | None) -> bool:
            items = [p for p in (found or {})["items"] if "deletionTimestamp" not in p["metadata"]]
            return len(items) == 1 and (not placed or "nodeName" in items[0]["spec"])

        found = await until(self.cluster, selector, there)
        (one,) = (p for p in found["items"] if "deletionTimestamp" not in p["metadata"])
        return str(one["metadata"]["name"])

    async def look(self) -> Observation:
        try:
            found: Json | None = await self.cluster.get(self._path)
        except ClusterError as error:
            if error.status != 404:
                raise
            found = None
        events = (await self.cluster.get(f"{self._space}/events"))["items"]
        return observe(found, await self.pods(), events)

    async def until(self, holds: Callable[[Observation], object]) -> Observation:
        """What is seen as soon as the condition holds of it."""
        seen = await self.look()
        try:
            async with asyncio.timeout(120):
                while not holds(seen):
                    await asyncio.sleep(0.05)
                    seen = await self.look()
        except TimeoutError:
            raise AssertionError(f"never seen as expected: {seen}") from None
        return seen

    async def explained(self) -> Observation:
        return await self.until(lambda seen: seen.explanation is not None)

"""All servers of one namespace, watched together and told apart by their labels."""

import asyncio
from collections.abc import Callable, Iterable

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.objects import INSTANCE, MANAGED_SELECTOR
from meshtui.deploy.kubernetes.phases import Observation, observe
from meshtui.deploy.kubernetes.watch import Watch

_SERVERS = f"{MANAGED_SELECTOR},app.kubernetes.io/component=model-server"


class Fleet:
    """Three watches, however many servers there are. `changed` gets a server's name and what is
    now seen of it, whenever that differs from before; None when nothing is left of it. `described`
    gets its name whenever its Deployment changed. `troubled` gets what keeps the view from being
    current, None when it is current again. `open` it, `close` it."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        *,
        changed: Callable[[str, Observation | None], None],
        described: Callable[[str], None] = lambda _: None,
        troubled: Callable[[ClusterError | None], None] = lambda _: None,
    ) -> None:
        space = f"namespaces/{namespace}"
        self._changed = changed
        self._described = described
        self._pods_of: dict[str, dict[str, Json]] = {}
        self._server_of: dict[str, str] = {}
        self._events_of: dict[str, dict[str, Json]] = {}
        self._pod_of_event: dict[str, str] = {}
        self._seen: dict[str, Observation] = {}
        self._deployments = Watch(
            cluster,
            f"/apis/apps/v1/{space}/deployments",
            changed=self._deployment_changed,
            troubled=troubled,
            selector=_SERVERS,
        )
        self._pods = Watch(
            cluster, f"/api/v1/{space}/pods", changed=self._pod_changed, selector=_SERVERS
        )
        self._events = Watch(
            cluster,
            f"/api/v1/{space}/events",
            changed=self._event_changed,
            # Events carry no labels of what they are about.
            field_selector="involvedObject.kind=Pod",
        )

    async def open(self) -> None:
        """Returns when all is known. Raises the `ClusterError` that prevents it."""
        watches = self._watches()
        for watch in watches:
            watch.start()
        await asyncio.gather(*(watch.current() for watch in watches))

    async def close(self) -> None:
        await asyncio.gather(*(watch.close() for watch in self._watches()))

    @property
    def observations(self) -> dict[str, Observation]:
        """What is seen of each server, by name."""
        return dict(sorted(self._seen.items()))

    def seen(self, name: str) -> Observation | None:
        """What is seen of one server; None where nothing of it is there."""
        return self._seen.get(name)

    def deployment(self, name: str) -> Json | None:
        return self._deployments.objects.get(name)

    def _watches(self) -> tuple[Watch, ...]:
        return self._deployments, self._pods, self._events

    def _deployment_changed(self, name: str, found: Json | None) -> None:
        self._look(name)
        self._described(name)

    def _pod_changed(self, pod: str, found: Json | None) -> None:
        server = self._server_of.get(pod)
        if found is not None:
            server = found["metadata"]["labels"][INSTANCE]
            self._server_of[pod] = server
            self._pods_of.setdefault(server, {})[pod] = found
        elif server is not None:
            del self._server_of[pod]
            pods = self._pods_of[server]
            del pods[pod]
            if not pods:
                del self._pods_of[server]
        if server is not None:
            self._look(server)

    def _event_changed(self, event: str, found: Json | None) -> None:
        if found is None:
            pod = self._pod_of_event.pop(event, None)
            events = self._events_of.get(pod or "", {})
            events.pop(event, None)
            if pod is not None and not events:
                self._events_of.pop(pod, None)
            return  # what was read from it stays true
        pod = found["involvedObject"]["name"]
        self._pod_of_event[event] = pod
        self._events_of.setdefault(pod, {})[event] = found
        if server := self._server_of.get(pod):
            self._look(server)

    def _look(self, server: str) -> None:
        pods = self._pods_of.get(server, {})
        found = self._deployments.objects.get(server)
        before = self._seen.get(server)
        if found is None and not pods:
            if self._seen.pop(server, None) is not None:
                self._changed(server, None)
            return
        seen = observe(found, pods.values(), self._events_about(pods))
        if seen != before:
            self._seen[server] = seen
            self._changed(server, seen)

    def _events_about(self, pods: Iterable[str]) -> list[Json]:
        return [event for pod in pods for event in self._events_of.get(pod, {}).values()]

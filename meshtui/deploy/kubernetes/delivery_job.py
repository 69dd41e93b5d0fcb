"""A Job that brings a model to a volume, as the cluster shows it: where its newest pod is, and what
keeps it from running."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Self

import msgspec

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.containers import explain_failed_pod
from meshtui.deploy.kubernetes.errors import ClusterError, explain_forbidden
from meshtui.deploy.kubernetes.phases import Observation, observe_pod
from meshtui.deploy.kubernetes.watch import Watch
from meshtui.domain.server import Explanation, Phase
from meshtui.domain.text import one_line

_OVER = ("Succeeded", "Failed")


class SeenJob(msgspec.Struct, frozen=True, kw_only=True):
    """`pod` is the newest, None where there is none yet. `words` say what it does, and
    `explanation` why it does not go on. `outcome` is `Complete` or `Failed` once the Job is over;
    `gone`: somebody deleted it."""

    pod: Json | None = None
    runs: bool = False
    words: str = ""
    explanation: Explanation | None = None
    outcome: str | None = None
    gone: bool = False

    @property
    def pod_name(self) -> str | None:
        return self.pod["metadata"]["name"] if self.pod else None


class JobWatch:
    """Looks at one Job. Made by `open`."""

    def __init__(self, cluster: Cluster, namespace: str, job: str) -> None:
        space, self._job = f"namespaces/{namespace}", job
        self._changed = asyncio.Event()
        self._trouble: ClusterError | None = None

        def watch(path: str, selector: str = "", field_selector: str = "") -> Watch:
            return Watch(
                cluster,
                path,
                changed=lambda *_: self._changed.set(),
                troubled=self._troubled,
                selector=selector,
                field_selector=field_selector,
            )

        self._jobs = watch(f"/apis/batch/v1/{space}/jobs", field_selector=f"metadata.name={job}")
        self._pods = watch(f"/api/v1/{space}/pods", selector=f"job-name={job}")
        self._events = watch(f"/api/v1/{space}/events")

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, cluster: Cluster, namespace: str, job: str) -> AsyncIterator[Self]:
        """Raises `ClusterError` where one may not look."""
        found = cls(cluster, namespace, job)
        watches = (found._jobs, found._pods, found._events)
        for one in watches:
            one.start()
        try:
            for one in watches:
                await one.current()
            yield found
        finally:
            for one in watches:
                await one.close()

    async def until(
        self, condition: Callable[[SeenJob], bool], on_seen: Callable[[SeenJob], None]
    ) -> SeenJob:
        """Returns what is seen as soon as the condition holds of it; `on_seen` hears of all that
        is seen before. Waits for as long as it takes."""
        while True:
            self._changed.clear()
            seen = self.look()
            if condition(seen):
                return seen
            on_seen(seen)
            await self._changed.wait()

    def look(self) -> SeenJob:
        """What is seen now."""
        job = self._jobs.objects.get(self._job)
        pods = sorted(
            self._pods.objects.values(), key=lambda pod: pod["metadata"]["creationTimestamp"]
        )
        pod = pods[-1] if pods else None
        seen = self._look_at(pod)
        trouble = self._trouble.explanation if self._trouble is not None else None
        return SeenJob(
            pod=pod,
            runs=seen.phase is Phase.READY,
            words=seen.message,
            explanation=trouble or seen.explanation,
            outcome=_outcome(job),
            gone=job is None or "deletionTimestamp" in job["metadata"],
        )

    def _look_at(self, pod: Json | None) -> Observation:
        events = list(self._events.objects.values())
        if pod is None:
            return Observation(
                phase=Phase.SCHEDULING,
                message="Waiting for the pod to be made",
                explanation=self._why_no_pod(events),
            )
        status = pod.get("status", {})
        if status.get("phase") in _OVER and not status.get("containerStatuses"):
            why = explain_failed_pod(pod)
            return Observation(phase=Phase.FAILED, message=why.cause, explanation=why)
        return observe_pod(pod, events)

    def _why_no_pod(self, events: list[Json]) -> Explanation | None:
        """A quota, a Pod Security level, a service account."""
        job = self._jobs.objects.get(self._job)
        uid = job["metadata"]["uid"] if job else None
        for event in reversed(events):
            about = event.get("involvedObject", {})
            if about.get("uid") == uid and event.get("reason") == "FailedCreate":
                return explain_forbidden(one_line(event.get("message", ""), 2000))
        return None

    def _troubled(self, trouble: ClusterError | None) -> None:
        self._trouble = trouble
        self._changed.set()


def ended_container(pod: Json | None) -> Json:
    """How the pod's container ended: `exitCode`, `message` and so on; empty where it did not."""
    for one in (pod or {}).get("status", {}).get("containerStatuses", []):
        ended: Json = one.get("state", {}).get("terminated") or {}
        return ended
    return {}


def _outcome(job: Json | None) -> str | None:
    for condition in (job or {}).get("status", {}).get("conditions", []):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return None

"""What a server on a cluster is doing, read from its Deployment, its pods and their events.

Pure functions of what the API server tells: the same objects always give the same answer, so that
another meshtui, or ours after a restart, sees the same.
"""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from meshtui.deploy.kubernetes.api import Json
from meshtui.deploy.kubernetes.containers import explain_end, explain_failed_pod, explain_waiting
from meshtui.deploy.kubernetes.errors import explain_forbidden
from meshtui.deploy.kubernetes.scheduling import explain_unschedulable
from meshtui.domain.server import Explanation, Phase
from meshtui.domain.text import one_line

_PULL_FAILURES = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CREATING = ("", "ContainerCreating", "PodInitializing")


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """A server as the cluster shows it. `since` is when this began (seconds since the epoch), as
    far as the cluster says. An `explanation` beside a phase other than Failed is of something that
    the cluster goes on trying. `restarts` counts those of the newest pod; `previous` says that the
    reason stands in the log of the container before this one. `run` names the newest run of the
    engine, `runs` says whether it goes on."""

    phase: Phase
    message: str = ""
    since: float | None = None
    explanation: Explanation | None = None
    pod: str | None = None
    node: str | None = None
    restarts: int = 0
    previous: bool = False
    run: str | None = None
    runs: bool = False


def observe(deployment: Json | None, pods: Iterable[Json], events: Iterable[Json]) -> Observation:
    """Where the server is. `pods` are those of this Deployment, `events` may be any of the
    namespace."""
    pods = sorted(pods, key=_created)
    if deployment is None:
        ending = [pod for pod in pods if not _is_over(pod)]
        if ending:
            return _of(ending[-1], Phase.STOPPING, "The pod is ending")
        return Observation(phase=Phase.STOPPED)
    if deployment["metadata"].get("deletionTimestamp") or not deployment["spec"].get("replicas", 1):
        going = [pod for pod in pods if not _is_over(pod)]
        if going:
            return _of(going[-1], Phase.STOPPING, "The pod is ending")
        gone = deployment["metadata"].get("deletionTimestamp")
        return Observation(phase=Phase.STOPPING if gone else Phase.STOPPED)
    living = [pod for pod in pods if not _is_leaving(pod) and not _is_over(pod)]
    if living:
        return _observe_pod(living[-1], _events_of(living[-1], events))
    if failure := _condition(deployment, "ReplicaFailure"):
        # The ReplicaSet's own message: a quota, a Pod Security level, a service account.
        return Observation(
            phase=Phase.FAILED,
            message="The cluster refuses to make the pod",
            explanation=explain_forbidden(one_line(failure.get("message", ""), 2000)),
        )
    over = [pod for pod in pods if _is_over(pod)]
    if over:
        found = explain_failed_pod(over[-1])
        return _of(over[-1], Phase.SCHEDULING, "A new pod takes its place", explanation=found)
    if pods:
        return _of(pods[-1], Phase.SCHEDULING, "Waiting for the old pod to end")
    return Observation(phase=Phase.SCHEDULING, message="Waiting for the pod to be made")


def observe_pod(pod: Json, events: Iterable[Json]) -> Observation:
    """Where one pod is, also where it belongs to no server. `events` may be any of the
    namespace."""
    return _observe_pod(pod, _events_of(pod, events))


def _observe_pod(pod: Json, events: Sequence[Json]) -> Observation:
    scheduled = _condition(pod, "PodScheduled", status=None)
    if not pod["spec"].get("nodeName"):
        if scheduled and scheduled.get("reason") == "Unschedulable":
            why = explain_unschedulable(scheduled.get("message", ""))
            return _of(pod, Phase.SCHEDULING, why.cause, explanation=why)
        if scheduled and scheduled.get("reason") == "SchedulingGated":
            return _of(pod, Phase.SCHEDULING, "Held back by a scheduling gate")
        return _of(pod, Phase.SCHEDULING, "Waiting for a node")
    status = pod["status"]
    for one in status.get("initContainerStatuses", []):
        if "terminated" not in one.get("state", {}) or one["state"]["terminated"]["exitCode"]:
            return _observe_container(pod, one, events, running=Phase.FETCHING_MODEL)
    for one in status.get("containerStatuses", []):
        seen = _observe_container(pod, one, events, running=Phase.STARTING)
        run, runs = one.get("containerID") or None, "running" in one.get("state", {})
        return msgspec.structs.replace(seen, run=run, runs=runs)
    return _of(pod, Phase.SCHEDULING, "Placed; the node takes over", since=_time(scheduled))


def _observe_container(
    pod: Json, container: Json, events: Sequence[Json], *, running: Phase
) -> Observation:
    state = container.get("state", {})
    restarts = container.get("restartCount", 0)
    ended = container.get("lastState", {}).get("terminated")
    if waiting := state.get("waiting"):
        return _of_waiting(pod, container, waiting, events, restarts=restarts, running=running)
    if over := state.get("terminated"):
        why = explain_end(over, events)
        return _of(pod, running, why.cause, explanation=why, restarts=restarts)
    started = _parsed(state.get("running", {}).get("startedAt"))
    if container.get("ready") and running is Phase.STARTING:
        return _of(pod, Phase.READY, since=_time(_condition(pod, "Ready")), restarts=restarts)
    if ended:
        why = explain_end(ended, events)
        message = f"Started again after {restarts} failed: {why.cause}"
        return _of(
            pod, running, message, since=started, explanation=why, restarts=restarts, previous=True
        )
    # A probe that fails while the engine loads is what it is there for.
    message = "Fetching the model" if running is Phase.FETCHING_MODEL else "The engine is starting"
    return _of(pod, running, message, since=started, restarts=restarts)


def _of_waiting(
    pod: Json,
    container: Json,
    waiting: Json,
    events: Sequence[Json],
    *,
    restarts: int,
    running: Phase,
) -> Observation:
    reason, said = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _PULL_FAILURES:
        why = explain_waiting(reason, said, container.get("image", ""), events)
        return _of(pod, Phase.PULLING_IMAGE, why.cause, explanation=why, restarts=restarts)
    if reason == "CrashLoopBackOff":
        ended = container.get("lastState", {}).get("terminated", {})
        why = explain_end(ended, events)
        message = f"It ended {restarts} times; the cluster waits before the next start"
        return _of(pod, running, message, explanation=why, restarts=restarts, previous=True)
    if reason not in _CREATING:
        why = explain_waiting(reason, said, container.get("image", ""), events)
        return _of(pod, running, why.cause, explanation=why, restarts=restarts)
    for event in reversed(events):
        match event.get("reason"):
            case "Pulling":
                image = one_line(container.get("image", ""))
                return _of(pod, Phase.PULLING_IMAGE, f"Pulling {image}", since=_event_time(event))
            case "Pulled" | "Created" | "Started":
                break
            case "FailedMount" | "FailedAttachVolume" | "FailedCreatePodSandBox":
                why = explain_waiting(event["reason"], event.get("message", ""), "", events)
                return _of(pod, Phase.STARTING, why.cause, explanation=why)
    scheduled = _condition(pod, "PodScheduled")
    return _of(pod, Phase.STARTING, "The node prepares the pod", since=_time(scheduled))


def _of(
    pod: Json,
    phase: Phase,
    message: str = "",
    *,
    since: float | None = None,
    explanation: Explanation | None = None,
    restarts: int = 0,
    previous: bool = False,
) -> Observation:
    return Observation(
        phase=phase,
        message=message,
        since=since or _created(pod),
        explanation=explanation,
        pod=pod["metadata"]["name"],
        node=pod["spec"].get("nodeName"),
        restarts=restarts,
        previous=previous,
    )


def _is_leaving(pod: Json) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _is_over(pod: Json) -> bool:
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def _condition(one: Json, kind: str, *, status: str | None = "True") -> dict[str, Any] | None:
    for condition in one.get("status", {}).get("conditions", []):
        if condition["type"] == kind and status in (None, condition["status"]):
            found: dict[str, Any] = condition
            return found
    return None


def _events_of(pod: Json, events: Iterable[Json]) -> list[Json]:
    uid = pod["metadata"]["uid"]
    found = [event for event in events if event.get("involvedObject", {}).get("uid") == uid]
    return sorted(found, key=_event_time)


def _event_time(event: Json) -> float:
    # `eventTime` is what the newer API fills, `lastTimestamp` the older one.
    return (
        _parsed(event.get("lastTimestamp"))
        or _parsed(event.get("eventTime"))
        or _parsed(event["metadata"].get("creationTimestamp"))
        or 0.0
    )


def _created(one: Json) -> float:
    return _parsed(one["metadata"].get("creationTimestamp")) or 0.0


def _time(condition: dict[str, Any] | None) -> float | None:
    return _parsed(condition.get("lastTransitionTime")) if condition else None


def _parsed(text: str | None) -> float | None:
    try:
        return datetime.datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None

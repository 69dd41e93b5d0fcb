"""One running engine for one enabled model: what it is doing, since when, and why it failed."""

from enum import StrEnum

import msgspec

from meshtui.domain.task import Engine, Task


class Phase(StrEnum):
    """Where a server is on its way."""

    QUEUED = "Queued"
    FETCHING_MODEL = "FetchingModel"
    BUILDING_RUNTIME = "BuildingRuntime"
    SCHEDULING = "Scheduling"
    PULLING_IMAGE = "PullingImage"
    STARTING = "Starting"
    LOADING_WEIGHTS = "LoadingWeights"
    WARMING = "Warming"
    READY = "Ready"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"

    @property
    def is_over(self) -> bool:
        """No process is left, and none is on its way."""
        return self in (Phase.STOPPED, Phase.FAILED)

    @property
    def is_starting(self) -> bool:
        return not self.is_over and self not in (Phase.READY, Phase.STOPPING)


class PhaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One phase as it was lived through. Times are seconds since the epoch; `progress` is 0..1,
    or None where nothing honest can be said."""

    phase: Phase
    started_at: float
    ended_at: float | None = None
    progress: float | None = None
    message: str = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why something failed, and what to do. `failure_id` names the entry of the failure
    catalogue that matched, if one did; `excerpt` is the lines that it was read from."""

    cause: str
    fix: str
    failure_id: str | None = None
    excerpt: str = ""


class PodPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where on a cluster a server is. `context` None is the current one of the kubeconfig; `name`
    is that of its objects; `restarts` counts those of the pod that is there now. `drift` is what
    others changed of it, as `manager: field`; `trouble` is why all this may be out of date."""

    context: str | None = None
    namespace: str
    name: str
    pod: str | None = None
    node: str | None = None
    restarts: int = 0
    drift: tuple[str, ...] = ()
    trouble: str | None = None


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A server as everybody sees it.

    `phases` are those of the newest start, oldest first; the last one is the current phase.
    `engine_reason` says why this engine was chosen. `stops_at` is when the idle timeout will
    stop it (None: never, or busy). `memory_bytes` is resident memory of all its processes.
    `command` is the effective command line; it holds no secret. `place` is there for servers on a
    cluster only; an `explanation` before Failed is of something that the cluster goes on trying.
    """

    id: str
    model: str
    connection: str
    task: Task = Task.TEXT_GENERATION
    phase: Phase
    phases: tuple[PhaseRecord, ...] = ()
    engine: Engine | None = None
    engine_version: str | None = None
    engine_reason: str = ""
    context_length: int | None = None
    port: int | None = None
    pid: int | None = None
    created_at: float
    ready_at: float | None = None
    stopped_at: float | None = None
    last_used_at: float | None = None
    idle_timeout_s: float | None = None
    stops_at: float | None = None
    active_requests: int = 0
    memory_bytes: int | None = None
    notices: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    explanation: Explanation | None = None
    place: PodPlace | None = None

    @property
    def current(self) -> PhaseRecord | None:
        return self.phases[-1] if self.phases else None

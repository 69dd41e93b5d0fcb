"""The direct way: a Job without a GPU fetches the model from the Hub into the volume. It belongs to
no server and goes on without us; whoever comes later waits for the same one."""

import asyncio
import contextlib
import enum
import re
from collections.abc import Callable

import msgspec

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.delivery_job import JobWatch, SeenJob, ended_container
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.objects import fetch_job, metadata, owned_by, path_of
from meshtui.deploy.kubernetes.spec import HUB_TOKEN, PodServer, Secrets, model_hash
from meshtui.domain.delivery import DeliveryProgress
from meshtui.domain.errors import (
    BadToken,
    BrokenDownload,
    GatedModel,
    HubUnreachable,
    MeshtuiError,
    ModelNotOnHub,
    NoRoom,
    StartFailed,
)
from meshtui.domain.text import one_line

_PROGRESS = re.compile(rb"(\d+) of (\d+) files, (\d+) of (\d+) bytes")
_CLAIM = "meshtui.io/claim-uid"
# How often a Job is made anew that somebody deletes.
_ATTEMPTS = 3


class FetchExit(enum.IntEnum):
    """How the script in the pod ends (`meshtui/serving/fetch_model.py`)."""

    BAD_TOKEN = 64
    GATED = 65
    NOT_THERE = 66
    NO_ROOM = 67
    UNREACHABLE = 68
    DAMAGED = 69


class Fetched(msgspec.Struct, frozen=True):
    """The pod's last words."""

    digest: str
    moved_bytes: int = 0


async def fetch(
    cluster: Cluster,
    server: PodServer,
    claim_uid: str,
    on_progress: Callable[[DeliveryProgress], None],
) -> Fetched:
    """Cancelled, the Job goes on. Raises `ClusterError`, `StartFailed`, and what the Hub or the
    volume refused to the Job."""
    name = job_name(server)
    for _ in range(_ATTEMPTS):
        await _make(cluster, server, name, claim_uid)
        async with JobWatch.open(cluster, server.execution.namespace, name) as watch:
            following = _Log(cluster, server.execution.namespace, on_progress)
            try:
                seen = await watch.until(_is_over, following.see)
            finally:
                await following.close()
        if seen.outcome == "Complete":
            return _last_words(seen.pod)
        if seen.outcome == "Failed":
            raise failure(server, seen)
    raise StartFailed(
        f"Somebody deletes the Job that fetches {server.model}.",
        hint="Look who does, or try again.",
    )


def job_name(server: PodServer) -> str:
    """The same for all servers of a model on a volume."""
    storage = server.execution.storage
    claim = storage.claim if storage else ""
    return f"mt-fetch-{model_hash(f'{server.model} {claim}')}"


async def _make(cluster: Cluster, server: PodServer, name: str, claim_uid: str) -> None:
    """The Job and its Secret, unless one is at work, or has done it, for the same volume."""
    path = _path(server, name)
    found = await _find(cluster, path)
    if found is not None and _counts(found, claim_uid):
        return
    if found is not None:
        await _delete(cluster, server, name)
    wanted = fetch_job(server, name=name)
    wanted["metadata"]["annotations"][_CLAIM] = claim_uid
    # Before the pod, which would ask the Hub without the token; the Job's own once it is there.
    secret = _secret(server, name)
    await cluster.apply(path_of(secret), secret, force=True)
    try:
        made = await cluster.create(path.rpartition("/")[0], wanted)
    except ClusterError as error:
        if error.reason != "AlreadyExists":
            raise
        return  # somebody was faster
    await cluster.apply(path_of(secret), owned_by(made, secret), force=True)


async def _delete(cluster: Cluster, server: PodServer, name: str) -> None:
    """Returns when the Job and its pods are gone."""
    async with JobWatch.open(cluster, server.execution.namespace, name) as watch:
        await cluster.delete(_path(server, name), propagationPolicy="Foreground")
        await watch.until(lambda seen: seen.gone and seen.pod is None, lambda _: None)


async def _find(cluster: Cluster, path: str) -> Json | None:
    try:
        return await cluster.get(path)
    except ClusterError as error:
        if error.status != 404:
            raise
        return None


def _counts(job: Json, claim_uid: str) -> bool:
    meta = job["metadata"]
    failed = [
        one
        for one in job.get("status", {}).get("conditions", [])
        if one["type"] == "Failed" and one["status"] == "True"
    ]
    same = meta.get("annotations", {}).get(_CLAIM) == claim_uid
    return same and not failed and "deletionTimestamp" not in meta


def _secret(server: PodServer, name: str) -> Json:
    token = {key: value for key, value in server.secrets.values.items() if key == HUB_TOKEN}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(server, name, component="model-fetch"),
        "type": "Opaque",
        "data": Secrets(token).encoded(),
    }


def _path(server: PodServer, name: str) -> str:
    return f"/apis/batch/v1/namespaces/{server.execution.namespace}/jobs/{name}"


def _is_over(seen: SeenJob) -> bool:
    return seen.outcome is not None or seen.gone


class _Log:
    """Follows the log of the Job's newest pod, for how far it is."""

    def __init__(
        self, cluster: Cluster, namespace: str, on_progress: Callable[[DeliveryProgress], None]
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._on_progress = on_progress
        self._pod: str | None = None
        self._task: asyncio.Task[None] | None = None

    def see(self, seen: SeenJob) -> None:
        if not seen.runs or seen.pod_name is None:
            step = f"Starting the Job that fetches the model: {seen.words}"
            self._on_progress(DeliveryProgress(step=step, explanation=seen.explanation))
        elif seen.pod_name != self._pod:
            self._end()
            self._pod = seen.pod_name
            self._on_progress(DeliveryProgress(step="Fetching the model from the Hub"))
            self._task = asyncio.create_task(self._follow(seen.pod_name), name="log of a fetch")

    async def close(self) -> None:
        if task := self._end():
            await asyncio.wait({task})

    def _end(self) -> asyncio.Task[None] | None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        return task

    async def _follow(self, pod: str) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}/log"
        # Only the progress is lost where the log may not be read, or breaks off.
        with contextlib.suppress(ClusterError):
            async for line in self._cluster.lines(path, follow="true", tailLines="10"):
                if found := _PROGRESS.search(line):
                    files_done, files, done_bytes, total_bytes = map(int, found.groups())
                    self._on_progress(
                        DeliveryProgress(
                            step="Fetching the model from the Hub",
                            done_bytes=done_bytes,
                            total_bytes=total_bytes,
                            files_done=files_done,
                            files=files,
                        )
                    )


def _last_words(pod: Json | None) -> Fetched:
    message = ended_container(pod).get("message") or ""
    try:
        return msgspec.json.decode(message, type=Fetched)
    except msgspec.MsgspecError:
        return Fetched("")  # the pod is gone already


def failure(server: PodServer, seen: SeenJob) -> MeshtuiError:
    """Why a Job failed, by how its last pod ended."""
    ended = ended_container(seen.pod)
    lines = (ended.get("message") or "").strip().splitlines()
    words = one_line(lines[-1], 500) if lines else ""
    model = server.model
    match ended.get("exitCode"):
        case FetchExit.BAD_TOKEN:
            return BadToken(
                f"The Hub does not accept the token that fetches {model}: {words}",
                hint="Look at the access token of the connection.",
            )
        case FetchExit.GATED:
            return GatedModel(
                f"{model} is gated, and the token's user has not accepted its terms. {words}",
                hint="Accept them on the model's page, and set the connection's access token.",
            )
        case FetchExit.NOT_THERE:
            return ModelNotOnHub(
                f"The Hub has no {model}, or the token may not see it. {words}",
                hint="Look at the name, the revision and the connection's access token.",
            )
        case FetchExit.NO_ROOM:
            return NoRoom(
                f"The volume has no room for {model}. {words}",
                hint="Make the claim larger, or delete models on it that nobody needs.",
            )
        case FetchExit.UNREACHABLE:
            return HubUnreachable(
                f"The pod that fetches {model} does not reach the Hub. {words}",
                hint="Set the proxy of the execution config, or have this machine send the model: "
                "model.delivery = managed-cache in the connection's properties.",
            )
        case FetchExit.DAMAGED:
            return BrokenDownload(
                f"What came of {model} is damaged. {words}",
                hint="Try again; if it stays, the volume's disk or something on the way is broken.",
            )
    why = seen.explanation
    return StartFailed(
        f"The Job that fetches {model} failed: {words or (why.cause if why else seen.words)}",
        hint=why.fix if why else "Try again.",
        explanation=why,
    )

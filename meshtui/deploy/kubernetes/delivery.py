"""Brings a server's model to where its pod finds it: by a Job that fetches from the Hub, from this
machine's cache through the API server alone, or not at all, where it is there.

Any number of servers and workstations may ask for the same model on the same volume at once: one
brings it, the others wait and find it.
"""

import contextlib
import time
from collections.abc import Callable

from meshtui.cache.store import Entry
from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.delivery_fetch import fetch
from meshtui.deploy.kubernetes.delivery_look import look
from meshtui.deploy.kubernetes.delivery_marks import FOUND, find_claim, make_claim, mark, mark_of
from meshtui.deploy.kubernetes.delivery_send import prepared, send
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.objects import deployment, path_of
from meshtui.deploy.kubernetes.spec import PodServer
from meshtui.domain.delivery import Delivered, DeliveryMode, DeliveryProgress
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.text import one_line

_INTERVAL_S = 0.2


async def is_delivered(cluster: Cluster, server: PodServer, *, entry: Entry | None = None) -> bool:
    """Whether nothing is to be moved: no pod is started to see it. With `entry`: whether what is
    on the volume is this very content. Raises `ClusterError`, and as `deliver` for what is wrong
    with the entry."""
    if server.fetched_to is None:
        return True
    if server.delivery.image is not None:
        return False  # whether the cluster mounts images is to be asked
    content = mark_of(await find_claim(cluster, server), server)
    if content is None or entry is None:
        return content is not None
    return content == (await prepared(entry, lambda _: None)).digest


async def deliver(
    cluster: Cluster,
    server: PodServer,
    *,
    entry: Entry | None = None,
    on_progress: Callable[[DeliveryProgress], None] = lambda _: None,
) -> Delivered:
    """Brings the model in the server's own way, verifies it and notes it on the claim, which is
    made where it is missing. `on_progress` is called on the event loop, at most some five times a
    second and with each new step. The managed cache needs `entry` where the model is not there.

    Cancelled, what has come stays and is not moved again; a Job that fetches from the Hub goes on.
    Raises `ClusterError`, `StartFailed`, `NoRoom`, `BrokenDownload`, `InvalidInput`,
    `Unavailable`; what the Hub refuses to the Job; `NotFound` where an existing model is not.
    """
    mode, tell = server.delivery.mode, _Teller(on_progress)
    if server.fetched_to is None:
        return Delivered(mode=mode, present=True)
    if server.delivery.image is not None:
        return await _see_image(cluster, server)
    if mode is DeliveryMode.EXISTING:
        return await _see(cluster, server, tell)
    found = await make_claim(cluster, server)
    content = mark_of(found, server)
    if content is not None and (entry is None or mode is DeliveryMode.DIRECT):
        return Delivered(mode=mode, present=True)
    if mode is DeliveryMode.DIRECT:
        fetched = await fetch(cluster, server, found["metadata"]["uid"], tell)
        await mark(cluster, server, found, fetched.digest or FOUND)
        moved = fetched.moved_bytes
        return Delivered(mode=mode, present=not moved, moved_bytes=moved)
    if entry is None:
        raise InvalidInput(
            f"{server.model} is not in the model cache of this machine, which is to send it.",
            hint=f"Fetch it first: meshtui cache download {server.model}",
        )
    what = await prepared(entry, tell)
    if content == what.digest:
        return Delivered(mode=mode, present=True)
    present, sent_bytes = await send(cluster, server, what, tell)
    await mark(cluster, server, found, what.digest)
    return Delivered(mode=mode, present=present, moved_bytes=sent_bytes)


async def _see(
    cluster: Cluster, server: PodServer, tell: Callable[[DeliveryProgress], None]
) -> Delivered:
    """A model that is to be there. A volume that is not is nobody's to be made."""
    seen = Delivered(mode=DeliveryMode.EXISTING, present=True)
    found = await find_claim(cluster, server)
    if found is None:
        storage = server.execution.storage
        raise NotFound(
            f"There is no claim {storage.claim if storage else ''} in the namespace "
            f"{server.execution.namespace}, which is to hold {server.model}.",
            hint="Correct [storage] in the execution config, or create the claim.",
        )
    if mark_of(found, server) is not None:
        return seen
    await look(cluster, server, tell)
    # It need not be ours to be written to: then somebody looks again next time.
    with contextlib.suppress(ClusterError):
        await mark(cluster, server, found, FOUND)
    return seen


async def _see_image(cluster: Cluster, server: PodServer) -> Delivered:
    """Clusters that mount no images make empty volumes of them, and say nothing."""
    wanted = deployment(server)
    made = await cluster.apply(path_of(wanted), wanted, dry_run=True, force=True)
    if not any("image" in one for one in made["spec"]["template"]["spec"]["volumes"]):
        raise InvalidInput(
            f"The cluster mounts no images, and {server.model} is to come from "
            f"{one_line(server.delivery.image or '')}.",
            hint="Kubernetes 1.35 does so by itself, 1.31 and newer with the feature gate "
            "ImageVolume. Or put the model on a volume.",
        )
    return Delivered(mode=DeliveryMode.EXISTING, present=True)


class _Teller:
    """Hands on new steps and reasons at once, and how far it is from time to time."""

    def __init__(self, on_progress: Callable[[DeliveryProgress], None]) -> None:
        self._on_progress = on_progress
        self._last: DeliveryProgress | None = None
        self._told_at = 0.0

    def __call__(self, progress: DeliveryProgress) -> None:
        now, last = time.monotonic(), self._last
        is_new = (
            last is None
            or (last.step, last.explanation) != (progress.step, progress.explanation)
            or (progress.total_bytes is not None and progress.done_bytes >= progress.total_bytes)
        )
        if progress == last or (not is_new and now - self._told_at < _INTERVAL_S):
            return
        self._last, self._told_at = progress, now
        self._on_progress(progress)

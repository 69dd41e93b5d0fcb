"""What is complete on a volume, as notes on its claim: nobody has to start a pod to see it.

They go with the claim, hence with the volume. Whoever deletes a model on the volume by hand takes
its note away, too: `kubectl annotate pvc CLAIM meshtui.io/holds-...-`.
"""

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.objects import claim, path_of
from meshtui.deploy.kubernetes.spec import PodServer, model_hash

# Stands for the content where that is not known: a model that somebody else put there.
FOUND = "found"


async def find_claim(cluster: Cluster, server: PodServer) -> Json | None:
    """The claim of the server's volume, if it is there. Raises `ClusterError`."""
    try:
        return await cluster.get(path_of(claim(server)))
    except ClusterError as error:
        if error.status != 404:
            raise
        return None


async def make_claim(cluster: Cluster, server: PodServer) -> Json:
    """The claim, made where it is missing. One that is there is used as it is. Raises
    `ClusterError`."""
    found = await find_claim(cluster, server)
    wanted = claim(server)
    return found if found is not None else await cluster.apply(path_of(wanted), wanted)


def mark_of(found: Json | None, server: PodServer) -> str | None:
    """What the claim says of the server's model: the digest of its content, or `FOUND`; None where
    it is not known to be complete."""
    if found is None or "deletionTimestamp" in found["metadata"]:
        return None
    mark: str | None = found["metadata"].get("annotations", {}).get(_key(server))
    return mark


async def mark(cluster: Cluster, server: PodServer, found: Json, content: str) -> None:
    """Notes that the model is complete on the volume. A claim that took the name of `found` since
    gets no note. Raises `ClusterError`."""
    change = {"metadata": {"uid": found["metadata"]["uid"], "annotations": {_key(server): content}}}
    await cluster.patch(path_of(claim(server)), change)


def _key(server: PodServer) -> str:
    return f"meshtui.io/holds-{model_hash(server.fetched_to or '')}"

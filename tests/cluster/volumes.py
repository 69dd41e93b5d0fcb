"""Volumes for models that are folders of this machine, and pods that run Python beside them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.spec import PodServer
from meshtui.domain.execution import Storage
from tests.cluster.python_image import PYTHON
from tests.support.pod_servers import pod_server

CLAIM = "weights"


@asynccontextmanager
async def volume(cluster: Cluster, namespace: str, folder: Path) -> AsyncIterator[Path]:
    """Makes the folder a volume, for the claim of that name alone."""
    name = f"{namespace}-{CLAIM}"
    body: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Ti"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "hostPath": {"path": str(folder)},
            "claimRef": {"namespace": namespace, "name": CLAIM},
        },
    }
    path = "/api/v1/persistentvolumes"
    await cluster.create(path, body)
    try:
        yield folder
    finally:
        await cluster.delete(f"{path}/{name}")


def python_server(
    namespace: str, node: str, model: str, way: str = "managed-cache", **properties: str
) -> PodServer:
    """A server whose pods have Python; its model comes in that way to the volume."""
    return pod_server(
        namespace,
        model=model,
        properties={"model.delivery": way, **properties},
        image=PYTHON,
        node_selector={"kubernetes.io/hostname": node},
        storage=Storage(claim=CLAIM, size="1Gi"),
    )

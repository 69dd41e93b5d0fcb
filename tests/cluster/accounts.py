"""Users with fewer rights than the administrator that the tests are."""

from pathlib import Path

from meshtui.deploy.kubernetes.api import Cluster, Json
from tests.cluster.control_plane import ControlPlane


async def account_token(cluster: Cluster, namespace: str, name: str) -> str:
    """A new service account's token."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    await cluster.create(
        accounts, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    )
    request: Json = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600},
    }
    answer = await cluster.create(f"{accounts}/{name}/token", request)
    return str(answer["status"]["token"])


async def account_config(
    cluster: Cluster, control_plane: ControlPlane, namespace: str, name: str
) -> Path:
    """A kubeconfig of a new account that may do nothing yet."""
    return control_plane.kubeconfig_for(await account_token(cluster, namespace, name), name)


def subject(namespace: str, name: str) -> Json:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}

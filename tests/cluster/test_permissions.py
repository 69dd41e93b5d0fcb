"""The printed Role is enough, and each verb of it is needed to be allowed."""

import pytest

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.objects import fetch_job, manifests, owned_by, path_of
from meshtui.deploy.kubernetes.permissions import role, role_binding
from meshtui.domain.execution import Storage
from tests.cluster.accounts import account_config, subject
from tests.cluster.control_plane import ControlPlane
from tests.support.pod_servers import pod_server

pytestmark = pytest.mark.cluster


async def test_the_role_is_enough_for_a_server_from_its_making_to_its_end(
    cluster: Cluster, namespace: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    for manifest in (role(namespace), role_binding(namespace, subject(namespace, "user"))):
        await cluster.apply(path_of(manifest), manifest)
    config = await account_config(cluster, control_plane, namespace, "user")
    monkeypatch.setenv("KUBECONFIG", str(config))
    user = await Cluster.connect()
    try:
        server = pod_server(namespace, storage=Storage(size="1Gi"))
        claim, made, *rest = manifests(server)
        await user.apply(path_of(claim), claim)
        parent = await user.apply(path_of(made), made)
        for child in (*rest, fetch_job(server)):
            await user.apply(path_of(child), owned_by(parent, child))
        for resource in ("pods", "events"):
            assert "items" in await user.get(f"/api/v1/namespaces/{namespace}/{resource}")
        scaled = await user.patch(path_of(made), {"spec": {"replicas": 0}})
        assert scaled["spec"]["replicas"] == 0
        await user.delete(path_of(made), propagationPolicy="Background")
        with pytest.raises(ClusterError) as elsewhere:
            await user.get("/api/v1/namespaces/default/pods")
        assert elsewhere.value.status == 403
    finally:
        await user.close()

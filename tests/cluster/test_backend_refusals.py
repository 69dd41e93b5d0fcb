"""Where a cluster does not do what is asked of it, it is told why, and nothing is left."""

import asyncio
from pathlib import Path

import pytest

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.permissions import role, role_binding
from meshtui.domain.errors import StartFailed
from meshtui.domain.server import Phase
from tests.cluster.accounts import account_config, subject
from tests.cluster.conftest import Access
from tests.cluster.control_plane import ControlPlane
from tests.cluster.test_backend import nothing_left
from tests.cluster.test_backend_shared import ID, workstation

pytestmark = pytest.mark.cluster


async def test_who_may_not_look_is_told_and_may_try_again_when_allowed(
    use_cluster: Access,
    cluster: Cluster,
    namespace: str,
    control_plane: ControlPlane,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = await account_config(cluster, control_plane, namespace, "guest")
    monkeypatch.setenv("KUBECONFIG", str(own))
    access = Access(str(own), use_cluster.context)
    async with workstation(access, namespace, "no-node", tmp_path) as guest:
        with pytest.raises(StartFailed) as refused:
            await guest.ready()
        assert refused.value.explanation is not None
        assert "may not" in refused.value.explanation.cause, refused.value.explanation
        assert guest.status is not None and guest.status.phase is Phase.FAILED
        assert guest.status.place is not None and guest.status.place.trouble is not None
        # Whoever runs the cluster grants what `meshtui connection rbac` prints.
        rules = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        await cluster.create(f"{rules}/roles", role(namespace))
        binding = role_binding(namespace, subject(namespace, "guest"))
        await cluster.create(f"{rules}/rolebindings", binding)
        await guest.manager.start(guest.connection, guest.enabled)
        seen = await guest.until(lambda status: status.explanation is not None, "it is placed")
        assert seen.phase is Phase.SCHEDULING
        assert (await guest.manager.stop(ID)).phase is Phase.STOPPED
        await guest.manager.remove(ID)
    await nothing_left(cluster, namespace)


async def test_a_pod_that_no_node_takes_is_explained_and_can_be_called_off(
    use_cluster: Access, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with workstation(use_cluster, namespace, "no-such-node", tmp_path) as own:
        asking = asyncio.ensure_future(own.ready())
        seen = await own.until(lambda status: status.explanation is not None, "it is explained")
        assert seen.phase is Phase.SCHEDULING and seen.explanation is not None
        assert seen.phases[-1].message == seen.explanation.cause
        assert not asking.done(), "a node may become free at any time"
        stopped = await own.manager.stop(ID)
        assert stopped.phase is Phase.STOPPED and stopped.explanation is None
        with pytest.raises(StartFailed):
            await asking
        await own.manager.remove(ID)
    await nothing_left(cluster, namespace)


async def test_a_namespace_that_ends_takes_no_new_server(
    use_cluster: Access, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    # Something that keeps the namespace from being gone at once.
    held = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "held", "finalizers": ["meshtui.io/test"]},
    }
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    await cluster.create(maps, held)
    try:
        await cluster.delete(f"/api/v1/namespaces/{namespace}")
        async with workstation(use_cluster, namespace, "no-node", tmp_path) as own:
            with pytest.raises(StartFailed) as refused:
                await own.ready()
            assert refused.value.explanation is not None
            assert "is being deleted" in refused.value.explanation.cause
            await nothing_left(cluster, namespace)
            await own.manager.remove(ID)
    finally:
        await cluster.patch(f"{maps}/held", {"metadata": {"finalizers": None}})

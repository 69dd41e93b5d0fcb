"""The printed Role is enough, and each verb of it is needed to be allowed."""

import asyncio
from pathlib import Path

import pytest

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.objects import fetch_job, manifests, owned_by, path_of
from meshtui.deploy.kubernetes.permissions import PERMISSIONS, Permission, role, role_binding
from meshtui.deploy.kubernetes.preflight import permissions
from meshtui.domain.execution import KubernetesExecution, Storage
from meshtui.domain.finding import Level
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


async def test_each_verb_that_is_missing_is_named(
    cluster: Cluster, namespace: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One account for each, which may do everything but that."""
    wanted = [(permission, verb) for permission in PERMISSIONS for verb in permission.verbs]

    async def but(permission: Permission, verb: str) -> Path:
        name = f"no-{verb}-{permission.name.replace('/', '-')}"
        rules = role(namespace, name=name)
        rule = rules["rules"][PERMISSIONS.index(permission)]
        rule["verbs"] = [one for one in permission.verbs if one != verb]
        if not rule["verbs"]:
            rules["rules"].remove(rule)
        for manifest in (rules, role_binding(namespace, subject(namespace, name), name=name)):
            await cluster.apply(path_of(manifest), manifest)
        return await account_config(cluster, control_plane, namespace, name)

    configs = await asyncio.gather(*(but(*one) for one in wanted))
    execution = KubernetesExecution(name="gpu", namespace=namespace)
    for (permission, verb), config in zip(wanted, configs, strict=True):
        monkeypatch.setenv("KUBECONFIG", str(config))
        user = await Cluster.connect()
        try:
            async with asyncio.timeout(60):
                while len(found := await permissions(user, execution)) > 1:
                    await asyncio.sleep(0.05)  # the rules of this account are not known yet
        finally:
            await user.close()
        (finding,) = found
        assert finding.rule == f"permission-{permission.name}", finding
        assert f"You may not {verb} {permission.name}, " in finding.message
        assert finding.level is (Level.BLOCKER if permission.needed else Level.WARNING)

"""Servers are made, shared and taken away on a real cluster, and nothing is left behind."""

import asyncio

import msgspec
import pytest

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.client import api_key, delete, deploy, drift, read_spec, scale
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.objects import MANAGED_SELECTOR, deployment, path_of, secret
from meshtui.deploy.kubernetes.spec import API_KEY, Secrets
from meshtui.domain.execution import Resources, Storage
from tests.cluster.waiting import until
from tests.support.pod_servers import pod_server

pytestmark = pytest.mark.cluster


async def left(cluster: Cluster, namespace: str) -> list[str]:
    """Everything of ours in the namespace, but for the volumes."""
    found = []
    for path in (
        *("/api/v1/namespaces/{}/pods", "/api/v1/namespaces/{}/services"),
        *("/api/v1/namespaces/{}/secrets", "/apis/apps/v1/namespaces/{}/deployments"),
        *("/apis/apps/v1/namespaces/{}/replicasets", "/apis/batch/v1/namespaces/{}/jobs"),
    ):
        items = (await cluster.get(path.format(namespace), labelSelector=MANAGED_SELECTOR))["items"]
        found += [f"{path.rpartition('/')[2]}/{one['metadata']['name']}" for one in items]
    return found


async def test_a_server_is_made_once_and_deleted_without_a_trace(
    cluster: Cluster, namespace: str
) -> None:
    server = pod_server(namespace, storage=Storage(size="1Gi"))
    made = await deploy(cluster, server)
    again = await deploy(cluster, server)
    assert again["metadata"]["generation"] == made["metadata"]["generation"] == 1
    kept = await cluster.get(path_of(secret(server)))
    assert kept["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    await delete(cluster, namespace, server.name)
    await delete(cluster, namespace, server.name)
    async with asyncio.timeout(120):
        while await left(cluster, namespace):
            await asyncio.sleep(0.05)
    claims = await cluster.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")
    assert len(claims["items"]) == 1  # what was fetched stays


async def test_nothing_is_made_where_the_cluster_would_refuse_a_part(
    cluster: Cluster, namespace: str
) -> None:
    with pytest.raises(ClusterError) as refused:
        # A request above its limit.
        wishes = Resources(cpu_request="2", cpu_limit="1")
        await deploy(cluster, pod_server(namespace, resources=wishes, storage=Storage()))
    assert refused.value.status in (400, 422)
    assert await left(cluster, namespace) == []
    claims = await cluster.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")
    assert claims["items"] == []


async def test_a_resting_server_is_not_woken_by_being_described_anew(
    cluster: Cluster, namespace: str
) -> None:
    server = pod_server(namespace)
    await deploy(cluster, server)
    await scale(cluster, namespace, server.name, 0)
    again = await deploy(cluster, pod_server(namespace, environment={"NCCL_DEBUG": "INFO"}))
    assert again["spec"]["replicas"] == 0
    assert (await scale(cluster, namespace, server.name, 1))["spec"]["replicas"] == 1


async def test_two_controllers_at_once_make_one_server(cluster: Cluster, namespace: str) -> None:
    server = pod_server(namespace)
    one, two = await asyncio.gather(deploy(cluster, server), deploy(cluster, server))
    assert one["metadata"]["uid"] == two["metadata"]["uid"]
    scaled = await asyncio.gather(
        *(scale(cluster, namespace, server.name, number) for number in (0, 0, 0, 0))
    )
    assert {found["spec"]["replicas"] for found in scaled} == {0}
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    assert len((await cluster.get(deployments))["items"]) == 1


async def test_what_others_changed_is_shown_and_not_undone(
    cluster: Cluster, namespace: str
) -> None:
    server = pod_server(namespace)
    made = await deploy(cluster, server)
    assert drift(made) == ()
    path = path_of(deployment(server))
    theirs: Json = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": server.name},
        "spec": {"template": {"spec": {"terminationGracePeriodSeconds": 5}}},
    }
    query = {"fieldManager": "kubectl-edit", "force": "true"}
    await cluster._json("PATCH", path, query, theirs, "application/apply-patch+yaml")
    changed = await cluster.get(path)
    assert drift(changed) == ("kubectl-edit: spec.template.spec.terminationGracePeriodSeconds",)
    with pytest.raises(ClusterError) as conflict:
        await deploy(cluster, server)
    assert conflict.value.status == 409 and "kubectl-edit" in conflict.value.message
    assert (await cluster.get(path))["metadata"]["uid"] == made["metadata"]["uid"]


async def test_another_meshtui_reads_what_a_server_was_meant_to_be(
    cluster: Cluster, namespace: str
) -> None:
    server = pod_server(namespace, gpus=2, enabled={"max_tokens": 4096})
    made = await deploy(cluster, server)
    spec = read_spec(made)
    assert spec is not None and spec.execution == server.execution
    assert (spec.connection, spec.enabled.max_tokens) == ("cloud", 4096)
    made["metadata"]["annotations"]["meshtui.io/spec"] = '{"of": "tomorrow"}'
    assert read_spec(made) is None


async def test_a_namespace_that_ends_ends_its_servers(cluster: Cluster, namespace: str) -> None:
    server = pod_server(namespace)
    await deploy(cluster, server)
    await cluster.delete(f"/api/v1/namespaces/{namespace}")
    await until(cluster, path_of(deployment(server)), lambda found: found is None)


async def test_many_who_make_a_server_at_once_make_one(cluster: Cluster, namespace: str) -> None:
    for attempt in range(5):
        server = pod_server(namespace, model=f"org/model-{attempt}")
        wishes = []
        for number in range(6):
            own = Secrets({**server.secrets.values, API_KEY: f"key-{number}"})
            wishes.append(msgspec.structs.replace(server, secrets=own))
        made = await asyncio.gather(*(deploy(cluster, wish) for wish in wishes))
        assert len({one["metadata"]["uid"] for one in made}) == 1
        kept = await cluster.get(path_of(secret(server)))
        (owner,) = kept["metadata"]["ownerReferences"]
        assert owner["uid"] == made[0]["metadata"]["uid"]
        key = await api_key(cluster, namespace, server.name)
        assert key is not None and key.startswith("key-")

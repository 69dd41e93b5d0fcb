"""A real API server, its admission and its controllers take the objects as they are meant."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.objects import (
    deployment,
    fetch_job,
    manifests,
    owned_by,
    path_of,
    secret,
    service,
)
from meshtui.deploy.kubernetes.spec import PodServer
from meshtui.domain.execution import Resources, Storage, Toleration
from tests.cluster.conftest import Access
from tests.cluster.waiting import until
from tests.support.pod_servers import pod_server

pytestmark = pytest.mark.cluster

FULL: dict[str, Any] = {
    "gpus": 2,
    "node_selector": {"nvidia.com/gpu.product": "NVIDIA-L40S"},
    "tolerations": (Toleration(key="team", value="a", effect="NoSchedule"),),
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]
            }
        }
    },
    "service_account": "runner",
    "image_pull_secrets": ("registry",),
    "labels": {"team": "a"},
    "annotations": {"note": "any text: 1"},
    "environment": {"NCCL_DEBUG": "INFO"},
    "resources": Resources(cpu_request="4", memory_request="16Gi", memory_limit="64Gi"),
    "storage": Storage(size="10Gi", access_mode="ReadWriteMany"),
}


async def dry(cluster: Cluster, server: PodServer) -> None:
    for manifest in [*manifests(server), *([fetch_job(server)] if server.fetched_to else [])]:
        kept = await cluster.apply(path_of(manifest), manifest, dry_run=True)
        assert kept["metadata"]["name"] == manifest["metadata"]["name"]


@pytest.mark.parametrize("security", ["default", "restricted", "openshift"])
@pytest.mark.parametrize("wishes", [{}, FULL], ids=["plain", "full"])
async def test_every_object_is_accepted(
    cluster: Cluster, namespace: str, security: str, wishes: dict[str, Any]
) -> None:
    await dry(cluster, pod_server(namespace, security=security, **wishes))


@pytest.mark.parametrize(
    ("security", "allowed"), [("default", False), ("restricted", True), ("openshift", True)]
)
async def test_restricted_profiles_pass_pod_security(
    cluster: Cluster, namespace: str, security: str, allowed: bool
) -> None:
    enforce = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await cluster.patch(f"/api/v1/namespaces/{namespace}", enforce)
    server = pod_server(namespace, security=security, storage=Storage())
    for manifest in (deployment(server), fetch_job(server)):
        template = manifest["spec"]["template"]
        # A Deployment is only warned of: the rule is for its pods.
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": "one", "namespace": namespace},
            "spec": template["spec"],
        }
        try:
            await cluster.apply(path_of(pod), pod, dry_run=True)
            assert allowed
        except ClusterError as error:
            assert not allowed and error.explanation.failure_id == "k8s-podsecurity"


async def test_deleting_the_deployment_deletes_the_rest_but_the_volume(
    cluster: Cluster, namespace: str
) -> None:
    server = pod_server(namespace, storage=Storage(size="1Gi"))
    claim, made, *_ = manifests(server)
    await cluster.apply(path_of(claim), claim)
    parent = await cluster.apply(path_of(made), made)
    children = [owned_by(parent, one) for one in (service(server), secret(server))]
    for child in children:
        await cluster.apply(path_of(child), child)
    pods = f"/api/v1/namespaces/{namespace}/pods"
    await until(cluster, pods, lambda found: len(found["items"]) == 1)
    await cluster.delete(path_of(made), propagationPolicy="Foreground")
    for child in children:
        await until(cluster, path_of(child), lambda found: found is None)
    await until(cluster, path_of(made), lambda found: found is None)
    await until(cluster, pods, lambda found: not found["items"])
    assert (await cluster.get(path_of(claim)))["metadata"]["name"] == "meshtui-models"


async def test_kubectl_applies_the_printed_objects(
    use_cluster: Access, namespace: str, kubectl: Path
) -> None:
    server = pod_server(namespace, **FULL)
    text = yaml.safe_dump_all(manifests(server), sort_keys=False)
    access = ("--kubeconfig", use_cluster.kubeconfig, "--context", use_cluster.context)
    for mode in ("--dry-run=server", "--validate=strict"):
        done = subprocess.run(
            [kubectl, *access, "apply", mode, "-f", "-"], input=text, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert f"deployment.apps/{server.name} created" in done.stdout

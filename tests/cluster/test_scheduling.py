"""What the real scheduler and the real admission say when no pod can run, in words."""

from typing import Any

import pytest

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.objects import claim, path_of
from meshtui.domain.execution import Resources, Storage, Toleration
from meshtui.domain.server import Phase
from tests.cluster.looking import Placed
from tests.cluster.nodes import PlayedKubelet
from tests.support.pod_servers import pod_server

pytestmark = pytest.mark.cluster

TEAM = {"key": "team", "value": "vision", "effect": "NoSchedule"}


async def place(cluster: Cluster, namespace: str, **execution: Any) -> Placed:
    placed = Placed(cluster, pod_server(namespace, **execution))
    await placed.apply()
    return placed


@pytest.mark.parametrize(
    ("nodes", "execution", "failure_id", "words"),
    [
        ([{"gpus": 1}], {"gpus": 2}, "k8s-insufficient-gpu", "1 has too few free GPUs"),
        ([{"gpus": 0}], {}, "k8s-insufficient-gpu", "1 has too few free GPUs"),
        (
            [{"taints": [TEAM]}],
            {},
            "k8s-taint",
            "1 has a taint that the pod does not tolerate",
        ),
        (
            [{}],
            {"node_selector": {"nvidia.com/gpu.product": "NVIDIA-H100"}},
            "k8s-node-selector",
            "labels that the node selector or affinity does not want",
        ),
        (
            [{}],
            {"resources": Resources(memory_request="900Gi")},
            "k8s-insufficient-cpu-mem",
            "1 has too little free memory",
        ),
    ],
    ids=["more-than-a-node-has", "no-gpu", "taint", "selector", "memory"],
)
async def test_a_pod_that_no_node_takes_says_why(
    cluster: Cluster,
    namespace: str,
    kubelet: PlayedKubelet,
    nodes: list[dict[str, Any]],
    execution: dict[str, Any],
    failure_id: str,
    words: str,
) -> None:
    for node in nodes:
        await kubelet.node(**node)
    seen = await (await place(cluster, namespace, **execution)).explained()
    assert seen.phase is Phase.SCHEDULING and seen.explanation is not None
    assert seen.explanation.failure_id == failure_id
    assert words in seen.explanation.cause
    assert seen.message == seen.explanation.cause and seen.explanation.fix


async def test_all_reasons_are_told_not_only_the_first(
    cluster: Cluster, namespace: str, kubelet: PlayedKubelet
) -> None:
    await kubelet.node(gpus=1)
    await kubelet.node(gpus=1)
    await kubelet.node(gpus=8, taints=[TEAM])
    placed = await place(cluster, namespace, gpus=4)
    seen = await placed.until(lambda s: s.explanation and "too few" in s.explanation.cause)
    assert seen.explanation is not None
    assert "2 have too few free GPUs" in seen.explanation.cause
    assert "1 has a taint" in seen.explanation.cause
    assert "Add a toleration" in seen.explanation.fix
    assert "Stop another server" in seen.explanation.fix


async def test_the_pod_is_placed_as_soon_as_the_reason_is_gone(
    cluster: Cluster, namespace: str, kubelet: PlayedKubelet
) -> None:
    placed = await place(cluster, namespace, tolerations=(Toleration(**TEAM),))
    await placed.explained()
    node = await kubelet.node(taints=[TEAM, {"key": "nvidia.com/gpu", "effect": "NoSchedule"}])
    seen = await placed.until(lambda s: s.node == node)
    assert seen.explanation is None


async def test_the_last_gpu_is_given_once(
    cluster: Cluster, namespace: str, kubelet: PlayedKubelet
) -> None:
    await kubelet.node(gpus=1)
    first = await place(cluster, namespace)
    await first.pod()
    second = Placed(cluster, pod_server(namespace, model="org/other"))
    await second.apply()
    seen = await second.explained()
    assert seen.explanation and seen.explanation.failure_id == "k8s-insufficient-gpu"


async def test_a_volume_that_cannot_be_made_is_the_reason(
    cluster: Cluster, namespace: str, kubelet: PlayedKubelet
) -> None:
    await kubelet.node()
    placed = await place(cluster, namespace, storage=Storage(storage_class="nowhere", size="1Gi"))
    seen = await placed.explained()
    assert seen.explanation and seen.explanation.failure_id == "k8s-pvc-unbound"  # no claim at all
    wanted = claim(placed.server)
    await cluster.apply(path_of(wanted), wanted)
    seen = await placed.until(
        lambda s: s.explanation and "unbound" in s.explanation.excerpt  # never bound either
    )
    assert seen.explanation and "storage class must exist" in seen.explanation.fix


@pytest.mark.parametrize(
    ("execution", "failure_id"),
    [
        ({"gpus": 2}, "k8s-quota"),
        ({"service_account": "nobody"}, "k8s-service-account"),
        ({"runtime_class": "nvidia"}, "k8s-runtimeclass"),
    ],
)
async def test_a_pod_that_is_not_even_made_says_why(
    cluster: Cluster, namespace: str, execution: dict[str, Any], failure_id: str
) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "gpus", "namespace": namespace},
        "spec": {"hard": {"requests.nvidia.com/gpu": "1"}},
    }
    await cluster.create(f"/api/v1/namespaces/{namespace}/resourcequotas", quota)
    seen = await (await place(cluster, namespace, **execution)).explained()
    assert seen.phase is Phase.FAILED
    assert seen.explanation and seen.explanation.failure_id == failure_id, seen.explanation


async def test_a_namespace_that_is_being_deleted_takes_nothing(
    cluster: Cluster, namespace: str
) -> None:
    space = f"/api/v1/namespaces/{namespace}"
    held = {"metadata": {"finalizers": ["meshtui.io/test"]}}
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "held", **held["metadata"]},
    }
    await cluster.create(f"{space}/configmaps", config)
    await cluster.delete(space)
    try:
        with pytest.raises(Exception, match="being deleted") as refused:
            await place(cluster, namespace)
        assert refused.value.explanation.failure_id == "k8s-namespace-terminating"  # type: ignore[attr-defined]
    finally:
        await cluster.patch(f"{space}/configmaps/held", {"metadata": {"finalizers": []}})

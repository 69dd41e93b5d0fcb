"""From objects of a real API server to phases and reasons; what a kubelet reports is played."""

import pytest

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.objects import deployment, path_of
from meshtui.deploy.kubernetes.phases import observe
from meshtui.domain.server import Explanation, Phase
from tests.cluster.looking import Placed
from tests.cluster.nodes import PlayedKubelet
from tests.support.pod_servers import pod_server

pytestmark = pytest.mark.cluster

CUDA_OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 14.56 GiB of which 1.20 GiB is free."
)


class Running(Placed):
    """A server whose pod has a node."""

    name: str

    @classmethod
    async def make(cls, cluster: Cluster, namespace: str, kubelet: PlayedKubelet) -> "Running":
        await kubelet.node()
        placed = cls(cluster, pod_server(namespace))
        await placed.apply()
        placed.name = await placed.pod()
        return placed

    async def why(self) -> Explanation:
        seen = await self.explained()
        assert seen.explanation is not None and seen.explanation.fix
        return seen.explanation


@pytest.fixture
async def server(cluster: Cluster, namespace: str, kubelet: PlayedKubelet) -> Running:
    return await Running.make(cluster, namespace, kubelet)


async def test_the_way_from_nothing_to_ready_to_nothing(
    server: Running, cluster: Cluster, kubelet: PlayedKubelet
) -> None:
    path = path_of(deployment(server.server))
    assert (await server.look()).phase is Phase.SCHEDULING
    await kubelet.pulling(server.name)
    seen = await server.look()
    assert seen.phase is Phase.PULLING_IMAGE and "vllm" in seen.message and seen.since
    await kubelet.running(server.name)
    assert (await server.look()).phase is Phase.STARTING
    await kubelet.event(server.name, "Unhealthy", "Startup probe failed: connection refused")
    seen = await server.look()
    assert seen.phase is Phase.STARTING and seen.explanation is None  # it is still loading
    await kubelet.running(server.name, ready=True)
    seen = await server.look()
    assert (seen.phase, seen.pod, seen.restarts) == (Phase.READY, server.name, 0)
    assert seen.node and seen.explanation is None

    await cluster.patch(path, {"spec": {"replicas": 0}})  # idle
    assert (await server.until(lambda s: s.phase is not Phase.READY)).phase is Phase.STOPPING
    await kubelet.gone(server.name)
    assert (await server.until(lambda s: s.phase is not Phase.STOPPING)).phase is Phase.STOPPED
    await cluster.patch(path, {"spec": {"replicas": 1}})  # woken
    await server.until(lambda s: s.phase is Phase.SCHEDULING and s.node)
    await cluster.delete(path, propagationPolicy="Background")
    await server.until(lambda s: s.phase in (Phase.STOPPING, Phase.STOPPED))


async def test_a_pod_that_is_deleted_is_followed_by_another(
    server: Running, cluster: Cluster, kubelet: PlayedKubelet, namespace: str
) -> None:
    await kubelet.running(server.name, ready=True)
    assert (await server.look()).phase is Phase.READY
    await cluster.delete(f"/api/v1/namespaces/{namespace}/pods/{server.name}")
    seen = await server.until(lambda s: s.phase is Phase.SCHEDULING)
    await kubelet.gone(server.name)
    seen = await server.until(lambda s: s.pod not in (None, server.name))
    assert seen.phase is Phase.SCHEDULING and seen.explanation is None


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ('failed to resolve reference "x": not found', "The registry has no image"),
        ("pull access denied, authorization failed", "does not let the cluster have"),
        ("toomanyrequests: You have reached your pull rate limit", "asked for too often"),
        ("dial tcp: lookup registry: no such host", "do not reach the registry"),
        ("write /usr/lib: no space left on device", "disk"),
    ],
)
async def test_an_image_that_does_not_arrive_says_why(
    server: Running, kubelet: PlayedKubelet, said: str, cause: str
) -> None:
    await kubelet.waiting(server.name, "ImagePullBackOff", 'Back-off pulling image "i"')
    await kubelet.event(server.name, "Failed", f'Failed to pull image "i": {said}')
    why = await server.why()
    assert cause in why.cause and (await server.look()).phase is Phase.PULLING_IMAGE
    assert why.failure_id in ("k8s-image-pull", "k8s-image-no-space")


async def test_memory_of_the_host_and_of_the_gpu_are_told_apart(
    server: Running, kubelet: PlayedKubelet
) -> None:
    await kubelet.crashed(server.name, code=137, reason="OOMKilled")
    host = await server.why()
    assert host.failure_id == "k8s-oomkilled" and "not GPU memory" in host.cause
    await kubelet.crashed(server.name, code=1, message=f"Traceback\n{CUDA_OOM}\n", restarts=2)
    gpu = await server.why()
    assert gpu.failure_id != host.failure_id and "GPU" in gpu.cause
    assert "14.56 GiB" in gpu.excerpt


async def test_a_crash_loop_is_explained_by_the_engines_last_words(
    server: Running, kubelet: PlayedKubelet
) -> None:
    words = (
        "ValueError: To serve at least one request with the model's max seq len (131072), (16.00 "
        "GiB KV cache is needed, which is larger than the available KV cache memory (4.10 GiB). "
        "Based on the available memory, the estimated maximum model length is 33584."
    )
    await kubelet.crashed(server.name, message=words, restarts=3)
    seen = await server.explained()
    assert seen.previous and seen.restarts == 3 and seen.phase is Phase.STARTING
    assert seen.explanation and "33584" in seen.explanation.fix


async def test_a_probe_that_gave_up_is_told_from_a_kill(
    server: Running, kubelet: PlayedKubelet
) -> None:
    await kubelet.crashed(server.name, code=137)
    assert "killed the engine" in (await server.why()).cause
    said = "Container server failed startup probe, will be restarted"
    await kubelet.event(server.name, "Killing", said)
    assert (await server.why()).failure_id == "k8s-liveness-killed"


@pytest.mark.parametrize(
    ("reason", "message", "failure_id"),
    [
        (
            "Evicted",
            "The node was low on resource: ephemeral-storage. Threshold quantity: 10.",
            "k8s-ephemeral-evicted",
        ),
        (
            "Evicted",
            'Usage of EmptyDir volume "models" exceeds the limit "1Gi".',
            "k8s-emptydir-limit",
        ),
        ("Evicted", "The node was low on resource: memory.", "k8s-evicted"),
        (
            "UnexpectedAdmissionError",
            "Pod Allocate failed due to requested number of devices unavailable for "
            "nvidia.com/gpu. Requested: 1, Available: 0, which is unexpected",
            "k8s-admission-gpu",
        ),
    ],
)
async def test_a_pod_that_the_node_throws_out_says_why(
    cluster: Cluster,
    server: Running,
    kubelet: PlayedKubelet,
    reason: str,
    message: str,
    failure_id: str,
) -> None:
    await kubelet.failed(server.name, reason, message)
    (thrown,) = [pod for pod in await server.pods() if pod["metadata"]["name"] == server.name]
    found = await cluster.get(path_of(deployment(server.server)))
    seen = observe(found, [thrown], [])  # before the controller makes another
    assert seen.phase is Phase.SCHEDULING and seen.explanation
    assert seen.explanation.failure_id == failure_id
    assert (await server.until(lambda s: s.pod != server.name)).phase is Phase.SCHEDULING


@pytest.mark.parametrize(
    ("reason", "message", "failure_id"),
    [
        ("CreateContainerConfigError", 'secret "mt-x" not found', "k8s-missing-secret"),
        (
            "RunContainerError",
            "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.9",
            "k8s-driver-too-old-hook",
        ),
        ("SomethingNew", "never heard of", "k8s-container-waiting"),
    ],
)
async def test_a_container_that_cannot_start_says_why(
    server: Running, kubelet: PlayedKubelet, reason: str, message: str, failure_id: str
) -> None:
    await kubelet.waiting(server.name, reason, message)
    why = await server.why()
    assert why.failure_id == failure_id and message in why.excerpt


async def test_a_volume_that_is_still_attached_elsewhere_is_the_reason(
    server: Running, kubelet: PlayedKubelet
) -> None:
    await kubelet.waiting(server.name, "ContainerCreating", "")
    said = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) x'
    await kubelet.event(server.name, "FailedAttachVolume", said)
    assert (await server.why()).failure_id == "k8s-multi-attach"

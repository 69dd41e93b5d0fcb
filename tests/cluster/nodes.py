"""GPU nodes as objects, and what their kubelets would report of pods, played.

The scheduler, the controllers and the API server are the real ones: they see no difference.
"""

import datetime
from typing import Any

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.errors import ClusterError
from tests.cluster.waiting import until

CONTAINER = "server"


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class PlayedKubelet:
    """Makes nodes for one test, and reports the states of its pods. `close` removes the nodes."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._nodes: list[str] = []

    async def node(
        self,
        *,
        gpus: int = 1,
        product: str = "NVIDIA-A100-SXM4-80GB",
        taints: list[Json] | None = None,
        labels: dict[str, str] | None = None,
        memory_mib: int = 81920,
    ) -> str:
        """A node that is ready, as NVIDIA's device plugin and feature discovery would leave it."""
        name = f"{self._namespace}-n{len(self._nodes)}"
        discovered = {
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": product,
            "nvidia.com/gpu.count": str(gpus),
            "nvidia.com/gpu.memory": str(memory_mib),
            "nvidia.com/gpu.compute.major": "8",
            "nvidia.com/gpu.compute.minor": "0",
            "nvidia.com/cuda.driver-version.full": "570.124.06",
            "nvidia.com/cuda.runtime-version.full": "12.8",
        }
        # One test's nodes are not to be those of another.
        own = {"kubernetes.io/hostname": name, "meshtui-test": self._namespace}
        node: Json = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {**own, **(discovered if gpus else {}), **(labels or {})},
            },
        }
        await self._cluster.create("/api/v1/nodes", node)
        self._nodes.append(name)
        resources = {"cpu": "16", "memory": "64Gi", "pods": "400"}
        if gpus:
            resources["nvidia.com/gpu"] = str(gpus)
        await self._cluster.patch(
            f"/api/v1/nodes/{name}/status",
            {
                "status": {
                    "capacity": resources,
                    "allocatable": resources,
                    "conditions": [
                        {
                            "type": "Ready",
                            "status": "True",
                            "reason": "KubeletReady",
                            "message": "kubelet is posting ready status",
                            "lastHeartbeatTime": now(),
                            "lastTransitionTime": now(),
                        }
                    ],
                }
            },
        )
        # Every new node is tainted as not ready; the controller that lifts it wants heartbeats.
        await self._cluster.patch(f"/api/v1/nodes/{name}", {"spec": {"taints": taints or []}})
        return name

    async def close(self) -> None:
        for name in self._nodes:
            await self._cluster.delete(f"/api/v1/nodes/{name}")

    # -- what a kubelet reports

    async def report(self, pod: str, status: Json) -> None:
        """Sets what is named of the pod's status; conditions stay."""
        await self._cluster.patch(f"{self._pod(pod)}/status", {"status": status})

    async def pulling(self, pod: str, image: str = "vllm/vllm-openai") -> None:
        await self.report(pod, {"phase": "Pending", "containerStatuses": [_waiting(image)]})
        await self.event(pod, "Pulling", f'Pulling image "{image}"', source="kubelet")

    async def waiting(self, pod: str, reason: str, message: str, restarts: int = 0) -> None:
        """A container that cannot start, in the words of the kubelet."""
        container = _waiting("i", reason, message)
        container["restartCount"] = restarts
        await self.report(pod, {"phase": "Pending", "containerStatuses": [container]})

    async def running(self, pod: str, *, ready: bool = False, restarts: int = 0) -> None:
        container = _container({"running": {"startedAt": now()}}, ready=ready, restarts=restarts)
        container["started"] = ready
        condition = {"status": "True" if ready else "False", "lastTransitionTime": now()}
        found = await self._cluster.get(self._pod(pod))
        conditions = [
            *(
                one
                for one in found["status"].get("conditions", [])
                if one["type"] not in ("Ready", "ContainersReady")
            ),
            {"type": "Ready", **condition},
            {"type": "ContainersReady", **condition},
        ]
        await self.report(
            pod,
            {
                "phase": "Running",
                "startTime": now(),
                "podIP": "10.1.0.1",
                "podIPs": [{"ip": "10.1.0.1"}],
                "containerStatuses": [container],
                "conditions": conditions,
            },
        )

    async def crashed(
        self,
        pod: str,
        *,
        code: int = 1,
        reason: str = "Error",
        message: str = "",
        restarts: int = 1,
    ) -> None:
        """It ended, and is held back before the next start."""
        ended = {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "startedAt": now(),
            "finishedAt": now(),
        }
        container = _container(
            {
                "waiting": {
                    "reason": "CrashLoopBackOff",
                    "message": f"back-off 10s restarting failed container={CONTAINER}",
                }
            },
            restarts=restarts,
        )
        container["lastState"] = {"terminated": ended}
        await self.report(pod, {"phase": "Running", "containerStatuses": [container]})

    async def failed(self, pod: str, reason: str, message: str) -> None:
        """The pod as a whole is over: evicted, or not admitted."""
        await self.report(pod, {"phase": "Failed", "reason": reason, "message": message})

    async def event(
        self, pod: str, reason: str, message: str, *, kind: str = "Warning", source: str = "kubelet"
    ) -> None:
        found = await self._cluster.get(self._pod(pod))
        await self._cluster.create(
            f"/api/v1/namespaces/{self._namespace}/events",
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"generateName": f"{pod}."},
                "involvedObject": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "namespace": self._namespace,
                    "name": pod,
                    "uid": found["metadata"]["uid"],
                },
                "reason": reason,
                "message": message,
                "type": "Normal" if reason in ("Pulling", "Pulled") else kind,
                "source": {"component": source},
                "firstTimestamp": now(),
                "lastTimestamp": now(),
                "count": 1,
            },
        )

    async def until_quota_is_counted(self, name: str) -> None:
        """A new quota counts as soon as its controller has seen it."""
        path = f"/api/v1/namespaces/{self._namespace}/resourcequotas/{name}"
        await until(self._cluster, path, lambda found: found and found["status"].get("hard"))

    async def gone(self, pod: str) -> None:
        """A pod that is being deleted has ended."""
        # Before its controller wants it to go, another would take its place.
        await until(
            self._cluster,
            self._pod(pod),
            lambda found: found is None or "deletionTimestamp" in found["metadata"],
        )
        try:
            await self._cluster.delete(self._pod(pod), gracePeriodSeconds=0)
        except ClusterError as error:
            if error.status != 404:
                raise

    def _pod(self, name: str) -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods/{name}"


def _container(state: Json, *, ready: bool = False, restarts: int = 0) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": "i",
        "imageID": "",
        "ready": ready,
        "restartCount": restarts,
        "state": state,
    }


def _waiting(image: str, reason: str = "ContainerCreating", message: str = "") -> dict[str, Any]:
    waiting = {"reason": reason, **({"message": message} if message else {})}
    return {**_container({"waiting": waiting}), "image": image}

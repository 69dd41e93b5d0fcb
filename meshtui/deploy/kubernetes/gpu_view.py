"""The GPU nodes of a cluster, asked for once, and what an execution config can have of them."""

import msgspec

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.node_fit import judge_nodes, takes_pods
from meshtui.deploy.kubernetes.nodes import GpuNode, gpu_nodes
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.finding import Finding, Level

_PAGE = "500"


class GpuView(msgspec.Struct, frozen=True):
    """All GPU nodes, those of them that take pods of the execution config, and what is to be said
    of them."""

    nodes: tuple[GpuNode, ...]
    fitting: tuple[GpuNode, ...]
    findings: tuple[Finding, ...]


async def look_at_gpu_nodes(cluster: Cluster, execution: KubernetesExecution) -> GpuView:
    """What one may not see is said. Raises nothing."""
    try:
        nodes = await _all(cluster, "/api/v1/nodes")
    except ClusterError as error:
        unseen = Finding(
            rule="gpu-nodes",
            level=Level.WARNING,
            message=f"GPUs are not known beforehand: {error.message}",
            fix="Servers can run all the same; the scheduler says where not.",
        )
        return GpuView((), (), (unseen,))
    try:
        pods: list[Json] | None = await _all(cluster, "/api/v1/pods")
    except ClusterError:
        pods = None
    found = gpu_nodes(nodes, pods)
    return GpuView(
        nodes=found,
        fitting=tuple(node for node in found if takes_pods(node, execution)),
        findings=tuple(judge_nodes(found, len(nodes), execution)),
    )


async def _all(cluster: Cluster, path: str) -> list[Json]:
    found: list[Json] = []
    query = {"limit": _PAGE}
    while True:
        page = await cluster.get(path, **query)
        found += page["items"]
        query["continue"] = page["metadata"].get("continue", "")
        if not query["continue"]:
            return found

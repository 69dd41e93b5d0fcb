"""Whether the GPU nodes of a cluster are such that pods can run on them."""

from meshtui.deploy.kubernetes.findings import ok, some
from meshtui.deploy.kubernetes.nodes import GpuNode, tolerates
from meshtui.deploy.kubernetes.pods import placement
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.finding import Finding, Level
from meshtui.domain.text import one_line

# The least that vLLM's kernels are compiled for.
_LEAST_CAPABILITY = 7.0


def judge_nodes(
    nodes: tuple[GpuNode, ...], total: int, execution: KubernetesExecution
) -> list[Finding]:
    """What can be said of them; `total` is the number of all nodes, with GPUs or without."""
    hidden = [node.name for node in nodes if not node.advertised]
    found = []
    if hidden:
        found.append(
            Finding(
                rule="device-plugin",
                level=Level.WARNING if len(hidden) < len(nodes) else Level.BLOCKER,
                message=f"{some(hidden)}: GPUs that no pod can have, as no device plugin "
                "advertises them.",
                fix="Install NVIDIA's GPU Operator or device plugin, or look why it failed there.",
            )
        )
    usable = [node for node in nodes if node.advertised]
    if not usable:
        if not hidden:
            found.append(
                Finding(
                    rule="gpu-nodes",
                    level=Level.WARNING,
                    message=f"None of the {total} nodes has GPUs now.",
                    fix="Fine where the cluster makes GPU nodes when pods need them; otherwise "
                    "there is none to run on.",
                )
            )
        return found
    fitting = [node for node in usable if takes_pods(node, execution)]
    if not fitting:
        reasons = "; ".join(f"{node.name}: {_reason_against(node, execution)}" for node in usable)
        found.append(
            Finding(
                rule="gpu-fit",
                level=Level.BLOCKER,
                message=f"No GPU node takes a pod of {execution.gpus} GPUs. {one_line(reasons)}.",
                fix="Change gpus, node_selector or tolerations in the execution config.",
            )
        )
        return found
    free = [node for node in fitting if node.free is None or node.free >= execution.gpus]
    products = ", ".join(sorted({node.product or "unknown GPUs" for node in fitting}))
    found.append(ok("gpu-nodes", f"{len(fitting)} of {total} nodes take the pods: {products}."))
    if not free:
        found.append(
            Finding(
                rule="gpu-free",
                level=Level.WARNING,
                message=f"No node has {execution.gpus} free GPUs now.",
                fix="Stop another server, or wait.",
            )
        )
    old = [
        node.name
        for node in fitting
        if node.compute_capability is not None and node.compute_capability < _LEAST_CAPABILITY
    ]
    if old:
        found.append(
            Finding(
                rule="gpu-capability",
                level=Level.BLOCKER if len(old) == len(fitting) else Level.WARNING,
                message=f"{some(old)}: the GPUs are too old for vLLM (compute capability below "
                f"{_LEAST_CAPABILITY}).",
                fix="Keep pods away from there with node_selector.",
            )
        )
    return found


def takes_pods(node: GpuNode, execution: KubernetesExecution) -> bool:
    """Whether the scheduler may put a pod there, sooner or later."""
    return node.advertised and _reason_against(node, execution) is None


def _reason_against(node: GpuNode, execution: KubernetesExecution) -> str | None:
    """Why the scheduler would never put a pod there; None where it may."""
    if not node.ready or node.closed:
        return "it is not ready" if not node.ready else "it takes no new pods"
    if node.count < execution.gpus:
        return f"it has {node.count} GPUs"
    for key, value in execution.node_selector.items():
        if node.labels.get(key) != value:
            return f"its label {key} is {node.labels.get(key) or 'not set'}"
    tolerations = placement(execution)["tolerations"]
    for taint in node.taints:
        if not tolerates(tolerations, taint):
            return f"its taint {taint} is not tolerated"
    return None

"""The GPUs that pods of a connection can have, for judging models that would run there."""

import asyncio
import time
from collections.abc import Iterable, Sequence

import msgspec

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.gpu_view import look_at_gpu_nodes
from meshtui.deploy.kubernetes.nodes import GpuNode
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.finding import Finding, Level
from meshtui.domain.memory import GpuSpec
from meshtui.engines.base import Machine
from meshtui.engines.gpus_here import GpuHere, GpusHere, spec_of

# Nodes come and go in minutes; their GPUs are taken and given back more often.
_FRESH_S = 20.0
# Who checks a model does not wait for a cluster that is away.
_PATIENCE_S = 5.0


class There(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod finds there. `gpus` are as many as it asks for, of the nodes that take it the
    least; none where they are not known. `findings` are about the nodes."""

    gpus: GpusHere = GpusHere()
    findings: tuple[Finding, ...] = ()


class ClusterGpus:
    """Looks at clusters, each execution config's at most every few seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, KubernetesExecution, There]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def look(self, execution: KubernetesExecution) -> There:
        """Raises nothing: what cannot be seen is a finding."""
        async with self._locks.setdefault(execution.name, asyncio.Lock()):
            before = self._seen.get(execution.name)
            if before is not None:
                at, of, there = before
                if of == execution and time.monotonic() - at < _FRESH_S:
                    return there
            there = await _look(execution)
            self._seen[execution.name] = (time.monotonic(), execution, there)
            return there


def machine_of(there: There, execution: KubernetesExecution) -> Machine:
    """The pod as a machine. Nodes that are not known are taken for such that have its GPUs."""
    specs = [one.spec for one in there.gpus.gpus]
    return Machine(
        gpu_count=execution.gpus,
        gpu_names=tuple(spec.label for spec in specs),
        compute_capability=min((spec.capability for spec in specs), default=0) / 10 or None,
    )


async def _look(execution: KubernetesExecution) -> There:
    proxy = execution.proxy.https if execution.proxy is not None else None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            cluster = await Cluster.connect(execution.context, proxy=proxy)
            try:
                view = await look_at_gpu_nodes(cluster, execution)
            finally:
                await cluster.close()
    except TimeoutError:
        return There(findings=(_unseen("The cluster does not answer."),))
    except MeshtuiError as error:
        return There(findings=(_unseen(error.message),))
    return There(gpus=gpus_of_pod(view.fitting, execution.gpus), findings=view.findings)


def gpus_of_pod(nodes: Sequence[GpuNode], count: int) -> GpusHere:
    """What a pod with so many GPUs can count on, wherever the scheduler puts it: the least of the
    nodes that have them free, or will have."""
    free = [node for node in nodes if node.free is None or node.free >= count]
    known = [(spec, node) for node in free or nodes if (spec := _spec(node)) is not None]
    if not known:
        return GpusHere()
    spec = min((spec for spec, _ in known), key=lambda one: (one.memory_bytes, one.capability))
    # Pods have GPUs to themselves: all of the memory is theirs.
    return GpusHere(
        gpus=(GpuHere(spec=spec, free_bytes=spec.memory_bytes),) * count,
        driver_cuda=_oldest(node.cuda for _, node in known),
    )


def _spec(node: GpuNode) -> GpuSpec | None:
    capability = node.compute_capability
    return spec_of(
        node.product,
        total_bytes=node.memory_bytes,
        capability=round(capability * 10) if capability is not None else None,
        source="the labels of its node",
    )


def _oldest(versions: Iterable[str | None]) -> str | None:
    known = [version for version in versions if version]
    return min(known, key=_parts, default=None)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _unseen(why: str) -> Finding:
    return Finding(
        rule="gpu-nodes",
        level=Level.WARNING,
        message=f"GPUs are not known beforehand: {why}",
        fix="Name a GPU to be judged for, or look at the cluster: meshtui doctor --connection NAME",
    )

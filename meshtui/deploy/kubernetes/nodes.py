"""GPU nodes as the cluster shows them: NVIDIA's labels and what the device plugin advertises."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from meshtui.deploy.kubernetes.api import Json
from meshtui.domain.text import one_line

GPU = "nvidia.com/gpu"
_MIB = 1024**2
# Labels of NVIDIA's GPU feature discovery, then those of clouds that do without it.
_PRODUCT_LABELS = (
    "nvidia.com/gpu.product",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "gpu.nvidia.com/class",
)
_PRESENT_LABELS = ("nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present")


class GpuNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node with GPUs. `count` is what pods may have of them, `free` what is left (None: the pods
    of other namespaces may not be seen). `memory_bytes` is that of one GPU. `taints` keep pods
    away that do not tolerate them (`key=value:effect`). `advertised` False: there is a GPU, but no
    device plugin that hands it out."""

    name: str
    product: str = ""
    count: int = 0
    free: int | None = None
    memory_bytes: int | None = None
    compute_capability: float | None = None
    driver: str | None = None
    cuda: str | None = None
    ready: bool = True
    closed: bool = False
    advertised: bool = True
    taints: tuple[str, ...] = ()
    labels: dict[str, str] = {}


def gpu_nodes(nodes: Iterable[Json], pods: Iterable[Json] | None) -> tuple[GpuNode, ...]:
    """The nodes with GPUs, by name. `pods` are those of all namespaces; None where they may not
    be seen."""
    used = None if pods is None else _used(pods)
    found = (_gpu_node(node, used) for node in nodes)
    return tuple(sorted((node for node in found if node is not None), key=lambda node: node.name))


def tolerates(tolerations: Iterable[Mapping[str, Any]], taint: str) -> bool:
    """Whether one of the tolerations (of a pod's spec) lets the pod onto a node with the taint."""
    key, value, effect = _taint_parts(taint)
    return any(
        (not one.get("effect") or one["effect"] == effect)
        and (
            one.get("operator") == "Exists"
            if not one.get("key")
            else one["key"] == key
            and (one.get("operator") == "Exists" or one.get("value", "") == value)
        )
        for one in tolerations
    )


def _gpu_node(node: Json, used: Mapping[str, int] | None) -> GpuNode | None:
    labels: dict[str, str] = node["metadata"].get("labels", {})
    status = node.get("status", {})
    count = _number(status.get("allocatable", {}).get(GPU)) or 0
    present = any(labels.get(label) == "true" for label in _PRESENT_LABELS)
    if not count and not present and GPU not in status.get("capacity", {}):
        return None
    name = node["metadata"]["name"]
    major = _number(labels.get("nvidia.com/gpu.compute.major"))
    minor = _number(labels.get("nvidia.com/gpu.compute.minor"))
    memory = _number(labels.get("nvidia.com/gpu.memory"))
    return GpuNode(
        name=one_line(name),
        product=next((one_line(labels[label]) for label in _PRODUCT_LABELS if label in labels), ""),
        count=count,
        free=None if used is None else max(0, count - used.get(name, 0)),
        memory_bytes=memory * _MIB if memory else None,
        compute_capability=None if major is None else major + (minor or 0) / 10,
        driver=_version(labels, "nvidia.com/cuda.driver-version", "nvidia.com/cuda.driver"),
        cuda=_version(labels, "nvidia.com/cuda.runtime-version", "nvidia.com/cuda.runtime"),
        ready=any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in status.get("conditions", [])
        ),
        closed=bool(node.get("spec", {}).get("unschedulable")),
        advertised=count > 0,
        taints=tuple(
            f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
            for taint in node.get("spec", {}).get("taints", [])
            if taint["effect"] != "PreferNoSchedule"
        ),
        labels=labels,
    )


def _used(pods: Iterable[Json]) -> dict[str, int]:
    """GPUs of the pods that hold some, by node. What init containers ask for is held before, not
    beside."""
    used: dict[str, int] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            asked = sum(map(_asked, pod["spec"].get("containers", [])))
            first = max(map(_asked, pod["spec"].get("initContainers", [])), default=0)
            used[node] = used.get(node, 0) + max(asked, first)
    return used


def _asked(container: Json) -> int:
    return _number(container.get("resources", {}).get("limits", {}).get(GPU)) or 0


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _version(labels: Mapping[str, str], newer: str, older: str) -> str | None:
    """`570.124.06`: one label of new releases of the discovery, three of old ones."""
    if full := labels.get(f"{newer}.full"):
        return one_line(full)
    parts = [labels.get(f"{older}.{part}") for part in ("major", "minor", "rev")]
    known = [part for part in parts if part]
    return one_line(".".join(known)) if known else None


def _taint_parts(taint: str) -> tuple[str, str, str]:
    found = re.fullmatch(r"([^=]*)=(.*):([^:]*)", taint)
    return (found[1], found[2], found[3]) if found else (taint, "", "")

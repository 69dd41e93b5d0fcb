"""The scheduler's message in words: every reason why no node takes a pod, and what helps."""

import re

import msgspec

from meshtui.domain.server import Explanation
from meshtui.domain.text import one_line

# kube-scheduler, framework/types.go (FitError):
# `0/4 nodes are available: 1 Insufficient x, 2 node(s) had ... . preemption: ...`.
_HEAD = re.compile(r"^0/(?P<nodes>\d+) nodes are available: ?")
_PREEMPTION = re.compile(r"\.? *(?:preemption|no new claims to deallocate)[:,].*$", re.DOTALL)
_REASON = re.compile(r"(?:^|, )(?=\d+ |pod has |pod didn't |persistentvolumeclaim )")
_COUNTED = re.compile(r"^(?P<count>\d+) (?P<text>.+)$")
_SELECTOR = "k8s-node-selector"


class Reason(msgspec.Struct, frozen=True):
    """One reason, and how many nodes it is the reason for (0: all, whatever the node)."""

    nodes: int
    text: str
    words: str
    fix: str
    failure_id: str


class _Known(msgspec.Struct, frozen=True):
    pattern: re.Pattern[str]
    words: str
    fix: str
    failure_id: str


# Texts of kube-scheduler 1.34 (framework/plugins); `words` follows "has" or "have".
_KNOWN = tuple(
    _Known(re.compile(pattern), words, fix, failure_id)
    for pattern, words, fix, failure_id in (
        (
            r"Insufficient nvidia\.com/gpu",
            "too few free GPUs",
            "Stop another server, lower gpus in the execution config, or wait for the cluster to "
            "grow. Where no node has GPUs at all, NVIDIA's device plugin is missing.",
            "k8s-insufficient-gpu",
        ),
        (
            r"Insufficient (?P<what>\S+)",
            "too little free {what}",
            "Take the request for {what} out of the execution config: GPU nodes need none.",
            "k8s-insufficient-cpu-mem",
        ),
        (
            r"didn't match Pod's node affinity/selector",
            "labels that the node selector or affinity does not want",
            "Compare node_selector and affinity in the execution config with the labels of the "
            "nodes: `meshtui doctor` lists the GPU products.",
            _SELECTOR,
        ),
        (
            r"had untolerated taint \{(?P<what>[^}]+)\}",  # before 1.34
            "the taint {what}, which the pod does not tolerate",
            "Add a toleration for {what} to the execution config if these nodes are meant for you.",
            "k8s-taint",
        ),
        (
            r"had untolerated taint",  # 1.34 does not name it any more
            "a taint that the pod does not tolerate",
            "Add a toleration for it to the execution config if these nodes are meant for you: "
            "`kubectl describe node` shows the taints.",
            "k8s-taint",
        ),
        (
            r"were unschedulable",
            "been closed to new pods",
            "Ask who runs the cluster when these nodes are open again.",
            "k8s-cordoned",
        ),
        (
            r"had volume node affinity conflict|didn't match PersistentVolume's node affinity",
            "no way to the volume, which lies in another zone",
            "Use a storage class that binds when the pod is placed (WaitForFirstConsumer), or one "
            "that all zones reach.",
            "k8s-volume-zone",
        ),
        (
            r"Too many pods",
            "as many pods as a node may have",
            "Wait, or use other nodes.",
            "k8s-too-many-pods",
        ),
        (
            r"unbound immediate PersistentVolumeClaims|persistentvolumeclaim \S+ (?:is )?not found|"
            r"didn't find available persistent volumes",
            "no volume for the models",
            "Look at storage in the execution config: the storage class must exist, and the claim "
            "be bound.",
            "k8s-pvc-unbound",
        ),
    )
)


def reasons(message: str) -> tuple[int, tuple[Reason, ...]]:
    """How many nodes the scheduler looked at, and its reasons against them."""
    text = one_line(message, 4000)
    head = _HEAD.match(text)
    nodes = int(head["nodes"]) if head else 0
    body = _PREEMPTION.sub("", text[head.end() :] if head else text).rstrip(". ")
    return nodes, tuple(_reason(part) for part in _REASON.split(body) if part.strip())


def explain_unschedulable(message: str) -> Explanation:
    """All reasons in one sentence each."""
    nodes, found = reasons(message)
    if not nodes and not found:
        return Explanation(
            cause="The cluster has no nodes.",
            fix="Wait for the cluster to grow, or ask who runs it.",
            failure_id="k8s-no-nodes",
        )
    said = "; ".join(_said(reason, nodes) for reason in found)
    cause = f"No node of {nodes} can take the pod: {said}." if nodes else f"{said}."
    return Explanation(
        cause=cause[0].upper() + cause[1:],
        fix=" ".join(dict.fromkeys(reason.fix for reason in found)),
        failure_id=_decisive(found),
        excerpt=one_line(message, 2000),
    )


def _decisive(found: tuple[Reason, ...]) -> str:
    """Nodes that were never meant for the pod say less than what is wrong with those that are."""
    others = [reason for reason in found if reason.failure_id != _SELECTOR]
    return next((reason.failure_id for reason in (*others, *found)), "k8s-unschedulable")


def _reason(part: str) -> Reason:
    counted = _COUNTED.match(part.strip(" ,"))
    nodes = int(counted["count"]) if counted else 0
    text = (counted["text"] if counted else part).strip()
    for known in _KNOWN:
        match = known.pattern.search(text)
        if match:
            what = _taint(match.groupdict().get("what") or "")
            return Reason(
                nodes,
                text,
                known.words.format(what=what),
                known.fix.format(what=what),
                known.failure_id,
            )
    plain = text.removeprefix("node(s) ")
    return Reason(
        nodes, text, plain, "Ask who runs the cluster what this means.", "k8s-unschedulable"
    )


def _taint(text: str) -> str:
    """`{key: value}` as the scheduler prints it; without a value a colon is left over."""
    return text.strip().rstrip(":").replace(": ", "=")


def _said(reason: Reason, of: int) -> str:
    if not reason.nodes:
        return (
            f"there is {reason.words}" if reason.failure_id == "k8s-pvc-unbound" else reason.words
        )
    if reason.failure_id == "k8s-unschedulable":
        return f"{reason.nodes} {reason.words}"
    who = "all" if reason.nodes == of > 1 else str(reason.nodes)
    return f"{who} {'has' if reason.nodes == 1 else 'have'} {reason.words}"

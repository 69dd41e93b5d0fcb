"""Messages of schedulers, old and new, in words. Real ones are asked in `tests/cluster`."""

import pytest

from meshtui.deploy.kubernetes.scheduling import explain_unschedulable, reasons


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            "0/4 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: present}, "
            "3 Insufficient nvidia.com/gpu. preemption: 0/4 nodes are available: 4 Preemption is "
            "not helpful for scheduling.",
            "No node of 4 can take the pod: 1 has the taint nvidia.com/gpu=present, which the pod "
            "does not tolerate; 3 have too few free GPUs.",
        ),
        (
            "0/6 nodes are available: 6 Insufficient nvidia.com/gpu.",
            "No node of 6 can take the pod: all have too few free GPUs.",
        ),
        (
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
            "No node of 1 can take the pod: there is no volume for the models.",
        ),
        (
            "0/2 nodes are available: 2 node(s) were unschedulable.",
            "No node of 2 can take the pod: all have been closed to new pods.",
        ),
        ("no nodes available to schedule pods", "No nodes available to schedule pods."),
        ("", "The cluster has no nodes."),
        (
            "0/2 nodes are available: 2 node(s) did a thing of tomorrow.",
            "No node of 2 can take the pod: 2 did a thing of tomorrow.",
        ),
    ],
)
def test_each_reason_is_said_in_words(message: str, cause: str) -> None:
    found = explain_unschedulable(message)
    assert found.cause == cause and found.fix and found.failure_id


def test_reasons_are_counted() -> None:
    nodes, found = reasons(
        "0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient nvidia.com/gpu, 1 node(s) "
        "didn't match Pod's node affinity/selector. preemption: 0/3 nodes are available: 1 x."
    )
    assert nodes == 3 and [reason.nodes for reason in found] == [1, 2, 1]
    assert found[0].words == "too little free cpu"


def test_nodes_that_were_never_meant_are_not_the_reason() -> None:
    found = explain_unschedulable(
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 2 "
        "Insufficient nvidia.com/gpu."
    )
    assert found.failure_id == "k8s-insufficient-gpu" and "node selector" in found.cause


def test_terminal_codes_in_a_message_are_taken_out() -> None:
    found = explain_unschedulable("0/1 nodes are available: 1 \x1b]0;title\x07bad\x1b[31m thing.")
    assert "\x1b" not in found.cause + found.excerpt and "title" not in found.cause

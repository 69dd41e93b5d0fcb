"""Why a container does not start, or ended: states, exit codes and last words, in words."""

from collections.abc import Sequence

import msgspec

from meshtui.deploy.kubernetes.api import Json
from meshtui.domain.server import Explanation
from meshtui.domain.text import one_line, sanitise
from meshtui.engines.failures import catalogue, explain, explain_exit

_WHERE = "pod"
# What the end by a probe's lost patience looks like from inside: an engine that was told to end may
# do so in good order, by the signal, or with a few last words; one that hangs is killed.
_ENDED_BY_PROBE = (0, 137, 143)
_TOLD_TO_END = (None, "killed", "terminated", "vllm-probe-killed")


def explain_waiting(reason: str, message: str, image: str, events: Sequence[Json]) -> Explanation:
    """Why a container cannot start. `reason` is a word of the kubelet; its events may say more
    than its state, which often only repeats the image's name."""
    said = [one_line(message, 1000)]
    said += [
        one_line(event.get("message", ""), 1000)
        for event in events
        if event.get("type") == "Warning" and event.get("reason") in ("Failed", reason)
    ]
    text = "\n".join(part for part in [*said, reason] if part)
    if found := _image(reason, image, text):
        return found
    found = explain(text, where=_WHERE)
    if found.failure_id is None:
        cause = f"The node cannot start the container ({reason})"
        detail = f": {said[0]}" if said[0] else ""
        return Explanation(
            cause=f"{cause}{detail}.",
            fix="Read the pod's events, and ask who runs the cluster.",
            failure_id="k8s-container-waiting",
            excerpt=text,
        )
    return msgspec.structs.replace(found, excerpt=text)


def explain_end(ended: Json, events: Sequence[Json]) -> Explanation:
    """Why a container ended, from its `terminated` state. Its message is the end of its log, as
    the pods ask for that."""
    code, reason = ended.get("exitCode"), ended.get("reason", "")
    message = sanitise(ended.get("message") or "")
    if reason == "OOMKilled":
        return _catalogued("k8s-oomkilled", "OOMKilled")
    engine = explain_exit(code, message)
    # What the engine itself says of its end goes before that a probe gave up on it.
    told = code in _ENDED_BY_PROBE or engine.failure_id == "vllm-probe-killed"
    if told and engine.failure_id in _TOLD_TO_END:
        for event in reversed(events):
            said = one_line(event.get("message", ""), 500)
            if event.get("reason") == "Killing" and "probe" in said:
                return _catalogued("k8s-liveness-killed", said)
    if engine.failure_id == "killed":
        return msgspec.structs.replace(
            engine,
            cause="Somebody killed the engine: the node may have run out of memory.",
            fix="Look at the node's memory; start it again.",
        )
    return engine


def explain_failed_pod(pod: Json) -> Explanation:
    """Why a pod as a whole is over: evicted, or not admitted by its node."""
    status = pod.get("status", {})
    text = f"{status.get('reason', '')} {one_line(status.get('message', ''), 1000)}".strip()
    found = explain(text, where=_WHERE)
    if found.failure_id is not None:
        return msgspec.structs.replace(found, excerpt=text)
    evicted = status.get("reason") == "Evicted"
    return Explanation(
        cause=f"The node evicted the pod: {one_line(status.get('message', ''), 500)}"
        if evicted
        else f"The pod failed: {text or 'it gave no reason'}.",
        fix="A new pod takes its place; if it stays, look at what else runs on that node.",
        failure_id="k8s-evicted" if evicted else "k8s-pod-failed",
        excerpt=text,
    )


def _image(reason: str, image: str, text: str) -> Explanation | None:
    """Why an image does not arrive, told apart."""
    if "Image" not in reason:
        return None
    name, low = one_line(image) or "the image", text.lower()
    if reason == "InvalidImageName":
        cause, fix = (
            f"{name} is not the name of an image.",
            "Correct image in the execution config.",
        )
    elif "no space left" in low:
        return _catalogued("k8s-image-no-space", text)
    elif any(word in low for word in ("unauthorized", "denied", "authentication required")):
        cause = f"The registry does not let the cluster have {name}."
        fix = "Name a pull secret in image_pull_secrets, or look at the image's name: registries "
        fix += "say the same of images that do not exist."
    elif "toomanyrequests" in low or "rate limit" in low:
        cause = f"The registry gives no more images for a while: {name} was asked for too often."
        fix = "Wait, use a mirror, or a pull secret of an account with a higher limit."
    elif "not found" in low or "manifest unknown" in low:
        cause = f"The registry has no image {name}."
        fix = "Correct image in the execution config: look at the tag."
    elif any(word in low for word in ("dial tcp", "timeout", "no such host", "connection refused")):
        cause = f"The nodes do not reach the registry of {name}."
        fix = "Use a registry that the cluster reaches, or ask who runs it about its proxy."
    else:
        cause = f"The image {name} cannot be pulled."
        fix = "Look at the image's name, the pull secrets, and whether nodes reach the registry."
    return Explanation(cause=cause, fix=fix, failure_id="k8s-image-pull", excerpt=text)


def _catalogued(failure_id: str, text: str) -> Explanation:
    """The entry of the catalogue with that name."""
    entry = next(one for one in catalogue() if one.id == failure_id)
    return Explanation(cause=entry.cause, fix=entry.fix, failure_id=failure_id, excerpt=text)

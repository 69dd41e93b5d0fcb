"""What the API server refuses, in words: what is missing, and who can give it."""

import re
from typing import Any

from meshtui.domain.errors import MeshtuiError
from meshtui.domain.server import Explanation
from meshtui.domain.text import one_line
from meshtui.engines.failures import catalogue

_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"'
    r' in API group "(?P<group>[^"]*)"'
)
_ACCOUNT = re.compile(r'serviceaccount "(?P<account>[^"]+)" not found')
_ADMISSION_WHERE = ("api-error", "pod")


class ClusterError(MeshtuiError):
    """The API server refused, or did not answer. `status` is its HTTP status, 0 where nothing
    answered; `reason` is the word that Kubernetes has for it (`Forbidden`, `AlreadyExists`)."""

    code = "cluster-error"
    http_status = 502

    def __init__(self, explanation: Explanation, *, status: int = 0, reason: str = "") -> None:
        super().__init__(explanation.cause, hint=explanation.fix)
        self.explanation = explanation
        self.status = status
        self.reason = reason

    @property
    def is_lasting(self) -> bool:
        """Whether the same request would be refused again."""
        return 400 <= self.status < 500 and self.status not in (408, 409, 410, 429)


def refusal(status: int, body: Any) -> ClusterError:
    """The error of an answer that is not a success. `body` is its JSON, if it had one."""
    answer = body if isinstance(body, dict) else {}
    message = one_line(str(answer.get("message") or f"HTTP status {status}"), 1000)
    reason = str(answer.get("reason") or "")
    return ClusterError(_explained(status, reason, message), status=status, reason=reason)


def unreachable(host: str, error: BaseException) -> ClusterError:
    """The error where no API server answered."""
    said = one_line(str(error)) or type(error).__name__
    certificate = "certificate" in said.lower()
    return ClusterError(
        Explanation(
            cause=f"The cluster at {one_line(host)} does not answer: {said}.",
            fix="Look at the certificate-authority of the cluster in your kubeconfig."
            if certificate
            else "Look whether the cluster runs, and whether a VPN or a proxy is needed.",
            failure_id="cluster-certificate" if certificate else "cluster-unreachable",
        )
    )


def _explained(status: int, reason: str, message: str) -> Explanation:
    if status == 401:
        return Explanation(
            cause="The cluster does not know who you are: the credentials in your kubeconfig have "
            "expired or are wrong.",
            fix="Log in to the cluster again, then try once more.",
            failure_id="cluster-unauthorized",
            excerpt=message,
        )
    if status == 403:
        return explain_forbidden(message)
    if status == 404:
        return Explanation(
            cause=f"The cluster has no such thing: {message}.",
            fix="Look at the namespace and the names in the execution config.",
            failure_id="cluster-not-found",
            excerpt=message,
        )
    if status == 409:
        return Explanation(
            cause=f"Somebody else changed it at the same time: {message}.",
            fix="Try again.",
            failure_id="cluster-conflict",
            excerpt=message,
        )
    if status in (400, 422):
        return Explanation(
            cause=f"The cluster does not accept it: {message}.",
            fix="Correct the named field in the execution config.",
            failure_id="cluster-invalid",
            excerpt=message,
        )
    return Explanation(
        cause=f"The cluster failed to answer ({status} {reason}): {message}.",
        fix="Try again in a moment; if it stays, ask who runs the cluster.",
        failure_id="cluster-failed",
        excerpt=message,
    )


def explain_forbidden(message: str) -> Explanation:
    """A permission that is missing, or a rule of the cluster that the object breaks. `message` is
    that of a 403, or of a controller that was refused."""
    if "system:anonymous" in message:
        return Explanation(
            cause="The cluster does not know who you are: your kubeconfig gave no credentials.",
            fix="Log in to the cluster again; run its credential plugin by hand to see its error.",
            failure_id="cluster-unauthorized",
            excerpt=message,
        )
    if found := _FORBIDDEN.search(message):
        resource = found["resource"] + (f".{found['group']}" if found["group"] else "")
        return Explanation(
            cause=f"{found['user']} may not {found['verb']} {resource} there.",
            fix=f"Ask for a Role that allows {found['verb']} on {found['resource']}: "
            "`meshtui connection rbac NAME` prints one with all that is needed.",
            failure_id="k8s-rbac",
            excerpt=message,
        )
    if "is being terminated" in message:
        return Explanation(
            cause="The namespace is being deleted, and takes nothing new.",
            fix="Wait until it is gone and make it again, or name another namespace.",
            failure_id="k8s-namespace-terminating",
            excerpt=message,
        )
    if found := _ACCOUNT.search(message):
        return Explanation(
            cause=f"There is no service account {found['account']} in the namespace.",
            fix="Create it, or name another service_account in the execution config.",
            failure_id="k8s-service-account",
            excerpt=message,
        )
    for entry in catalogue():
        if set(entry.where).intersection(_ADMISSION_WHERE):
            match = entry.pattern().search(message)
            if match:
                return Explanation(
                    cause=entry.cause,
                    fix=entry.suggestion(match),
                    failure_id=entry.id,
                    excerpt=message,
                )
    return Explanation(
        cause=f"A rule of the cluster forbids it: {message}.",
        fix="Ask who runs the cluster.",
        failure_id="cluster-forbidden",
        excerpt=message,
    )

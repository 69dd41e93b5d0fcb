"""Whether servers of an execution config can run on its cluster, looked at before any does.

Each check is a function that gives findings; what one may not see is said and blocks no other.
"""

import asyncio
import datetime
import logging
import time
from collections.abc import Awaitable, Callable

import msgspec

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.findings import blocker, ok
from meshtui.deploy.kubernetes.gpu_view import look_at_gpu_nodes
from meshtui.deploy.kubernetes.namespace_fit import (
    dry_run,
    limits,
    namespace,
    quotas,
    references,
    storage,
)
from meshtui.deploy.kubernetes.nodes import GpuNode
from meshtui.deploy.kubernetes.permissions import PERMISSIONS, Permission
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.finding import Finding, Level
from meshtui.domain.text import one_line

_OLDEST_MINOR = 27
_LARGEST_SKEW_S = 60.0
_AUTHORIZATION = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_IDENTITY = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

_log = logging.getLogger(__name__)


class Preflight(msgspec.Struct, frozen=True):
    """All findings, and the GPU nodes where they may be seen."""

    findings: tuple[Finding, ...]
    nodes: tuple[GpuNode, ...] = ()

    @property
    def is_fine(self) -> bool:
        return all(finding.level is not Level.BLOCKER for finding in self.findings)


async def preflight(cluster: Cluster, execution: KubernetesExecution) -> Preflight:
    """Looks at everything; changes nothing. Raises nothing: what fails is a finding."""
    try:
        reached = await _reach(cluster)
    except ClusterError as error:
        return Preflight((_refused("cluster-reach", error),))
    view = await look_at_gpu_nodes(cluster, execution)
    checks: list[Callable[[Cluster, KubernetesExecution], Awaitable[list[Finding]]]] = [
        _identity,
        namespace,
        permissions,
        storage,
        references,
        quotas,
        limits,
        dry_run,
    ]
    found = await asyncio.gather(*(_guarded(check, cluster, execution) for check in checks))
    findings = [*reached, *found[0], *found[1], *found[2], *view.findings]
    for more in found[3:]:
        findings += more
    findings += [
        Finding(rule="gpu-count", level=Level.WARNING, message=warning)
        for warning in execution.warnings
    ]
    return Preflight(tuple(findings), view.nodes)


async def _guarded(
    check: Callable[[Cluster, KubernetesExecution], Awaitable[list[Finding]]],
    cluster: Cluster,
    execution: KubernetesExecution,
) -> list[Finding]:
    try:
        return await check(cluster, execution)
    except ClusterError as error:
        name = check.__name__.strip("_").replace("_", "-")
        _log.info("the check %s could not look: %s", name, error.message)
        return [
            Finding(
                rule=name,
                level=Level.WARNING,
                message=f"This could not be looked at: {error.message}",
                fix=error.hint or "",
            )
        ]


async def _reach(cluster: Cluster) -> list[Finding]:
    version = await cluster.get("/version")
    text = one_line(str(version.get("gitVersion", "?")))
    minor = "".join(filter(str.isdigit, str(version.get("minor", ""))))
    if minor and int(minor) < _OLDEST_MINOR:
        return [
            Finding(
                rule="cluster-version",
                level=Level.WARNING,
                message=f"Kubernetes {text} is older than what meshtui is meant for "
                f"(1.{_OLDEST_MINOR}).",
                fix="Expect some things not to work; ask for an upgrade.",
            )
        ]
    return [ok("cluster-version", f"Kubernetes {text} answers at {cluster.host}.")]


async def _identity(cluster: Cluster, execution: KubernetesExecution) -> list[Finding]:
    """Who we are there; the answer carries the server's time."""
    asked_at = time.time()
    review: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await cluster.create(_IDENTITY, review)
    user = one_line(str(answer.get("status", {}).get("userInfo", {}).get("username", "?")))
    found = [ok("cluster-user", f"You are {user} there.")]
    created = answer.get("metadata", {}).get("creationTimestamp")
    if created:
        skew_s = datetime.datetime.fromisoformat(created).timestamp() - asked_at
        if abs(skew_s) > _LARGEST_SKEW_S:
            found.append(
                Finding(
                    rule="clock-skew",
                    level=Level.WARNING,
                    message=f"The clocks of the cluster and this machine are {abs(skew_s):.0f} s "
                    "apart: logins fail early, and times shown are wrong.",
                    fix="Synchronise the clock of this machine (NTP).",
                )
            )
    return found


async def permissions(cluster: Cluster, execution: KubernetesExecution) -> list[Finding]:
    """Each verb on each resource, one by one; one finding where all are there."""
    wanted = [(permission, verb) for permission in PERMISSIONS for verb in permission.verbs]
    allowed = await asyncio.gather(
        *(_is_allowed(cluster, execution.namespace, one, verb) for one, verb in wanted)
    )
    missing: dict[Permission, list[str]] = {}
    for (permission, verb), is_allowed in zip(wanted, allowed, strict=True):
        if not is_allowed:
            missing.setdefault(permission, []).append(verb)
    if not missing:
        return [ok("permissions", f"All {len(wanted)} permissions are there.")]
    return [
        Finding(
            rule=f"permission-{permission.name}",
            level=Level.BLOCKER if permission.needed else Level.WARNING,
            message=f"You may not {', '.join(verbs)} {permission.name}, "
            f"which is needed to {permission.why}.",
            fix="Ask for the Role that `meshtui connection rbac` prints.",
        )
        for permission, verbs in missing.items()
    ]


async def _is_allowed(cluster: Cluster, namespace: str, permission: Permission, verb: str) -> bool:
    resource, _, subresource = permission.resource.partition("/")
    review: Json = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {
            "resourceAttributes": {
                "namespace": namespace,
                "verb": verb,
                "group": permission.group,
                "resource": resource,
                "subresource": subresource,
            }
        },
    }
    answer = await cluster.create(_AUTHORIZATION, review)
    return bool(answer["status"]["allowed"])


def _refused(rule: str, error: ClusterError) -> Finding:
    return blocker(rule, error.message, error.hint or "")

"""Whether a namespace takes servers as the execution config describes them.

Each function is one check of the preflight: it looks, and raises `ClusterError` where it may not.
"""

import secrets

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.findings import blocker, ok
from meshtui.deploy.kubernetes.objects import deployment, path_of
from meshtui.deploy.kubernetes.spec import describe
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import InvalidInput
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.finding import Finding, Level

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


async def namespace(cluster: Cluster, execution: KubernetesExecution) -> list[Finding]:
    """Whether it is there, and which pods it takes."""
    name = execution.namespace
    try:
        found = await cluster.get(f"/api/v1/namespaces/{name}")
    except ClusterError as error:
        if error.status == 404:
            return [
                Finding(
                    rule="namespace",
                    level=Level.BLOCKER,
                    message=f"There is no namespace {name}.",
                    fix=f"kubectl create namespace {name}, or name another one.",
                )
            ]
        if error.status == 403:  # it is cluster-wide, and users of one namespace may not look
            return []
        raise
    if found.get("status", {}).get("phase") == "Terminating":
        return [
            Finding(
                rule="namespace",
                level=Level.BLOCKER,
                message=f"The namespace {name} is being deleted.",
                fix="Wait until it is gone and make it again, or name another one.",
            )
        ]
    return [ok("namespace", f"The namespace {name} is there."), *_pod_security(found, execution)]


def _pod_security(namespace: Json, execution: KubernetesExecution) -> list[Finding]:
    labels = namespace["metadata"].get("labels", {})
    level = labels.get("pod-security.kubernetes.io/enforce", "privileged")
    if level == "restricted" and execution.security == "default":
        return [
            Finding(
                rule="pod-security",
                level=Level.BLOCKER,
                message=f"The namespace takes only pods of the Pod Security level {level}.",
                fix='Set security = "restricted" in the execution config.',
            )
        ]
    return [ok("pod-security", f"The Pod Security level {level} lets the pods in.")]


async def quotas(cluster: Cluster, execution: KubernetesExecution) -> list[Finding]:
    """What of the GPUs a quota leaves."""
    found = []
    path = f"/api/v1/namespaces/{execution.namespace}/resourcequotas"
    for quota in (await cluster.get(path))["items"]:
        status = quota.get("status", {})
        for key in ("requests.nvidia.com/gpu", "limits.nvidia.com/gpu"):
            hard, used = status.get("hard", {}).get(key), status.get("used", {}).get(key, "0")
            if hard is None or not (hard.isdecimal() and used.isdecimal()):
                continue
            left, name = int(hard) - int(used), quota["metadata"]["name"]
            said = f"The quota {name} allows {hard} GPUs, {used} of which are used."
            level = Level.OK
            if int(hard) < execution.gpus:
                level = Level.BLOCKER
            elif left < execution.gpus:
                level = Level.WARNING
            fix = "" if level is Level.OK else "Stop another server, lower gpus, or ask for more."
            found.append(Finding(rule="quota", level=level, message=said, fix=fix))
    return found


async def limits(cluster: Cluster, execution: KubernetesExecution) -> list[Finding]:
    """A default memory limit of the namespace ends engines that read large weights."""
    path = f"/api/v1/namespaces/{execution.namespace}/limitranges"
    return [
        Finding(
            rule="limit-range",
            level=Level.WARNING,
            message=f"The namespace gives every container a memory limit of {limit['memory']} "
            f"(LimitRange {one['metadata']['name']}).",
            fix="Set resources.memory_limit in the execution config to more than the weights.",
        )
        for one in (await cluster.get(path))["items"]
        for item in one["spec"]["limits"]
        if "memory" in (limit := item.get("default", {}))
        and execution.resources.memory_limit is None
    ]


async def storage(cluster: Cluster, execution: KubernetesExecution) -> list[Finding]:
    """The storage class, where a volume has to be made with one."""
    wish = execution.storage
    if wish is None:
        return []
    claim = f"/api/v1/namespaces/{execution.namespace}/persistentvolumeclaims/{wish.claim}"
    try:
        phase = (await cluster.get(claim)).get("status", {}).get("phase")
        return [ok("storage", f"The volume {wish.claim} is there ({phase}).")]
    except ClusterError as error:
        if error.status != 404:
            raise
    classes = (await cluster.get("/apis/storage.k8s.io/v1/storageclasses"))["items"]
    names = [one["metadata"]["name"] for one in classes]
    default = [
        one["metadata"]["name"]
        for one in classes
        if one["metadata"].get("annotations", {}).get(_DEFAULT_CLASS) == "true"
    ]
    if wish.storage_class in names or (wish.storage_class is None and default):
        return [ok("storage", f"The volume {wish.claim} will be made.")]
    wanted = f"no storage class {wish.storage_class}" if wish.storage_class else "no default"
    return [
        Finding(
            rule="storage",
            level=Level.BLOCKER,
            message=f"The volume {wish.claim} cannot be made: there is {wanted} "
            f"(there are: {', '.join(names) or 'none'}).",
            fix="Name one of them in storage.storage_class, or make the claim yourself.",
        )
    ]


async def references(cluster: Cluster, execution: KubernetesExecution) -> list[Finding]:
    """Objects that pods name and that must be there: else no pod is made, or it cannot start."""
    space = f"/api/v1/namespaces/{execution.namespace}"
    wanted = [
        ("runtime_class", "/apis/node.k8s.io/v1/runtimeclasses", execution.runtime_class),
        ("service_account", f"{space}/serviceaccounts", execution.service_account),
        (
            "priority_class",
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            execution.priority_class,
        ),
        *(
            ("image_pull_secrets", f"{space}/secrets", name)
            for name in execution.image_pull_secrets
        ),
    ]
    found = []
    for key, path, name in wanted:
        if name is None:
            continue
        rule = key.replace("_", "-")
        try:
            await cluster.get(f"{path}/{name}")
            found.append(ok(rule, f"{name} is there."))
        except ClusterError as error:
            if error.status == 404:
                found.append(
                    Finding(
                        rule=rule,
                        level=Level.BLOCKER,
                        message=f"{key} names {name}, which is not there.",
                        fix=f"Correct {key} in the execution config, or leave it out.",
                    )
                )
            elif error.status != 403:  # what may not be looked at may still be there
                raise
    return found


async def dry_run(cluster: Cluster, execution: KubernetesExecution) -> list[Finding]:
    """A pod as servers have it, through all of the cluster's admission; nothing is kept."""
    try:
        server = describe(
            Connection(name="preflight", execution=execution.name),
            EnabledModel(model="org/preflight"),
            execution,
        )
    except InvalidInput as error:
        return [blocker("dry-run", error.message, error.hint or "")]
    made = deployment(server)
    template = made["spec"]["template"]
    name = f"{server.name}-{secrets.token_hex(3)}"
    metadata = {**template["metadata"], "name": name, "namespace": execution.namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    # The Deployment is what we make; the pod is what quotas and Pod Security look at, and making
    # it is the affair of a controller: we may not be allowed to.
    for manifest in (made, pod):
        try:
            await cluster.apply(path_of(manifest), manifest, dry_run=True)
        except ClusterError as error:
            why = error.explanation
            if manifest is pod and why.failure_id == "k8s-rbac":
                break
            return [
                blocker("dry-run", f"The cluster would not take a server: {why.cause}", why.fix)
            ]
    return [ok("dry-run", "The cluster would take a server.")]

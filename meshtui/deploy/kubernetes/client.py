"""Makes, scales and deletes servers on a cluster, beside others who may do so, too."""

import base64
import binascii
import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from meshtui.deploy.kubernetes.api import FIELD_MANAGER, Cluster, Json
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.objects import (
    SPEC,
    claim,
    deployment,
    manifests,
    owned_by,
    path_of,
    secret,
    service,
)
from meshtui.deploy.kubernetes.spec import API_KEY, PodServer, Secrets
from meshtui.domain.codec import from_json
from meshtui.domain.connection import EnabledModel
from meshtui.domain.errors import InvalidInput
from meshtui.domain.execution import KubernetesExecution

# They own what Kubernetes itself writes.
_CONTROLLERS = ("kube-controller-manager", "kubelet")
_ATTEMPTS = 5


class Spec(msgspec.Struct, frozen=True):
    """What a server on a cluster was meant to be, as its Deployment says."""

    connection: str
    enabled: EnabledModel
    execution: KubernetesExecution


async def deploy(cluster: Cluster, server: PodServer) -> Json:
    """Makes a server's objects, or brings those that are there up to date; gives the Deployment.

    Everything is checked before the first object is made. Where the making breaks off, what is
    left is taken away. A Secret that is there keeps its API key: of two who make a server at once,
    the first one's counts. Raises `ClusterError`; one with status 409 where somebody else set
    fields that we would change.
    """
    path = path_of(deployment(server))
    is_new = await _missing(cluster, path)
    if is_new:
        for manifest in manifests(server):
            if manifest["kind"] != "PersistentVolumeClaim" or await _missing(
                cluster, path_of(manifest)
            ):
                # By force, as another may be making the very same server with another key.
                await cluster.apply(path_of(manifest), manifest, dry_run=True, force=True)
    if server.execution.storage is not None:
        # A claim that is there is used as it is: little of it can be changed at all.
        wanted = claim(server)
        if await _missing(cluster, path_of(wanted)):
            await cluster.apply(path_of(wanted), wanted)
    try:
        # Before the pod, which else would find its Secret missing; owned once it can be.
        server = await _with_secret(cluster, server)
        if is_new:
            await cluster.apply(path_of(service(server)), service(server))
        made = await cluster.apply(path, deployment(server))
        for child in (secret(server), service(server)):
            await cluster.apply(path_of(child), owned_by(made, child))
    except ClusterError:
        if is_new:
            with contextlib.suppress(ClusterError):
                # What somebody else made in the meantime is not ours to take away.
                if await _missing(cluster, path):
                    await delete(cluster, server.execution.namespace, server.name)
        raise
    return made


async def scale(
    cluster: Cluster,
    namespace: str,
    name: str,
    replicas: int,
    *,
    annotations: Mapping[str, str | None] = MappingProxyType({}),
    unless: Callable[[Json], bool] = lambda _: False,
) -> Json:
    """Sets the number of pods: 0 to rest, 1 to run; and annotations with it (None takes one away).
    Two who do so at once do not undo each other's work: each looks again at what the other made.
    Nothing is changed where `unless` holds of what is there. Gives the Deployment as it is then."""
    path = deployment_path(namespace, name)
    for attempt in range(_ATTEMPTS):
        found = await cluster.get(path)
        told = found["metadata"].get("annotations", {})
        is_told = all(told.get(key) == value for key, value in annotations.items())
        if (found["spec"].get("replicas") == replicas and is_told) or unless(found):
            return found
        version = found["metadata"]["resourceVersion"]
        change = {
            "metadata": {"resourceVersion": version, "annotations": dict(annotations)},
            "spec": {"replicas": replicas},
        }
        try:
            return await cluster.patch(path, change)
        except ClusterError as error:
            if error.status != 409 or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def delete(cluster: Cluster, namespace: str, name: str) -> None:
    """Deletes a server and all that belongs to it; what is gone already is as well. The volume of
    models stays."""
    await cluster.delete(deployment_path(namespace, name), propagationPolicy="Background")
    # They are owned by the Deployment; not yet, where its making broke off.
    for resource in ("services", "secrets"):
        await cluster.delete(f"/api/v1/namespaces/{namespace}/{resource}/{name}")


async def api_key(cluster: Cluster, namespace: str, name: str) -> str | None:
    """The key that a server's engine wants, from its Secret; None where there is none. Raises
    `ClusterError`."""
    try:
        found = await cluster.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        return base64.b64decode(found.get("data", {})[API_KEY]).decode()
    except (KeyError, binascii.Error, UnicodeDecodeError):
        return None
    except ClusterError as error:
        if error.status != 404:
            raise
        return None


async def find(cluster: Cluster, namespace: str, name: str) -> Json | None:
    """A server's Deployment, if there is one."""
    try:
        return await cluster.get(deployment_path(namespace, name))
    except ClusterError as error:
        if error.status != 404:
            raise
        return None


def deployment_path(namespace: str, name: str) -> str:
    """Where a server's Deployment lies at the API server."""
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"


def is_awake(found: Json) -> bool:
    """Whether a Deployment wants a pod."""
    wanted = found["spec"].get("replicas", 1) > 0
    return wanted and "deletionTimestamp" not in found["metadata"]


def read_spec(found: Json) -> Spec | None:
    """What a Deployment was meant to be; None where it does not say so, or another version of
    meshtui wrote it that we do not understand."""
    text = found["metadata"].get("annotations", {}).get(SPEC)
    if text is None:
        return None
    try:
        return from_json(text, Spec)
    except InvalidInput:
        return None


def drift(found: Json) -> tuple[str, ...]:
    """What others changed of a Deployment that we made, as `manager: field`. Those fields are
    theirs until they give them up: they are shown, not undone."""
    managers = found["metadata"].get("managedFields", [])
    if not any(entry.get("manager") == FIELD_MANAGER for entry in managers):
        return ()
    changed = []
    for entry in managers:
        manager = entry.get("manager", "?")
        if manager == FIELD_MANAGER or manager in _CONTROLLERS:
            continue
        spec = entry.get("fieldsV1", {}).get("f:spec")
        if isinstance(spec, Mapping):
            changed += [f"{manager}: {field}" for field in sorted(set(_fields(spec)))]
    return tuple(changed)


def _fields(tree: Mapping[str, Any], at: str = "spec") -> Iterator[str]:
    """The leaves of a `fieldsV1` tree: `f:` is a field, `k:` an entry of a list, `.` itself."""
    below = {key: value for key, value in tree.items() if key != "."}
    if not below:
        yield at
    for key, value in below.items():
        kind, _, name = key.partition(":")
        yield from _fields(value, f"{at}.{name}" if kind == "f" else at)


async def _with_secret(cluster: Cluster, server: PodServer) -> PodServer:
    """Makes the Secret where it is missing; gives the server with the API key that is in it."""
    wanted = secret(server)
    folder, _, _ = path_of(wanted).rpartition("/")
    try:
        await cluster.create(folder, wanted)
        return server
    except ClusterError as error:
        if error.reason != "AlreadyExists":
            raise
    key = await api_key(cluster, server.execution.namespace, server.name)
    if key is None:
        return server
    values = {**server.secrets.values, API_KEY: key}
    return msgspec.structs.replace(server, secrets=Secrets(values))


async def _missing(cluster: Cluster, path: str) -> bool:
    try:
        await cluster.get(path)
    except ClusterError as error:
        if error.status != 404:
            raise
        return True
    return False

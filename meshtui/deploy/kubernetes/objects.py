"""The objects of a server, as plain dictionaries: pure functions of what it is to be."""

from importlib.resources import files
from typing import Any

from meshtui.deploy.kubernetes.api import Json
from meshtui.deploy.kubernetes.pods import (
    container_security,
    environment,
    placement,
    pod_security,
    probes,
    volumes,
)
from meshtui.deploy.kubernetes.spec import (
    IMAGE_PATH,
    MODELS_PATH,
    PORT,
    PodServer,
    model_hash,
)
from meshtui.domain.delivery import DeliveryMode
from meshtui.settings.shipped import toml_data

SERVER_CONTAINER = "server"
FETCH_CONTAINER = "fetch"
MANAGED = {"app.kubernetes.io/managed-by": "meshtui"}
MANAGED_SELECTOR = "app.kubernetes.io/managed-by=meshtui"
INSTANCE = "app.kubernetes.io/instance"
SPEC = "meshtui.io/spec"
MODEL = "meshtui.io/model"


def manifests(server: PodServer, *, with_secret: bool = True) -> list[Json]:
    """All objects, in the order in which they are to be applied."""
    found = [] if server.execution.storage is None else [claim(server)]
    found += [deployment(server), service(server)]
    return [*found, secret(server)] if with_secret else found


def owned_by(parent: Json, child: Json) -> Json:
    """The child as the parent's: it goes with it. `parent` is as the API server gave it."""
    owner = {
        "apiVersion": parent["apiVersion"],
        "kind": parent["kind"],
        "name": parent["metadata"]["name"],
        "uid": parent["metadata"]["uid"],
    }
    return {**child, "metadata": {**child["metadata"], "ownerReferences": [owner]}}


def path_of(manifest: Json) -> str:
    """Where an object lies at the API server."""
    group, kind = manifest["apiVersion"], manifest["kind"]
    root = "/api/v1" if group == "v1" else f"/apis/{group}"
    meta = manifest["metadata"]
    return f"{root}/namespaces/{meta['namespace']}/{kind.lower()}s/{meta['name']}"


def deployment(server: PodServer) -> Json:
    """One pod, ended before the next starts: two never fit where the GPUs are taken. The number
    of replicas is left open (1 where nobody says otherwise), so that describing a server anew
    does not wake one that is idle."""
    defaults = toml_data("kubernetes/defaults.toml")
    spec: dict[str, Any] = {
        "revisionHistoryLimit": 2,
        "strategy": {"type": "Recreate"},
        "progressDeadlineSeconds": server.startup_budget_s + defaults["pod"]["image_budget_s"],
        "selector": {"matchLabels": _selector(server)},
        "template": {
            "metadata": {
                "labels": {**server.execution.labels, **labels(server, "model-server")},
                "annotations": {**server.execution.annotations, MODEL: str(server.model)},
            },
            "spec": _server_pod(server),
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(server, server.name, annotations={SPEC: server.spec_json}),
        "spec": spec,
    }


def service(server: PodServer) -> Json:
    """Reaches the pod within the cluster; nothing is exposed outside."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(server, server.name),
        "spec": {
            "type": "ClusterIP",
            "selector": _selector(server),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def secret(server: PodServer) -> Json:
    """The only place of the API key and of the Hub's token."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(server, server.name),
        "type": "Opaque",
        "data": server.secrets.encoded(),
    }


def claim(server: PodServer) -> Json:
    """The volume for models. It belongs to no server: others use it, and deleting a server must
    not delete what was fetched."""
    storage = server.execution.storage
    assert storage is not None
    spec: dict[str, Any] = {
        "accessModes": [storage.access_mode],
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.storage_class is not None:
        spec["storageClassName"] = storage.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": storage.claim,
            "namespace": server.execution.namespace,
            "labels": {**MANAGED, "app.kubernetes.io/part-of": "meshtui"},
        },
        "spec": spec,
    }


def fetch_job(server: PodServer, *, name: str | None = None) -> Json:
    """Fetches the model into the volume without holding a GPU. It does nothing where the model is
    there already. `name` is of the Job and of the Secret with the token (None: the server's)."""
    defaults = toml_data("kubernetes/defaults.toml")["fetch"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(server, name or f"{server.name}-fetch", component="model-fetch"),
        "spec": {
            "backoffLimit": defaults["attempts"],
            "ttlSecondsAfterFinished": defaults["kept_s"],
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"operator": "In", "values": defaults["lasting_failures"]},
                    }
                ]
            },
            "template": {
                "metadata": {
                    "labels": {**server.execution.labels, **labels(server, "model-fetch")},
                    "annotations": {**server.execution.annotations, MODEL: str(server.model)},
                },
                "spec": {**short_pod(server), "containers": [_fetching(server, name)]},
            },
        },
    }


def _server_pod(server: PodServer) -> Json:
    pod = {**any_pod(server), "containers": [_serving(server)]}
    if server.delivery.mode is DeliveryMode.DIRECT and server.fetched_to is not None:
        # Where nobody ran the Job before (`kubectl apply`), the pod fetches the model itself.
        pod["initContainers"] = [_fetching(server)]
    return pod


def any_pod(server: PodServer) -> Json:
    """What all pods for a server have in common."""
    return {
        # Else every Service of the namespace puts variables into the engine's environment.
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": toml_data("kubernetes/defaults.toml")["pod"]["grace_s"],
        "securityContext": pod_security(server.execution),
        "volumes": volumes(server.execution, server.delivery.image),
        **placement(server.execution),
    }


def short_pod(server: PodServer) -> Json:
    """Of pods that bring models: they end at once, as what has come is good at any moment."""
    return {**any_pod(server), "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}


def _serving(server: PodServer) -> Json:
    execution = server.execution
    requested = execution.resources
    limits = {
        "nvidia.com/gpu": str(execution.gpus),
        "cpu": requested.cpu_limit,
        "memory": requested.memory_limit,
    }
    requests = {"cpu": requested.cpu_request, "memory": requested.memory_request}
    resources = {
        "limits": {name: value for name, value in limits.items() if value},
        "requests": {name: value for name, value in requests.items() if value},
    }
    return {
        "name": SERVER_CONTAINER,
        "image": server.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [*server.argv],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "env": environment(server),
        "resources": {name: value for name, value in resources.items() if value},
        "securityContext": container_security(),
        # So that the reason of an end is seen without the permission to read logs.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(server),
        **probes(server.startup_budget_s),
    }


def _fetching(server: PodServer, secret: str | None = None) -> Json:
    assert server.fetched_to is not None
    script = pod_script("fetch_model")
    return {
        "name": FETCH_CONTAINER,
        "image": server.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [server.python, "-c", script],
        "env": environment(server, fetch=True, secret=secret),
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [mount for mount in _mounts(server) if mount["name"] == "models"],
    }


def pod_script(name: str) -> str:
    """The text of a script that pods run beside Python alone."""
    return files("meshtui.serving").joinpath(f"{name}.py").read_text(encoding="utf-8")


def _mounts(server: PodServer) -> list[Json]:
    mounts: list[Json] = [{"name": "models", "mountPath": MODELS_PATH}]
    if server.delivery.image is not None:
        mounts.append({"name": "model-image", "mountPath": IMAGE_PATH, "readOnly": True})
    if server.execution.increased_shared_memory:
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    return mounts


def _selector(server: PodServer) -> dict[str, str]:
    return {INSTANCE: server.name, "app.kubernetes.io/component": "model-server"}


def labels(server: PodServer, component: str) -> dict[str, str]:
    """Of an object for a server."""
    return {
        "app.kubernetes.io/name": "vllm",
        INSTANCE: server.name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "meshtui",
        **MANAGED,
        "meshtui.io/connection": server.connection_label,
        "meshtui.io/model-hash": model_hash(str(server.model)),
    }


def metadata(
    server: PodServer,
    name: str,
    *,
    component: str = "model-server",
    annotations: dict[str, str] | None = None,
) -> Json:
    return {
        "name": name,
        "namespace": server.execution.namespace,
        "labels": {**server.execution.labels, **labels(server, component)},
        "annotations": {
            **server.execution.annotations,
            MODEL: str(server.model),
            **(annotations or {}),
        },
    }

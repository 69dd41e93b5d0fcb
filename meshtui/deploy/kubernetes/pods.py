"""Parts of pods: where they may run, as whom, with which volumes, variables and probes."""

import posixpath
from typing import Any

import msgspec

from meshtui.deploy.kubernetes.api import Json
from meshtui.deploy.kubernetes.spec import HUB_TOKEN, MODELS_PATH, PodServer
from meshtui.domain.execution import KubernetesExecution
from meshtui.settings.shipped import toml_data

_GPU_TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
_USER_ID = 1000


def placement(execution: KubernetesExecution) -> Json:
    """Everything of the pod's spec that decides where it runs, and with which rights."""
    tolerations: list[Json] = [dict(_GPU_TOLERATION)]
    for toleration in execution.tolerations:
        plain: Json = {k: v for k, v in msgspec.structs.asdict(toleration).items() if v}
        if plain not in tolerations:
            tolerations.append(plain)
    wished = {
        "nodeSelector": execution.node_selector,
        "affinity": execution.affinity,
        "runtimeClassName": execution.runtime_class,
        "serviceAccountName": execution.service_account,
        "priorityClassName": execution.priority_class,
        "imagePullSecrets": [{"name": name} for name in execution.image_pull_secrets],
    }
    return {"tolerations": tolerations, **{name: value for name, value in wished.items() if value}}


def pod_security(execution: KubernetesExecution) -> Json:
    """The pod's security context. The stock image runs as root, which only the profile `default`
    lets it do."""
    context: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if execution.security != "default":
        context["runAsNonRoot"] = True
    if execution.security == "restricted":
        context |= {"runAsUser": _USER_ID, "runAsGroup": _USER_ID, "fsGroup": _USER_ID}
        # Changing the owner of every file of a large volume would take longer than the start.
        context["fsGroupChangePolicy"] = "OnRootMismatch"
    return context


def container_security() -> Json:
    """The same in all profiles."""
    # The root file system stays writable: the NVIDIA container hook needs it.
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def volumes(execution: KubernetesExecution, model_image: str | None = None) -> list[Json]:
    """The folder of models (and of what engines compile, which then outlives the pod), an image
    that holds the model, and /dev/shm."""
    models: Json = {"name": "models", "emptyDir": {}}
    if execution.storage is not None:
        claim = {"claimName": execution.storage.claim}
        models = {"name": "models", "persistentVolumeClaim": claim}
    found = [models]
    if model_image is not None:
        source = {"reference": model_image, "pullPolicy": "IfNotPresent"}
        found.append({"name": "model-image", "image": source})
    if execution.increased_shared_memory:
        limit = execution.shared_memory or f"{max(2, 2 * execution.gpus)}Gi"
        found.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": limit}})
    return found


def environment(server: PodServer, *, fetch: bool = False, secret: str | None = None) -> list[Json]:
    """Variables of a container; those with secrets name the Secret (None: the server's own)."""
    cache = f"{MODELS_PATH}/.cache"
    plain = {
        "HOME": f"{cache}/home",
        "USER": "meshtui",
        "XDG_CACHE_HOME": cache,
        "XDG_CONFIG_HOME": f"{cache}/config",
        "HF_HOME": f"{cache}/huggingface",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    if server.hub_endpoint:
        plain["HF_ENDPOINT"] = server.hub_endpoint
    if fetch:
        plain |= {
            "MESHTUI_MODEL": server.model.model_id,
            "MESHTUI_REVISION": server.model.revision or "",
            "MESHTUI_TARGET": posixpath.dirname(server.fetched_to or ""),
            **{n: v for n, v in server.environment.items() if n.upper().endswith("_PROXY")},
        }
    else:
        plain |= {
            "VLLM_CACHE_ROOT": f"{cache}/vllm",
            "VLLM_CONFIG_ROOT": f"{cache}/config/vllm",
            "TRITON_CACHE_DIR": f"{cache}/triton",
            "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
            "NUMBA_CACHE_DIR": f"{cache}/numba",
            **server.environment,
        }
    named = [] if fetch else list(server.secret_environment.items())
    variables = [
        *({"name": name, "value": value} for name, value in sorted(plain.items())),
        *(_from_secret(secret or server.name, name, key) for name, key in sorted(named)),
    ]
    if fetch or server.fetched_to is None:
        variables.append(_from_secret(secret or server.name, "HF_TOKEN", HUB_TOKEN, optional=True))
    return variables


def probes(startup_budget_s: int) -> Json:
    """When an engine counts as started, as ready and as hanging."""
    data = toml_data("kubernetes/defaults.toml")["probes"]

    def probe(name: str, failures: int) -> Json:
        return {
            "httpGet": {"path": "/health", "port": "http"},
            "periodSeconds": data[name]["period"],
            "timeoutSeconds": data[name]["timeout"],
            "failureThreshold": failures,
        }

    return {
        "startupProbe": probe("startup", startup_budget_s // data["startup"]["period"]),
        "readinessProbe": probe("readiness", data["readiness"]["failures"]),
        "livenessProbe": probe("liveness", data["liveness"]["failures"]),
    }


def _from_secret(secret: str, name: str, key: str, *, optional: bool = False) -> Json:
    reference: Json = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}

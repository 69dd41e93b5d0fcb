"""Where servers run: the execution config of kind `kubernetes`."""

import re
from typing import Any, Literal

import msgspec

RECOMMENDED_GPUS = (1, 2, 4, 8)
LOCAL = "local"

_SECRET = re.compile(r"(?:^|_)(?:TOKEN|KEY|PASSWORD|PASSWD|SECRET|CREDENTIALS?)(?:_|$)", re.I)


def looks_secret(variable: str) -> bool:
    """Whether an environment variable of this name is likely to hold a secret."""
    return _SECRET.search(variable) is not None


class Toleration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A taint of nodes that pods may ignore, in the words of Kubernetes. `key` empty with
    `Exists`: all taints."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests and limits beside GPUs, as quantities of Kubernetes (`4`, `16Gi`). None by
    default: on nodes that are there for their GPUs they only keep pods from being placed."""

    cpu_request: str | None = None
    cpu_limit: str | None = None
    memory_request: str | None = None
    memory_limit: str | None = None


class Storage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The volume that holds models. `claim` names it and is shared by the servers of a namespace;
    it is made with `storage_class` (None: the cluster's default), `size` and `access_mode` where
    it is not there."""

    claim: str = "meshtui-models"
    storage_class: str | None = None
    size: str = "200Gi"
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"] = "ReadWriteOnce"


class Proxy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How pods reach the outside: addresses as in `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`."""

    http: str | None = None
    https: str | None = None
    exempt: str | None = None


class KubernetesExecution(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="kind",
    tag="kubernetes",
):
    """How servers become GPU pods of a cluster.

    `context` is one of the kubeconfig (None: the current one). `gpus` is the number of
    `nvidia.com/gpu` of a pod. `increased_shared_memory` gives it a /dev/shm in memory, of
    `shared_memory` at most (None: by the number of GPUs). `image` None: the shipped one.
    `security` `restricted` passes the Pod Security level of that name, as the user 1000;
    `openshift` does, too, and leaves the user to the cluster. `storage` None: models are fetched
    into the pod, again with each start. `affinity` is the pod's, in the words of Kubernetes.
    """

    name: str
    context: str | None = None
    namespace: str = "default"
    gpus: int = 1
    increased_shared_memory: bool = True
    shared_memory: str | None = None
    image: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    affinity: dict[str, Any] = {}
    runtime_class: str | None = None
    service_account: str | None = None
    priority_class: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    environment: dict[str, str] = {}
    resources: Resources = Resources()
    security: Literal["default", "restricted", "openshift"] = "default"
    storage: Storage | None = None
    proxy: Proxy | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What will work, and seldom is what was meant."""
        if self.gpus in RECOMMENDED_GPUS:
            return ()
        numbers = ", ".join(map(str, RECOMMENDED_GPUS))
        return (
            f"{self.gpus} GPUs: most models can be split over {numbers} GPUs only, as the number "
            "of their attention heads must be divisible by it.",
        )

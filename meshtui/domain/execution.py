"""Where servers run: the execution config of kind `kubernetes`."""

import re
from typing import Annotated, Any, Literal

import msgspec

from meshtui.domain.described import says

RECOMMENDED_GPUS = (1, 2, 4, 8)
LOCAL = "local"

_SECRET = re.compile(r"(?:^|_)(?:TOKEN|KEY|PASSWORD|PASSWD|SECRET|CREDENTIALS?)(?:_|$)", re.I)


def looks_secret(variable: str) -> bool:
    """Whether an environment variable of this name is likely to hold a secret."""
    return _SECRET.search(variable) is not None


class Toleration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A taint of nodes that pods may ignore, in the words of Kubernetes. `key` empty with
    `Exists`: all taints."""

    key: Annotated[str, says("The taint's key; empty with Exists: all taints.")] = ""
    operator: Annotated[
        Literal["Equal", "Exists"], says("Equal compares the value, Exists does not.")
    ] = "Equal"
    value: Annotated[str, says("The taint's value.")] = ""
    effect: Annotated[
        Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"],
        says("Which effect is tolerated; empty: all of them."),
    ] = ""


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests and limits beside GPUs, as quantities of Kubernetes (`4`, `16Gi`). None by
    default: on nodes that are there for their GPUs they only keep pods from being placed."""

    cpu_request: Annotated[str | None, says("Processors that a pod asks for, as 4 or 500m.")] = None
    cpu_limit: Annotated[str | None, says("Processors that a pod may use at most.")] = None
    memory_request: Annotated[str | None, says("Memory that a pod asks for, as 16Gi.")] = None
    memory_limit: Annotated[str | None, says("Memory that a pod may use at most.")] = None


class Storage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The volume that holds models. `claim` names it and is shared by the servers of a namespace;
    it is made with `storage_class` (None: the cluster's default), `size` and `access_mode` where
    it is not there."""

    claim: Annotated[str, says("The name of the claim; servers of a namespace share it.")] = (
        "meshtui-models"
    )
    storage_class: Annotated[
        str | None, says("The class it is made with; without it the cluster's default.")
    ] = None
    size: Annotated[str, says("The size it is made with.")] = "200Gi"
    access_mode: Annotated[
        Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"],
        says("Whether one node may use it, several, or one pod."),
    ] = "ReadWriteOnce"


class Proxy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How pods reach the outside: addresses as in `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`."""

    http: Annotated[str | None, says("As HTTP_PROXY.")] = None
    https: Annotated[str | None, says("As HTTPS_PROXY.")] = None
    exempt: Annotated[str | None, says("As NO_PROXY.")] = None


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
    An engine that never became ready is started again `restarts` times, then given up.
    """

    name: Annotated[str, says("The execution config's name, which is its file's name, too.")]
    context: Annotated[
        str | None, says("The context of the kubeconfig; without it the current one.")
    ] = None
    namespace: Annotated[str, says("The namespace that pods are made in.")] = "default"
    gpus: Annotated[int, says("How many nvidia.com/gpu a pod gets.")] = 1
    increased_shared_memory: Annotated[
        bool, says("Whether pods get a larger /dev/shm, in memory.")
    ] = True
    shared_memory: Annotated[
        str | None,
        says("The most that /dev/shm may hold, as 8Gi; without it by the number of GPUs."),
    ] = None
    image: Annotated[
        str | None, says("The image with the engines; without it the shipped one.")
    ] = None
    image_pull_secrets: Annotated[
        tuple[str, ...], says("Secrets of the namespace that images are pulled with.")
    ] = ()
    node_selector: Annotated[dict[str, str], says("Labels that a node must have.")] = {}
    tolerations: Annotated[
        tuple[Toleration, ...], says("Taints of nodes that pods may ignore.")
    ] = ()
    affinity: Annotated[
        dict[str, Any], says("The pod's affinity, in the words of Kubernetes.")
    ] = {}
    runtime_class: Annotated[str | None, says("The runtime class of pods, as nvidia.")] = None
    service_account: Annotated[str | None, says("The service account of pods.")] = None
    priority_class: Annotated[str | None, says("The priority class of pods.")] = None
    labels: Annotated[dict[str, str], says("Further labels of all that is made.")] = {}
    annotations: Annotated[dict[str, str], says("Annotations of pods.")] = {}
    environment: Annotated[
        dict[str, str], says("Environment variables of engines; no secrets.")
    ] = {}
    resources: Annotated[
        Resources,
        says(
            "Requests and limits beside GPUs; best left out on nodes that are there for their GPUs."
        ),
    ] = Resources()
    security: Annotated[
        Literal["default", "restricted", "openshift"],
        says("restricted: Pod Security's level; openshift: the cluster chooses the user."),
    ] = "default"
    storage: Annotated[
        Storage | None,
        says("The volume that holds models; without it they are fetched again with each start."),
    ] = None
    proxy: Annotated[Proxy | None, says("How pods reach the outside.")] = None
    restarts: Annotated[
        int, says("How often an engine that never became ready is started again.")
    ] = 3

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

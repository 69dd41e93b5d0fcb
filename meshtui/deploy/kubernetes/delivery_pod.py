"""A pod without a GPU that has the volume of models, for as long as this machine sends to it."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.conversation import SCRIPT_VARIABLE
from meshtui.deploy.kubernetes.delivery_job import JobWatch, SeenJob
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.objects import (
    MODEL,
    labels,
    metadata,
    path_of,
    pod_script,
    short_pod,
)
from meshtui.deploy.kubernetes.pods import container_security
from meshtui.deploy.kubernetes.spec import MODELS_PATH, PodServer, model_hash
from meshtui.deploy.kubernetes.upload import CONTAINER
from meshtui.domain.delivery import DeliveryProgress
from meshtui.domain.errors import StartFailed
from meshtui.settings.shipped import toml_data

_COMPONENT = "model-load"


@contextlib.asynccontextmanager
async def loading_pod(
    cluster: Cluster, server: PodServer, on_progress: Callable[[DeliveryProgress], None]
) -> AsyncIterator[str]:
    """The name of such a pod, once it runs; it goes with the context. Where this program dies, the
    pod ends by itself when nobody has sent for a while, and the cluster deletes it. Raises
    `ClusterError` and `StartFailed`."""
    job = _job(server)
    path = path_of(job)
    try:
        await cluster.create(path.rpartition("/")[0], job)
        name = job["metadata"]["name"]
        async with JobWatch.open(cluster, server.execution.namespace, name) as watch:

            def tell(seen: SeenJob) -> None:
                step = f"Starting a pod that takes the model in: {seen.words}"
                on_progress(DeliveryProgress(step=step, explanation=seen.explanation))

            seen = await watch.until(lambda seen: seen.runs or _is_over(seen), tell)
        if not seen.runs or seen.pod_name is None:
            why = seen.explanation
            raise StartFailed(
                f"The pod that takes the model in ended: {why.cause if why else seen.words}",
                hint=why.fix if why else "Try again.",
                explanation=why,
            )
        yield seen.pod_name
    finally:
        # Also where the caller is cancelled, a second time as well.
        ending = asyncio.ensure_future(_end(cluster, path))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait({ending})
            raise


async def _end(cluster: Cluster, path: str) -> None:
    # It ends by itself, too: what was done counts.
    with contextlib.suppress(ClusterError):
        await cluster.delete(path, propagationPolicy="Background")


def _is_over(seen: SeenJob) -> bool:
    return seen.outcome is not None or seen.gone


def _job(server: PodServer) -> Json:
    script = pod_script("receive_model")
    # Others may send the same model at the same time, from their own machines.
    name = f"mt-load-{model_hash(str(server.model))[:8]}-{secrets.token_hex(4)}"
    container: Json = {
        "name": CONTAINER,
        "image": server.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [server.python, "-c", script, "hold"],
        "env": [
            {"name": SCRIPT_VARIABLE, "value": script},
            {"name": "MESHTUI_VOLUME", "value": MODELS_PATH},
        ],
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "models", "mountPath": MODELS_PATH}],
    }
    pod: Json = {**short_pod(server), "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(server, name, component=_COMPONENT),
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": toml_data("kubernetes/defaults.toml")["load"]["kept_s"],
            "template": {
                "metadata": {
                    "labels": {**server.execution.labels, **labels(server, _COMPONENT)},
                    "annotations": {**server.execution.annotations, MODEL: str(server.model)},
                },
                "spec": pod,
            },
        },
    }

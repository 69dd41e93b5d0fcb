"""The way of models that are there: somebody looks whether they are."""

from collections.abc import Callable

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.conversation import Conversation
from meshtui.deploy.kubernetes.delivery_pod import loading_pod
from meshtui.deploy.kubernetes.spec import PodServer
from meshtui.deploy.kubernetes.upload import CONTAINER
from meshtui.domain.delivery import DeliveryProgress
from meshtui.domain.errors import NotFound, Unavailable
from meshtui.domain.text import one_line

_CONFIG = "config.json"
_SHOWN = 8


async def look(
    cluster: Cluster, server: PodServer, on_progress: Callable[[DeliveryProgress], None]
) -> None:
    """Raises `NotFound` where no model is in that folder of the volume, `ClusterError`,
    `StartFailed`, `Unavailable`."""
    path = server.delivery.path
    async with (
        loading_pod(cluster, server, on_progress) as pod,
        Conversation.open(cluster, server.execution.namespace, pod, CONTAINER) as asking,
    ):
        on_progress(DeliveryProgress(step="Looking for the model on the volume"))
        answer = await asking.ask(do="look", path=path)
    storage = server.execution.storage
    volume = storage.claim if storage is not None else ""
    if answer.error:
        raise Unavailable(f"{path} on the volume {volume} cannot be read: {answer.message}.")
    if not answer.found:
        raise NotFound(
            f"The volume {volume} has no folder {path} for {server.model}.",
            hint=f"At its top there is: {_list(answer.top)}. Correct model.path of the connection.",
        )
    if _CONFIG not in answer.top:
        raise NotFound(
            f"{path} on the volume {volume} holds no model: there is no {_CONFIG}.",
            hint=f"There is: {_list(answer.top)}. Correct model.path of the connection.",
        )


def _list(names: tuple[str, ...]) -> str:
    shown = ", ".join(one_line(name, 60) for name in names[:_SHOWN])
    return f"{shown}, ..." if len(names) > _SHOWN else shown or "nothing"

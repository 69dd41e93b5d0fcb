"""The delivery of a model as a part of a server's start: what is missing in this machine's cache is
fetched first, and the server shows how far it is."""

from meshtui.deploy.install_progress import format_bytes
from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.delivery import deliver, is_delivered
from meshtui.deploy.kubernetes.spec import PodServer
from meshtui.deploy.models import ModelShelf
from meshtui.deploy.server import Server
from meshtui.domain.delivery import DeliveryMode, DeliveryProgress
from meshtui.domain.server import Phase


class ModelDelivery:
    """Call it with a server that starts. `models` is this machine's cache."""

    def __init__(self, models: ModelShelf) -> None:
        self._models = models

    async def __call__(self, server: Server, cluster: Cluster, wanted: PodServer) -> None:
        """Returns when the pod will find its model, or is to fetch it itself. Raises as `deliver`,
        and what the Hub refuses."""
        if await is_delivered(cluster, wanted):
            return
        server.enter(Phase.FETCHING_MODEL, "Looking for the model")
        entry = None
        if wanted.delivery.mode is DeliveryMode.MANAGED_CACHE:
            connection = server.record.connection
            entry = await self._models.entry(wanted.model, connection, server.report)

        def tell(progress: DeliveryProgress) -> None:
            server.report(progress.fraction, words(progress))

        await deliver(cluster, wanted, entry=entry, on_progress=tell)


def words(progress: DeliveryProgress) -> str:
    """One line for a person."""
    if progress.explanation is not None and progress.explanation.cause not in progress.step:
        return f"{progress.step}: {progress.explanation.cause}"
    if progress.total_bytes:
        done, total = format_bytes(progress.done_bytes), format_bytes(progress.total_bytes)
        return f"{progress.step}: {done} of {total}"
    return progress.step

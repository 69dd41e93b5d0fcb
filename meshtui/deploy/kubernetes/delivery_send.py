"""The managed cache's way: this machine sends its entry to the volume. Connections that break are
made anew, and what has come is not sent again."""

import asyncio
from collections.abc import Callable

from meshtui.cache.store import Entry
from meshtui.cache.work import Cancelled, Work
from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.conversation import ReceiverEnded
from meshtui.deploy.kubernetes.delivery_pod import loading_pod
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.sendable import Sendable, sendable
from meshtui.deploy.kubernetes.spec import PodServer
from meshtui.deploy.kubernetes.upload import Upload
from meshtui.domain.delivery import DeliveryProgress
from meshtui.domain.server import Explanation

_LOOK_S = 0.2
# Attempts in a row that bring nothing. An API server may be away for a minute.
_ATTEMPTS = 7
_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 30.0


async def send(
    cluster: Cluster,
    server: PodServer,
    what: Sendable,
    on_progress: Callable[[DeliveryProgress], None],
) -> tuple[bool, int]:
    """Whether the model was there already, and how many bytes were sent. Raises `ClusterError`,
    `StartFailed`, `NoRoom`, `BrokenDownload`, `Unavailable`."""
    sent_bytes, failures = 0, 0
    while True:
        before = sent_bytes
        try:
            async with loading_pod(cluster, server, on_progress) as pod:
                upload = Upload(cluster, server.execution.namespace, pod, what, on_progress)
                try:
                    came = await upload.run()
                finally:
                    sent_bytes += upload.sent_bytes
            return not came, sent_bytes
        except (ClusterError, ReceiverEnded) as error:
            failures = 1 if sent_bytes > before else failures + 1
            if failures >= _ATTEMPTS or not _may_pass(error):
                raise
            why = Explanation(cause=error.message, fix=error.hint or "")
            on_progress(DeliveryProgress(step="The connection broke off", explanation=why))
            await asyncio.sleep(min(_FIRST_DELAY_S * 2 ** (failures - 1), _LONGEST_DELAY_S))


async def prepared(entry: Entry, on_progress: Callable[[DeliveryProgress], None]) -> Sendable:
    """The entry as it is sent; hashed first where it never was. Raises `InvalidInput`, or what the
    disk says."""
    work = Work()
    reading = asyncio.ensure_future(asyncio.to_thread(sendable, entry, work))
    try:
        while not (await asyncio.wait({reading}, timeout=_LOOK_S))[0]:
            if work.step:
                on_progress(
                    DeliveryProgress(
                        step=work.step, done_bytes=work.done_bytes, total_bytes=work.total_bytes
                    )
                )
        return reading.result()
    except asyncio.CancelledError:
        work.cancel()
        await asyncio.wait({reading})
        if isinstance(reading.exception(), Cancelled):
            pass  # as was asked
        raise


def _may_pass(error: ClusterError | ReceiverEnded) -> bool:
    # A pod that is gone (404) is made anew.
    return isinstance(error, ReceiverEnded) or not error.is_lasting or error.status == 404

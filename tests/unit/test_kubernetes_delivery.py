"""What is said of deliveries. Real ones are seen in `tests/cluster`."""

import pytest

from meshtui.deploy.kubernetes.delivery_fetch import FetchExit, failure
from meshtui.deploy.kubernetes.delivery_job import SeenJob
from meshtui.deploy.kubernetes.delivery_start import words
from meshtui.domain.delivery import DeliveryProgress
from meshtui.domain.errors import (
    BadToken,
    BrokenDownload,
    GatedModel,
    HubUnreachable,
    MeshtuiError,
    ModelNotOnHub,
    NoRoom,
    StartFailed,
)
from meshtui.domain.server import Explanation
from tests.support.pod_servers import pod_server


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (FetchExit.BAD_TOKEN, BadToken),
        (FetchExit.GATED, GatedModel),
        (FetchExit.NOT_THERE, ModelNotOnHub),
        (FetchExit.NO_ROOM, NoRoom),
        (FetchExit.UNREACHABLE, HubUnreachable),
        (FetchExit.DAMAGED, BrokenDownload),
        (1, StartFailed),
    ],
)
def test_each_end_of_a_fetching_pod_is_an_error_of_its_own(
    status: int, kind: type[MeshtuiError]
) -> None:
    ended = {"exitCode": status, "message": "1 of 2 files\nThe last words.\n"}
    pod = {"status": {"containerStatuses": [{"state": {"terminated": ended}}]}}
    found = failure(pod_server(model="org/tiny"), SeenJob(pod=pod))
    assert type(found) is kind
    assert "org/tiny" in found.message and "The last words." in found.message and found.hint


def test_progress_is_one_line_for_a_person() -> None:
    sending = DeliveryProgress(step="Sending", done_bytes=1_500_000, total_bytes=3_000_000)
    assert sending.fraction == 0.5 and words(sending) == "Sending: 1.5 MB of 3.0 MB"
    why = Explanation(cause="No node has room.", fix="Wait.")
    waiting = DeliveryProgress(step="Starting a pod", explanation=why)
    assert words(waiting) == "Starting a pod: No node has room."
    told = DeliveryProgress(step="Starting a pod: No node has room.", explanation=why)
    assert words(told) == told.step and told.fraction is None

"""A server on a cluster is started like any other; its model comes by way of this machine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import tomli_w

from meshtui.controller.managers import local_managers
from meshtui.domain.server import Phase
from meshtui.settings import paths
from tests.cluster.conftest import Access
from tests.cluster.python_image import PYTHON
from tests.cluster.test_backend import until_phase
from tests.cluster.volumes import CLAIM
from tests.controller_support import running_controller
from tests.hub_server import HubServer
from tests.support.shelf import model_files

pytestmark = pytest.mark.cluster

MODELS = ("org/tiny", "org/none")


def connect(access: Access, namespace: str, node: str, hub_url: str) -> None:
    execution = {
        "kind": "kubernetes",
        "context": access.context,
        "namespace": namespace,
        "image": PYTHON,
        "node_selector": {"kubernetes.io/hostname": node},
        "storage": {"claim": CLAIM, "size": "1Gi"},
    }
    connection = {
        "execution": "gpu",
        "enabled_models": [{"model": model} for model in MODELS],
        "properties": {"hub.endpoint": hub_url},
    }
    for path, table in (("execution/gpu", execution), ("connections/cloud", connection)):
        file = paths.config_dir() / f"{path}.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(tomli_w.dumps(table))


@pytest_asyncio.fixture
async def hub() -> AsyncIterator[HubServer]:
    """Only this machine reaches it."""
    async with HubServer() as found:
        yield found


async def test_the_cache_of_this_machine_feeds_the_servers_of_a_cluster(
    use_cluster: Access, namespace: str, python_node: str, shelf: Path, hub: HubServer
) -> None:
    connect(use_cluster, namespace, python_node, hub.url)
    hub.add(MODELS[0], model_files())
    async with running_controller({}, managers=local_managers) as controller:
        client = controller.client
        started = await client.start_server(MODELS[0])
        told = await until_phase(client, Phase.READY)
        phases = [record.phase for record in told[-1].phases]
        assert Phase.FETCHING_MODEL in phases and phases[-1] is Phase.READY
        assert phases == sorted(phases, key=[*Phase].index), "it never went back"
        fetching = [
            record.message
            for status in told
            for record in status.phases
            if record.phase is Phase.FETCHING_MODEL
        ]
        assert any(message.startswith("Starting a pod that takes") for message in fetching)
        assert (shelf / "org_2ftiny" / "model" / "config.json").is_file()
        assert hub.sent_bytes("config.json") > 0, "only this machine asked the Hub"

        # It is there now: the next start moves nothing.
        await client.stop_server(started.id)
        await client.start_server(MODELS[0])
        told = await until_phase(client, Phase.READY)
        assert Phase.FETCHING_MODEL not in [record.phase for record in told[-1].phases]
        await client.stop_server(started.id)

        # A model that nobody can have: the start fails and says why.
        await client.start_server(MODELS[1])
        told = await until_phase(client, Phase.FAILED)
        explanation = told[-1].explanation
        assert explanation is not None and "org/none" in explanation.cause

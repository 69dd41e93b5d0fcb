"""What a tunnel costs, held against what everybody has: `kubectl port-forward`."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.client import delete, deploy
from meshtui.deploy.kubernetes.fleet import Fleet
from meshtui.deploy.kubernetes.spec import PORT
from meshtui.deploy.kubernetes.tunnel import Tunnel
from meshtui.domain.server import Phase
from tests.cluster.conftest import Access
from tests.cluster.test_fleet import View, fleet_of
from tests.cluster.test_real_servers import reached, wanted

pytestmark = pytest.mark.cluster

# As many as an engine gives one person: 100 events a second.
_EVENTS, _PAUSE_US = 60, 10_000
_MOST_ATTEMPTS = 20
# A few milliseconds are no difference that a person sees.
_SHARE, _ALLOWED_S = 1.1, 0.01


@asynccontextmanager
async def kubectl_tunnel(
    kubectl: Path, access: Access, namespace: str, pod: str
) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(str(kubectl), "--kubeconfig", access.kubeconfig, "--context", access.context),
        *("-n", namespace, "port-forward", pod, f":{PORT}", "--address", "127.0.0.1"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            said = (await process.stdout.readline()).decode()
        found = re.search(r"127\.0\.0\.1:(\d+)", said)
        assert found is not None, said
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        process.kill()
        await process.wait()


async def streamed(base_url: str) -> tuple[float, float]:
    """Seconds to the first event of a new connection, and from there to the last."""
    url = f"{base_url}/stream?count={_EVENTS}&pause_us={_PAUSE_US}"
    asked_at = time.perf_counter()
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert await answer.content.readline() == b"data: 0\n"
        first_at = time.perf_counter()
        await answer.read()
        return first_at - asked_at, time.perf_counter() - first_at


async def test_a_tunnel_is_as_quick_as_kubectl(
    use_cluster: Access, cluster: Cluster, namespace: str, node: str, kubectl: Path
) -> None:
    server, view = wanted(namespace, node), View()
    async with fleet_of(cluster, namespace, view) as fleet:
        await deploy(cluster, server)
        await reached(fleet, server.name, Phase.READY)
        pod = _pod(fleet, server.name)
        tunnel = await Tunnel.open(cluster, namespace, pod, PORT)
        try:
            async with kubectl_tunnel(kubectl, use_cluster, namespace, pod) as other:
                ours, theirs = [], []
                # Each gets its best: this machine has other things to do, too.
                while not ours or (_is_slower(ours, theirs) and len(ours) < _MOST_ATTEMPTS):
                    ours.append(await streamed(tunnel.base_url))
                    theirs.append(await streamed(other))
        finally:
            await tunnel.close()
        await delete(cluster, namespace, server.name)
    assert not _is_slower(ours, theirs), (ours, theirs)


def _is_slower(ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> bool:
    """Whether we need more than a tenth longer to the first event, or to all of them."""
    best = [(min(one[at] for one in ours), min(one[at] for one in theirs)) for at in (0, 1)]
    return any(own > _SHARE * kubectls + _ALLOWED_S for own, kubectls in best)


def _pod(fleet: Fleet, name: str) -> str:
    pod = fleet.observations[name].pod
    assert pod is not None
    return pod

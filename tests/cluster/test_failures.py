"""What goes wrong with pods on a real node, and with the way to them."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.client import delete, deploy
from meshtui.deploy.kubernetes.fleet import Fleet
from meshtui.deploy.kubernetes.phases import Observation
from meshtui.deploy.kubernetes.spec import PORT, PodServer
from meshtui.deploy.kubernetes.tunnel import Tunnel
from meshtui.domain.execution import Resources
from meshtui.domain.server import Phase
from tests.cluster.control_plane import ControlPlane
from tests.cluster.machine import SERVER
from tests.cluster.test_fleet import View, fleet_of
from tests.support.pod_servers import pod_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

_PATIENCE_S = 120.0


@pytest_asyncio.fixture
async def fleet(cluster: Cluster, namespace: str, node: str) -> AsyncIterator[Fleet]:
    async with fleet_of(cluster, namespace, View()) as found:
        yield found


def wanted(namespace: str, node: str, **execution: object) -> PodServer:
    selector = {"kubernetes.io/hostname": node}
    return pod_server(namespace, image=SERVER, node_selector=selector, **execution)


async def explained(fleet: Fleet, name: str, failure_id: str) -> Observation:
    """What is seen as soon as that is the explanation."""

    def there() -> bool:
        seen = fleet.observations.get(name)
        return bool(seen and seen.explanation and seen.explanation.failure_id == failure_id)

    await eventually(there, f"{failure_id}; now {fleet.observations.get(name)}", _PATIENCE_S)
    return fleet.observations[name]


async def ready(fleet: Fleet, name: str, *, but: str | None = None) -> str:
    """The pod of the server as soon as it is ready and not the one named."""

    def there() -> bool:
        seen = fleet.observations.get(name)
        return seen is not None and seen.phase is Phase.READY and seen.pod != but

    await eventually(there, f"ready; now {fleet.observations.get(name)}", _PATIENCE_S)
    pod = fleet.observations[name].pod
    assert pod is not None
    return pod


async def test_an_engine_that_takes_more_memory_than_its_limit_is_told_so(
    cluster: Cluster, namespace: str, node: str, fleet: Fleet
) -> None:
    limit, environment = Resources(memory_limit="64Mi"), {"TEST_MEMORY_MIB": "512"}
    server = wanted(namespace, node, resources=limit, environment=environment)
    await deploy(cluster, server)
    seen = await explained(fleet, server.name, "k8s-oomkilled")
    assert seen.explanation is not None and "not GPU memory" in seen.explanation.cause
    await delete(cluster, namespace, server.name)


async def test_an_engine_that_is_never_well_is_ended_by_its_probe(
    cluster: Cluster, namespace: str, node: str, fleet: Fleet
) -> None:
    server = wanted(namespace, node, environment={"TEST_UNHEALTHY": "yes"})
    server = msgspec.structs.replace(server, startup_budget_s=5)
    await deploy(cluster, server)
    seen = await explained(fleet, server.name, "k8s-liveness-killed")
    assert seen.explanation is not None and seen.explanation.fix
    await delete(cluster, namespace, server.name)


async def test_a_pod_that_is_moved_off_its_node_is_followed_by_another(
    cluster: Cluster, namespace: str, node: str, fleet: Fleet
) -> None:
    """As `kubectl drain` does."""
    server = wanted(namespace, node)
    await deploy(cluster, server)
    pod = await ready(fleet, server.name)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    await cluster.create(f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", eviction)
    await ready(fleet, server.name, but=pod)
    await delete(cluster, namespace, server.name)


async def test_an_api_server_that_is_killed_ends_streams_and_the_tunnel_goes_on(
    cluster: Cluster, namespace: str, node: str, fleet: Fleet, control_plane: ControlPlane
) -> None:
    server, broken = wanted(namespace, node), list[str]()
    await deploy(cluster, server)
    pod = await ready(fleet, server.name)
    tunnel = await Tunnel.open(cluster, namespace, pod, PORT, broken=broken.append)
    try:
        async with asyncio.timeout(_PATIENCE_S), aiohttp.ClientSession() as session:
            async with session.get(f"{tunnel.base_url}/stream?count=100000") as answer:
                assert await answer.content.readline() == b"data: 0\n"
                control_plane.kill_api_server()
                try:
                    with pytest.raises(aiohttp.ClientError):
                        await answer.read()
                    assert broken and "broke off" in broken[0], broken
                    broken.clear()
                    with pytest.raises(aiohttp.ClientError):
                        await session.post(f"{tunnel.base_url}/echo", data="Paris")
                    assert broken and "does not answer" in broken[0], broken
                finally:
                    control_plane.start_api_server()
            # The pod knows nothing of it, and neither does who holds the address.
            async with session.post(f"{tunnel.base_url}/echo", data="Paris") as answer:
                assert (await answer.text()).strip() == "Paris"
        assert await ready(fleet, server.name) == pod
    finally:
        await tunnel.close()
    await delete(cluster, namespace, server.name)


async def test_whoever_leaves_a_stream_leaves_nothing_behind(
    cluster: Cluster, namespace: str, node: str, fleet: Fleet
) -> None:
    server, broken = wanted(namespace, node), list[str]()
    await deploy(cluster, server)
    pod = await ready(fleet, server.name)
    tunnel = await Tunnel.open(cluster, namespace, pod, PORT, broken=broken.append)
    try:
        async with aiohttp.ClientSession() as session:
            for _ in range(8):
                url = f"{tunnel.base_url}/stream?count=100000"
                async with asyncio.timeout(_PATIENCE_S), session.get(url) as answer:
                    assert await answer.content.readline() == b"data: 0\n"
                    answer.close()
        await eventually(lambda: tunnel.connections == 0, "all connections have ended", 30)
        assert broken == []  # it was meant
    finally:
        await tunnel.close()
    await delete(cluster, namespace, server.name)


async def test_a_client_that_does_not_read_keeps_no_tunnel_open(
    cluster: Cluster, namespace: str, node: str, fleet: Fleet
) -> None:
    server, body = wanted(namespace, node), bytes(16 << 20)
    await deploy(cluster, server)
    tunnel = await Tunnel.open(cluster, namespace, await ready(fleet, server.name), PORT)
    port = int(tunnel.base_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    try:
        head = f"POST /echo HTTP/1.1\r\nHost: it\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        async with asyncio.timeout(_PATIENCE_S):
            await reader.readline()  # it answers, and fills all buffers on the way
            await tunnel.close()
        assert tunnel.connections == 0
    finally:
        writer.transport.abort()
    await delete(cluster, namespace, server.name)

"""Pods that really run, on a real kubelet, reached through the API server alone."""

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.tunnel import Tunnel
from tests.cluster.machine import SERVER
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster


@pytest_asyncio.fixture
async def pod(cluster: Cluster, namespace: str, node: str) -> AsyncIterator[str]:
    """A pod that answers HTTP, placed by the scheduler for its GPU, ready by its probe."""
    body: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 5,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [
                {
                    "name": "server",
                    "image": SERVER,
                    "imagePullPolicy": "Never",
                    "resources": {"limits": {"nvidia.com/gpu": "1"}},
                    "readinessProbe": {
                        "httpGet": {"path": "/health", "port": 8000},
                        "periodSeconds": 1,
                    },
                }
            ],
        },
    }
    path = f"/api/v1/namespaces/{namespace}/pods"
    await cluster.create(path, body)

    def is_ready(found: Json | None) -> bool:
        states = (found or {}).get("status", {}).get("containerStatuses", [])
        return bool(states) and all(one["ready"] for one in states)

    await until(cluster, f"{path}/web", is_ready, 60)
    yield "web"
    await cluster.delete(f"{path}/web")
    await until(cluster, f"{path}/web", lambda found: found is None, 60)


async def test_a_tunnel_carries_streams_as_they_come(
    cluster: Cluster, namespace: str, pod: str
) -> None:
    broken: list[str] = []
    tunnel = await Tunnel.open(cluster, namespace, pod, 8000, broken=broken.append)
    try:
        async with aiohttp.ClientSession() as session:
            came = []
            async with session.get(f"{tunnel.base_url}/stream?count=10") as answer:
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        came.append(time.monotonic())
            assert len(came) == 10
            assert came[-1] - came[0] > 0.25  # one by one, not all at the end
            # A header that the proxy of the API server would keep for itself, and a large body.
            body = bytes(range(256)) * 8192
            key = {"Authorization": "Bearer the-engines-own"}
            async with session.post(f"{tunnel.base_url}/echo", data=body, headers=key) as answer:
                said = await answer.read()
            assert said == b"Bearer the-engines-own\n" + body
        assert broken == []
    finally:
        await tunnel.close()


async def test_many_requests_share_a_tunnel(cluster: Cluster, namespace: str, pod: str) -> None:
    tunnel = await Tunnel.open(cluster, namespace, pod, 8000)
    try:
        async with aiohttp.ClientSession() as session:

            async def ask(number: int) -> str:
                async with session.post(f"{tunnel.base_url}/echo", data=f"{number}") as answer:
                    return (await answer.text()).strip()

            answers = await asyncio.gather(*(ask(number) for number in range(32)))
        assert answers == [str(number) for number in range(32)]
    finally:
        await tunnel.close()


async def test_a_port_or_a_pod_that_does_not_answer_is_told(
    cluster: Cluster, namespace: str, pod: str
) -> None:
    for name, port, words in ((pod, 9, "refused"), ("nobody", 8000, "no such thing")):
        broken: list[str] = []
        tunnel = await Tunnel.open(cluster, namespace, name, port, broken=broken.append)
        try:
            async with aiohttp.ClientSession() as session:
                with pytest.raises(aiohttp.ClientError):
                    await session.get(f"{tunnel.base_url}/health")
            # A client may try a request without effects once more.
            assert broken and all(words in reason for reason in broken), broken
        finally:
            await tunnel.close()


async def test_a_pod_that_goes_away_ends_its_streams(
    cluster: Cluster, namespace: str, pod: str
) -> None:
    tunnel = await Tunnel.open(cluster, namespace, pod, 8000)
    try:
        async with (
            asyncio.timeout(120),
            aiohttp.ClientSession() as session,
            session.get(f"{tunnel.base_url}/stream?count=2000") as answer,
        ):
            assert await answer.content.readline() == b"data: 0\n"
            path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
            await cluster.delete(path, gracePeriodSeconds=0)
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
    finally:
        await tunnel.close()


async def test_the_log_of_a_pod_is_read(cluster: Cluster, namespace: str, pod: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    assert await cluster.text(path) == "Listening on port 8000\n"

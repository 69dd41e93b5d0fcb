"""A port of this machine that leads into a pod, through the API server alone.

One websocket for each connection, as the API server wants it. A frame's first byte is its channel:
0 for data, 1 for errors; the first frame of each channel is the port's number (kubelet,
pkg/kubelet/cri/streaming/portforward/websocket.go).
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Self

import aiohttp

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.domain.text import one_line

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_BLOCK_BYTES = 64 * 1024

_log = logging.getLogger(__name__)


class Tunnel:
    """`open` it to a pod's port; connections to `base_url` end there. `broken` gets why one of
    them could not be made or broke off, so that a person can be told. `close` ends all."""

    def __init__(
        self, cluster: Cluster, namespace: str, pod: str, port: int, broken: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        self._port = port
        self._broken = broken
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(
        cls,
        cluster: Cluster,
        namespace: str,
        pod: str,
        port: int,
        *,
        broken: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Listens on a free port of 127.0.0.1; the pod is asked with the first connection."""
        tunnel = cls(cluster, namespace, pod, port, broken)
        tunnel._server = await asyncio.start_server(tunnel._connected, "127.0.0.1", 0)
        return tunnel

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def connections(self) -> int:
        """How many go through it now."""
        return len(self._connections)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._forward(reader, writer)
        except ClusterError as error:
            self._tell(error.message)
        except (aiohttp.ClientError, OSError) as error:
            self._tell(f"The connection to the cluster broke off: {one_line(str(error), 200)}.")
        except asyncio.CancelledError:
            writer.transport.abort()  # `close` ended it: nobody is waited for who does not read
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._connections.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._cluster.websocket(self._path, _PROTOCOL, ports=str(self._port)) as socket:
            sending = asyncio.ensure_future(_send(reader, socket))
            receiving = asyncio.ensure_future(_receive(socket, writer))
            try:
                # Whoever asked may close first, and so may the pod.
                await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
                if receiving.done() and (reason := receiving.result()):
                    self._tell(reason)
            finally:
                for task in (sending, receiving):
                    task.cancel()
                await asyncio.wait({sending, receiving})

    def _tell(self, reason: str) -> None:
        _log.info("a tunnel to %s broke: %s", self._path, reason)
        self._broken(reason)


async def _send(reader: asyncio.StreamReader, socket: aiohttp.ClientWebSocketResponse) -> None:
    with contextlib.suppress(OSError, aiohttp.ClientError):
        while block := await reader.read(_BLOCK_BYTES):
            await socket.send_bytes(bytes([_DATA]) + block)


async def _receive(
    socket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter
) -> str | None:
    """Until either side ends; why, where it was not meant to."""
    started: set[int] = set()
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel = message.data[0]
        if channel not in started:
            started.add(channel)  # this frame is the port's number
        elif channel == _ERROR:
            return one_line(message.data[1:].decode("utf-8", "replace"), 500)
        elif channel == _DATA:
            try:
                writer.write(message.data[1:])
                await writer.drain()
            except OSError:
                return None  # whoever asked is gone
    code = socket.close_code
    if code in (aiohttp.WSCloseCode.OK, aiohttp.WSCloseCode.GOING_AWAY):
        return None
    return f"The connection to the cluster broke off (code {code})."

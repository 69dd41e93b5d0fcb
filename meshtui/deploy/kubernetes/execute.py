"""A program that runs in a container of a pod, and what goes in and comes out of it.

One websocket; a frame's first byte is its channel (k8s.io/apimachinery,
pkg/util/remotecommand/constants.go).
"""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Self

import aiohttp
import msgspec

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.errors import unreachable
from meshtui.domain.text import one_line

# The older one is understood by every cluster, and all that is needed here.
_PROTOCOL = "v4.channel.k8s.io"
_IN, _OUT, _ERR, _STATUS = 0, 1, 2, 3
_STDERR_CHARS = 4000
FRAME_BYTES = 256 * 1024


class Frames:
    """Room for a few frames to send, filled from a file without copying."""

    def __init__(self, count: int = 4) -> None:
        self._buffers = [bytearray(FRAME_BYTES + 1) for _ in range(count)]
        for buffer in self._buffers:
            buffer[0] = _IN
        self._views = [memoryview(buffer) for buffer in self._buffers]
        self.size_bytes = 0
        """What was read, and is to be sent."""

    def read(self, handle: int, at: int) -> int:
        """Blocks; how many bytes the file had there, 0 at its end."""
        self.size_bytes = os.preadv(handle, [view[1:] for view in self._views], at)
        return self.size_bytes

    def limit(self, size_bytes: int) -> None:
        """Leaves out what is behind that many bytes."""
        self.size_bytes = min(self.size_bytes, size_bytes)

    def __iter__(self) -> Iterator[memoryview]:
        left = self.size_bytes
        for view in self._views:
            if left > 0:
                yield view[: 1 + min(left, FRAME_BYTES)]
                left -= FRAME_BYTES


class Execution:
    """A running program. Made by `execute`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, host: str) -> None:
        self._socket = socket
        self._host = host
        self.stderr = ""
        """The end of what the program wrote there, once `lines` has read it."""
        self.status: int | None = None
        """How the program ended, once `lines` is through; None where that is not known."""

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls, cluster: Cluster, namespace: str, pod: str, container: str, command: Sequence[str]
    ) -> AsyncIterator[Self]:
        """Ends the connection, hence the program's input, when the block is left. Raises
        `ClusterError`."""
        async with cluster.websocket(
            f"/api/v1/namespaces/{namespace}/pods/{pod}/exec",
            _PROTOCOL,
            # An answer to a ping waits behind all that is sent, which may take long on slow lines.
            heartbeat_s=None,
            container=container,
            command=command,
            stdin="true",
            stdout="true",
            stderr="true",
        ) as socket:
            yield cls(socket, cluster.host)

    async def write(self, data: bytes) -> None:
        """To the program's standard input. Raises `ClusterError` where the connection broke."""
        await self._send(bytes([_IN]) + data)

    async def write_frames(self, frames: Frames) -> None:
        """As `write`."""
        for frame in frames:
            await self._send(frame)

    async def lines(self) -> AsyncIterator[bytes]:
        """What the program writes to its standard output. Ends with the program; raises
        `ClusterError` where the connection breaks before."""
        rest = b""
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == _OUT:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield line
            elif channel == _ERR:
                self.stderr = (self.stderr + data.decode("utf-8", "replace"))[-_STDERR_CHARS:]
            elif channel == _STATUS:
                self.status = _status(data)
                return
        raise unreachable(self._host, ConnectionError("the connection to the pod broke off"))

    async def _send(self, data: bytes | memoryview) -> None:
        try:
            await self._socket.send_bytes(data)  # type: ignore[arg-type]  # any buffer will do
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(self._host, error) from error


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] = []


class _Status(msgspec.Struct):
    """As the kubelet tells how a program ended."""

    status: str = ""
    message: str = ""
    details: _Details | None = None


def _status(data: bytes) -> int | None:
    try:
        said = msgspec.json.decode(data, type=_Status)
    except msgspec.MsgspecError:
        return None
    if said.status == "Success":
        return 0
    for cause in said.details.causes if said.details else []:
        if cause.reason == "ExitCode" and cause.message.isdigit():
            return int(cause.message)
    return None


def said_of_end(execution: Execution) -> str:
    """The last words of a program that ended early."""
    lines = execution.stderr.strip().splitlines()
    return one_line(lines[-1], 500) if lines else f"it ended with status {execution.status}"

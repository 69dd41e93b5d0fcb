"""HTTP over the controller's Unix socket: one session, one way that errors come out."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from meshtui.client.safe import decode
from meshtui.domain.codec import from_json, to_json
from meshtui.domain.errors import ErrorInfo, MeshtuiError, Unavailable, error_from_info

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

# Unix socket addresses hold 108 bytes, the last of them a zero (unix(7)).
MAX_SOCKET_PATH_BYTES = 107
_CONNECT_TIMEOUT_S = 5.0
_REST = "Running servers live on. A new controller takes them over: try again."


class Channel:
    """A session with the controller. Every failure to reach it is `Unavailable`; every error
    that it answers with is the `MeshtuiError` it was there."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._session: aiohttp.ClientSession | None = None
        self._library: Any = None

    async def open(self) -> None:
        """Loads the HTTP library (in a thread: a tenth of a second that no frame waits for)."""
        if self._session is not None:
            return
        if len(bytes(self.socket)) > MAX_SOCKET_PATH_BYTES:
            raise Unavailable(
                f"The path of the controller's socket is too long: {self.socket}",
                hint="Set XDG_RUNTIME_DIR to a folder with a shorter name.",
            )
        self._library = await asyncio.to_thread(importlib.import_module, "aiohttp")
        self._session = self._library.ClientSession(
            connector=self._library.UnixConnector(str(self.socket), limit=0),
            timeout=self._library.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            auto_decompress=False,
        )

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def move_to(self, socket: Path) -> None:
        """Talks through another socket from now on."""
        if socket != self.socket:
            await self.close()
            self.socket = socket
        await self.open()

    async def call(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        raw: bool = False,
    ) -> T:
        """One question, one answer of type `kind` (`raw`: its text is not sanitised)."""
        data = await self.send(method, path, body=body, params=params, timeout_s=timeout_s)
        answer: T = from_json(data, kind) if raw else decode(data, kind)
        return answer

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> bytes:
        """One question; the body of its answer."""
        try:
            async with (
                asyncio.timeout(timeout_s),
                self.stream(method, path, body=body, params=params) as response,
            ):
                return await response.read()
        except TimeoutError:
            raise Unavailable(
                f"The controller did not answer within {timeout_s:g} s.",
                hint="See its log: meshtui controller logs",
            ) from None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        away: str = "The controller went away.",
    ) -> "AsyncIterator[aiohttp.ClientResponse]":
        """The response with its body still to be read; leaving closes the connection unless
        the body was read to its end. `away` is said when the controller disappears."""
        await self.open()
        assert self._session is not None
        try:
            response = await self._session.request(
                method,
                f"http://meshtui{path}",
                data=None if body is None else to_json(body),
                headers={"Content-Type": "application/json"},
                params=params,
            )
        except (self._library.ClientError, OSError) as error:
            raise Unavailable("The controller does not answer.", hint=_REST) from error
        try:
            if response.status >= 400:
                raise _error(await response.read(), response.status)
            yield response
        except (self._library.ClientError, ConnectionError) as error:
            raise Unavailable(away, hint=_REST) from error
        finally:
            # For a body read to its end this is no close: the connection is back in the pool.
            response.close()


def _error(data: bytes, status: int) -> MeshtuiError:
    try:
        info: ErrorInfo = decode(data, ErrorInfo)
    except (MeshtuiError, ValueError):
        return MeshtuiError(
            f"The controller answered with status {status}.",
            hint="See its log: meshtui controller logs",
        )
    return error_from_info(info)


async def lines(response: "aiohttp.ClientResponse") -> AsyncIterator[bytes]:
    """The lines of a streamed body, without their ends, of any length; empty ones too."""
    held: list[bytes] = []
    async for data in response.content.iter_any():
        first, *rest = data.split(b"\n")
        held.append(first)
        for piece in rest:
            yield b"".join(held)
            held = [piece]
    if last := b"".join(held):
        yield last

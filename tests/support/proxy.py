"""A proxy on this machine, which sees all and may want a password."""

import asyncio
import base64
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Forwards HTTP requests, and connections for HTTPS. `asked` are the hosts, with ports, that
    somebody wanted; `password` (`user:secret`) is what it wants to see."""

    def __init__(self, password: str | None = None) -> None:
        self.asked: list[str] = []
        self.url = ""
        self._password = password

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        user = f"{self._password}@" if self._password else ""
        self.url = f"http://{user}127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            first, _, rest = head.partition(b"\r\n")
            method, target, version = first.decode().split(" ")
            if not self._may(rest):
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                             b"Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
                return
            place = urlsplit(f"//{target}" if method == "CONNECT" else target)
            self.asked.append(place.netloc)
            there, to_there = await asyncio.open_connection(place.hostname, place.port)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                # One request a connection keeps this simple.
                path = target.partition(place.netloc)[2]
                to_there.write(f"{method} {path} {version}\r\nConnection: close\r\n".encode())
                to_there.write(_without_connection(rest))
            await asyncio.gather(_copy(reader, to_there), _copy(there, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _may(self, headers: bytes) -> bool:
        if self._password is None:
            return True
        wanted = base64.b64encode(self._password.encode())
        return b"proxy-authorization: basic " + wanted.lower() in headers.lower()


def _without_connection(headers: bytes) -> bytes:
    lines = headers.split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith((b"connection:", b"proxy-"))]
    return b"\r\n".join(kept)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()

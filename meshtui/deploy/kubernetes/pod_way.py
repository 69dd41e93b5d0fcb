"""The way to a ready server: a tunnel through the API server, and the key that its engine wants."""

import asyncio
import logging

import aiohttp
import msgspec

from meshtui.deploy.kubernetes.client import api_key
from meshtui.deploy.kubernetes.spaces import Space
from meshtui.deploy.kubernetes.spec import PORT
from meshtui.deploy.kubernetes.tunnel import Tunnel
from meshtui.deploy.server import Server
from meshtui.domain.errors import StartFailed
from meshtui.domain.server import Phase
from meshtui.engines.registry import adapter

_ASK_TIMEOUT_S = 10.0

_log = logging.getLogger(__name__)


class PodWay:
    """One tunnel, opened at the first need and kept while its pod is the server's. Each request
    has a connection of its own in it, so one that broke off is made anew by the next request."""

    def __init__(self, server: Server, space: Space, name: str) -> None:
        self._server = server
        self._space = space
        self._name = name
        self._pod: str | None = None
        self._tunnel: Tunnel | None = None
        self._opening = asyncio.Lock()
        self._leaving: asyncio.Task[None] | None = None

    async def open(self, session: aiohttp.ClientSession) -> str:
        """The address that leads to the server's pod; its key is the server's then. Raises
        `MeshtuiError`."""
        async with self._opening:
            place = self._server.status.place
            if place is None or place.pod is None:
                raise StartFailed("The server has no pod any more.", hint="Try again.")
            if self._tunnel is not None and self._pod == place.pod:
                return self._tunnel.base_url
            await self._close()
            cluster = await self._space.cluster()
            namespace = self._space.namespace
            if not self._server.key:
                self._server.key = await api_key(cluster, namespace, self._name) or ""
            self._tunnel = await Tunnel.open(
                cluster, namespace, place.pod, PORT, broken=self._broken
            )
            self._pod = place.pod
            if self._server.status.context_length is None:
                await self._ask_context_length(session)
            return self._tunnel.base_url

    def leave(self) -> None:
        """The pod is gone."""
        if self._tunnel is not None:
            self._leaving = asyncio.create_task(self.close(), name="pod-way")

    async def close(self) -> None:
        async with self._opening:
            await self._close()

    async def _close(self) -> None:
        if self._tunnel is not None:
            await self._tunnel.close()
        self._tunnel = self._pod = None
        self._server.key = ""

    def _broken(self, reason: str) -> None:
        if self._server.phase is not Phase.READY:
            return  # it went with its pod
        self._server.note(
            f"The tunnel to the pod broke off; the next prompt opens it anew. {reason}"
        )

    async def _ask_context_length(self, session: aiohttp.ClientSession) -> None:
        """A server that was adopted does not log it again."""
        engine = self._server.record.engine
        assert self._tunnel is not None and engine is not None
        headers = adapter(engine).headers(self._server.key)
        url = f"{self._tunnel.base_url}/v1/models"
        timeout = aiohttp.ClientTimeout(total=_ASK_TIMEOUT_S)
        try:
            async with session.get(url, headers=headers, timeout=timeout) as answer:
                found = msgspec.json.decode(await answer.read(), type=_Models)
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError) as error:
            _log.info("%s does not tell its context length: %s", self._name, error)
            return
        for model in found.data:
            if model.max_model_len:
                self._server.change(context_length=model.max_model_len)


class _Model(msgspec.Struct):
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: tuple[_Model, ...] = ()

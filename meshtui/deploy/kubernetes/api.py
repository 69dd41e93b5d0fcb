"""The door to one cluster: JSON requests to its API server, as the user of a kubeconfig.

Credentials, certificates, proxies and login plugins are the affair of the `kubernetes` package;
objects stay plain dictionaries, because a watch of hundreds of pods costs a fraction of what
typed models cost, and a field that is newer than the package is not lost.
"""

import asyncio
import contextlib
import importlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import msgspec
import yaml

from meshtui.deploy.kubernetes.errors import ClusterError, refusal, unreachable
from meshtui.domain.errors import InvalidInput
from meshtui.domain.text import one_line

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

Json = dict[str, Any]

FIELD_MANAGER = "meshtui"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_CONNECT_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 30.0
# A watched connection that says nothing for so long is dead; bookmarks come about every minute.
_SILENCE_TIMEOUT_S = 180.0
# Load balancers cut connections that are silent for a minute or so.
_HEARTBEAT_S = 20.0
# Credentials are read anew after a refusal, but not by every request of a wave of them.
_RELOAD_INTERVAL_S = 5.0


class Cluster:
    """An API server and who we are there. Make it with `connect`; `close` it."""

    def __init__(self, client: "ApiClient", context: str | None, proxy: str | None) -> None:
        self._client = client
        self._context = context
        self._proxy = proxy
        self._reloading = asyncio.Lock()
        self._reloaded_at = 0.0
        self._retired: list[ApiClient] = []

    @classmethod
    async def connect(cls, context: str | None = None, *, proxy: str | None = None) -> Self:
        """Reads the kubeconfig (`KUBECONFIG`, else `~/.kube/config`), else the pod's own service
        account; asks nobody yet. `context` None: the current one. Raises `InvalidInput` that says
        which contexts there are."""
        return cls(await _load(context, proxy), context, proxy)

    @property
    def host(self) -> str:
        """The address of the API server."""
        return str(self._client.configuration.host)

    async def close(self) -> None:
        for client in (self._client, *self._retired):
            await client.close()

    async def get(self, path: str, **query: str) -> Json:
        """Raises `ClusterError`, as all requests do."""
        return await self._json("GET", path, query)

    async def create(self, path: str, body: Json) -> Json:
        return await self._json("POST", path, {"fieldManager": FIELD_MANAGER}, body)

    async def apply(
        self, path: str, body: Json, *, dry_run: bool = False, force: bool = False
    ) -> Json:
        """Server-side apply of one object. `dry_run`: everything is checked, nothing is kept.
        `force` takes fields over that another manager set."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        if dry_run:
            query["dryRun"] = "All"
        return await self._json("PATCH", path, query, body, _APPLY)

    async def patch(self, path: str, body: Json) -> Json:
        """A merge patch. With `metadata.resourceVersion` in it, it is refused where the object has
        changed since."""
        return await self._json("PATCH", path, {"fieldManager": FIELD_MANAGER}, body, _MERGE)

    async def delete(self, path: str, **options: Any) -> None:
        """Deletes; what is gone already is as well. `options` are DeleteOptions."""
        try:
            await self._json("DELETE", path, {}, options or None)
        except ClusterError as error:
            if error.status != 404:
                raise

    async def text(self, path: str, **query: str) -> str:
        """A body that is no JSON: a log. Bytes that are no UTF-8 are replaced."""
        async with self._answer("GET", path, query, None, None, _timeout()) as answer:
            return (await answer.read()).decode("utf-8", "replace")

    async def lines(self, path: str, **query: str) -> AsyncGenerator[bytes, None]:
        """The lines of an answer that goes on (a watch, a followed log). Ends where the server
        ends it; raises `ClusterError` where it breaks off."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_SILENCE_TIMEOUT_S
        )
        async with self._answer("GET", path, query, None, None, timeout) as answer:
            try:
                rest = b""
                async for piece in answer.content.iter_any():
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        yield line
                if rest:
                    yield rest
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise unreachable(self.host, error) from error

    @contextlib.asynccontextmanager
    async def websocket(
        self,
        path: str,
        *protocols: str,
        heartbeat_s: float | None = _HEARTBEAT_S,
        **query: str | Sequence[str],
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A websocket to a subresource of a pod, in the first of the protocols that the cluster
        knows. A query may hold several values of a name. `heartbeat_s` None: whoever uses it sees
        by itself that the other side is there. Raises `ClusterError` where it is refused.

        Not by the package's own client, which goes past proxies and `tls-server-name`.
        """
        if self._client.rest_client.pool_manager is None:
            await self.get("/version")  # its session is made with the first request
        asked_at = time.monotonic()
        try:
            socket = await self._upgrade(path, protocols, heartbeat_s, query)
        except ClusterError as error:
            if error.status != 401:
                raise
            await self._reload(asked_at)
            await self.get("/version")  # the new session's; it says why, where that was of no use
            socket = await self._upgrade(path, protocols, heartbeat_s, query)
        try:
            yield socket
        finally:
            await socket.close()

    async def _upgrade(
        self,
        path: str,
        protocols: Sequence[str],
        heartbeat_s: float | None,
        query: Mapping[str, str | Sequence[str]],
    ) -> aiohttp.ClientWebSocketResponse:
        configuration, session = self._client.configuration, self._client.rest_client.pool_manager
        _, url, headers, _, _ = await self._client.param_serialize(
            "GET", path, query_params=_pairs(query), auth_settings=["BearerToken"]
        )
        extra = {"proxy": configuration.proxy, "server_hostname": configuration.tls_server_name}
        try:
            socket: aiohttp.ClientWebSocketResponse = await session.ws_connect(
                url.replace("http", "ws", 1),
                protocols=protocols,
                headers=headers,
                heartbeat=heartbeat_s,
                max_msg_size=0,
                **{name: value for name, value in extra.items() if value},
            )
        except aiohttp.WSServerHandshakeError as error:
            # The library does not hand on the body that says more.
            raise refusal(error.status, {"message": f"the answer to {path}"}) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(self.host, error) from error
        return socket

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Json | None = None,
        content_type: str | None = None,
    ) -> Json:
        async with self._answer(method, path, query, body, content_type, _timeout()) as answer:
            try:
                return msgspec.json.decode(await answer.read(), type=Json)
            except (msgspec.DecodeError, aiohttp.ClientError, TimeoutError, OSError) as error:
                raise unreachable(self.host, error) from error

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Json | None,
        content_type: str | None,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful answer. Where the credentials were refused they are read anew, once: a
        token may have expired, or somebody may have logged in again."""
        asked_at = time.monotonic()
        answer = await self._ask(method, path, query, body, content_type, timeout)
        if answer.status == 401:
            answer.release()
            await self._reload(asked_at)
            answer = await self._ask(method, path, query, body, content_type, timeout)
        try:
            if answer.status >= 300:
                raise refusal(answer.status, await _decoded(answer))
            yield answer
        finally:
            answer.close()

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Json | None,
        content_type: str | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json, */*"}
        if content_type:
            headers["Content-Type"] = content_type
        try:
            method, url, headers, plain, _ = await self._client.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._client.call_api(
                method, url, header_params=headers, body=plain, _request_timeout=timeout
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(self.host, error) from error
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _reload(self, asked_at: float) -> None:
        async with self._reloading:
            if asked_at < self._reloaded_at or (
                time.monotonic() - self._reloaded_at < _RELOAD_INTERVAL_S
            ):
                return
            self._retired.append(self._client)  # others may be reading from it
            self._client = await _load(self._context, self._proxy)
            self._reloaded_at = time.monotonic()


def kubeconfig_path() -> str:
    """The files that kubectl would read, joined as it joins them."""
    return os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


def contexts() -> tuple[list[str], str | None]:
    """The contexts of the kubeconfig, and the current one. Blocks; raises `InvalidInput`."""
    from kubernetes.aio.config import ConfigException, list_kube_config_contexts

    try:
        found, current = list_kube_config_contexts(config_file=kubeconfig_path())
    except (ConfigException, OSError, TypeError, yaml.YAMLError) as error:
        raise _no_kubeconfig(error) from error
    return [str(entry["name"]) for entry in found], str(current["name"])


async def _load(context: str | None, proxy: str | None) -> "ApiClient":
    # Half a second of imports, which nobody pays who has no cluster, and no event loop waits for.
    await asyncio.to_thread(importlib.import_module, "kubernetes.aio.config")
    from kubernetes.aio import client, config

    configuration = client.Configuration()
    path = kubeconfig_path()
    try:
        if await asyncio.to_thread(_exists, path):
            await config.load_kube_config(
                config_file=path,
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
        elif context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(client_configuration=configuration)
        else:
            raise InvalidInput(
                f"There is no kubeconfig at {one_line(path)}.",
                hint="Log in to a cluster first, or let KUBECONFIG name its file.",
            )
        if proxy:
            configuration.proxy = proxy
        return client.ApiClient(configuration)
    except config.ConfigException as error:
        raise await asyncio.to_thread(_no_context, context, error) from error
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        raise _no_kubeconfig(error) from error


def _exists(paths: str) -> bool:
    return any(Path(part).expanduser().exists() for part in paths.split(os.pathsep) if part)


def _no_context(context: str | None, error: Exception) -> InvalidInput:
    names, _ = contexts() if context is not None else ([], None)
    if context is not None and context not in names:
        return InvalidInput(
            f"Your kubeconfig has no context {context!r}.",
            hint=f"There are: {', '.join(map(one_line, names)) or 'none'}.",
        )
    return _no_kubeconfig(error)


def _no_kubeconfig(error: Exception) -> InvalidInput:
    return InvalidInput(
        f"The kubeconfig {one_line(kubeconfig_path())} cannot be used: {one_line(str(error))}.",
        hint="See whether `kubectl get pods` works with it.",
    )


def _pairs(query: Mapping[str, str | Sequence[str]]) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, values in query.items()
        for value in ([values] if isinstance(values, str) else values)
    ]


def _timeout() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S)


async def _decoded(answer: aiohttp.ClientResponse) -> Any:
    try:
        return msgspec.json.decode(await answer.read())
    except (msgspec.DecodeError, aiohttp.ClientError, TimeoutError, OSError):
        return None

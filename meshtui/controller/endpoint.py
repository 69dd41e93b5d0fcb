"""The OpenAI-compatible endpoint on 127.0.0.1: switched on and off, guarded by a key."""

import asyncio
import errno
import hmac
import logging
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec
from aiohttp import web

from meshtui.cache.files import write_atomically
from meshtui.controller.gateway import errors_as_openai
from meshtui.controller.http import MAX_BODY_BYTES, Handler
from meshtui.controller.openai_shapes import error_body, json_response
from meshtui.domain.controller import EndpointStatus
from meshtui.domain.errors import Conflict, InvalidInput, MeshtuiError, Unavailable
from meshtui.settings.config import EndpointConfig

_LOGGER = logging.getLogger(__name__)
_HOST = "127.0.0.1"
_SHUTDOWN_TIMEOUT_S = 2.0


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered between controllers. `on` None: it was never switched."""

    key: str
    on: bool | None = None
    port: int | None = None


class Endpoint:
    """Listens on a port of this machine's own address while it is on.

    Its state file (mode 0600) holds the key, the last switch and the port, so that programs
    keep working over a restart. The port of the configuration wins over the remembered one.
    """

    def __init__(
        self,
        state_file: Path,
        *,
        config: Callable[[], EndpointConfig],
        add_routes: Callable[[web.Application], None],
        changed: Callable[[EndpointStatus], None],
    ) -> None:
        self._file = state_file
        self._config = config
        self._add_routes = add_routes
        self._changed = changed
        self._state = _State(key="")
        # Two who switch at once would both open a port, and one of them would stay for ever.
        self._switching = asyncio.Lock()
        self._runner: web.AppRunner | None = None
        self._port: int | None = None

    async def open(self) -> None:
        """Reads the state, and listens if it was on; raises `MeshtuiError` where it cannot."""
        self._state = await asyncio.to_thread(_read, self._file)
        on = self._config().on if self._state.on is None else self._state.on
        if on:
            await self._listen(self._wanted_port())

    async def close(self) -> None:
        runner, self._runner, self._port = self._runner, None, None
        if runner is not None:
            await runner.cleanup()

    def status(self, *, with_key: bool = False) -> EndpointStatus:
        if self._port is None:
            return EndpointStatus(on=False)
        return EndpointStatus(
            on=True,
            base_url=f"http://{_HOST}:{self._port}/v1",
            api_key=self._state.key if with_key else None,
        )

    async def switch(self, on: bool, port: int | None) -> EndpointStatus:
        """Raises `Conflict` where the port is taken; it stays as it was then."""
        if port is not None and not 1 <= port <= 65535:
            raise InvalidInput("A port is a number from 1 to 65535.")
        async with self._switching:
            await self._switch(on, port)
        self._changed(self.status())
        return self.status()

    async def _switch(self, on: bool, port: int | None) -> None:
        if on and (self._port is None or port not in (None, self._port)):
            before = self._port
            await self.close()
            try:
                await self._listen(port or self._wanted_port())
            except MeshtuiError:
                if before is not None:
                    await self._listen(before)
                raise
        elif not on:
            await self.close()
        self._state = msgspec.structs.replace(
            self._state, on=on, port=self._port or self._state.port
        )
        await asyncio.to_thread(_write, self._file, self._state)

    def _wanted_port(self) -> int:
        return self._config().port or self._state.port or 0

    async def _listen(self, port: int) -> None:
        if not self._state.key:
            self._state = msgspec.structs.replace(
                self._state, key=f"mesh-{secrets.token_urlsafe(32)}"
            )
            await asyncio.to_thread(_write, self._file, self._state)
        app = web.Application(
            middlewares=[errors_as_openai, self._guard], client_max_size=MAX_BODY_BYTES
        )
        self._add_routes(app)
        runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, _HOST, port).start()
        except OSError as error:
            await runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                raise Conflict(
                    f"Port {port} of {_HOST} is taken by another program.",
                    hint="Choose another: meshtui endpoint on --port NUMBER",
                ) from None
            raise Unavailable(
                f"Cannot listen on port {port}: {error.strerror}.",
                hint="Ports below 1024 need special rights: choose a higher one.",
            ) from None
        self._runner = runner
        self._port = runner.addresses[0][1]

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        given = key.strip().encode("utf-8", "surrogateescape")
        known = hmac.compare_digest(given, self._state.key.encode())
        if scheme.lower() != "bearer" or not known:
            message = "The API key is missing or wrong: see `meshtui endpoint env`."
            body = error_body(message, "invalid_request_error", "invalid_api_key")
            return json_response(body, 401)
        return await handler(request)


def _read(path: Path) -> _State:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_State)
    except FileNotFoundError:
        return _State(key="")
    except (OSError, msgspec.MsgspecError) as error:
        _LOGGER.warning("%s cannot be read, a new key is made: %s", path, error)
        return _State(key="")


def _write(path: Path, state: _State) -> None:
    """Blocks."""
    try:
        write_atomically(path, msgspec.json.encode(state), mode=0o600)
    except OSError as error:
        # It works until the controller ends, and then with a new key: no reason to refuse it.
        _LOGGER.warning("%s cannot be written: %s", path, error)

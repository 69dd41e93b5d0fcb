"""The controller as a process: its start, its signals, its end."""

import argparse
import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

import meshtui
from meshtui.controller import api
from meshtui.controller.core import Core, Places
from meshtui.controller.gateway import errors_as_openai
from meshtui.controller.http import MAX_BODY_BYTES, Handler, errors_as_json
from meshtui.controller.listener import Listener
from meshtui.controller.lock import ControllerLock
from meshtui.controller.logging_setup import log_to
from meshtui.controller.parts import MakeManagers
from meshtui.deploy.definitions import shipped_definitions
from meshtui.domain.errors import MeshtuiError, Unavailable
from meshtui.domain.text import one_line
from meshtui.settings import paths
from meshtui.settings.store import Settings

_LOGGER = logging.getLogger(__name__)
# Streams are ended by their owners before; whoever still writes then is a client that does
# not read.
_SHUTDOWN_TIMEOUT_S = 1.0


def application(core: Core) -> web.Application:
    """The client's routes and the gateway's, each with its own manner of errors."""
    app = web.Application(middlewares=[_errors], client_max_size=MAX_BODY_BYTES)
    app.add_routes(api.routes(core))
    core.gateway.add_routes(app)
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    manner = errors_as_openai if request.path.startswith("/v1/") else errors_as_json
    return await manner(request, handler)


@asynccontextmanager
async def listening(core: Core, socket: Path) -> AsyncGenerator[None, None]:
    """A controller that answers on `socket` inside the block. Raises `MeshtuiError`."""
    await core.open()
    runner = web.AppRunner(
        application(core),
        # A client that goes away ends its stream, and with it the work for it in the engine.
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
    )
    listener = Listener(runner, socket)
    try:
        await runner.setup()
        await listener.open()
        yield
    finally:
        await listener.close()
        await core.end_streams()
        await runner.cleanup()
        await core.close()


async def serve(core: Core, socket: Path) -> None:
    """Runs until asked to stop (`Core.stop`, SIGTERM, SIGINT)."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, core.stop)
    async with listening(core, socket):
        _say(f"ready {socket}")
        _LOGGER.info("meshtui %s listens on %s", meshtui.__version__, socket)
        await core.stopping.wait()
        _LOGGER.info("stopping")


def main(arguments: list[str], make_managers: MakeManagers) -> int:
    """The whole life of the process; returns its exit status."""
    # The end of a terminal is not ours. A handler and not SIG_IGN, which engines would inherit.
    signal.signal(signal.SIGHUP, lambda *_: None)
    parser = argparse.ArgumentParser(prog="python -m meshtui.controller")
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--detach", action="store_true", help="leave the terminal's session")
    options = parser.parse_args(arguments)
    try:
        return _run(options.socket or paths.socket_path(), make_managers)
    except MeshtuiError as error:
        # Standard error is the log, or the terminal of who started it by hand. The log may be
        # just what cannot be written: whoever waits is told as well.
        with contextlib.suppress(OSError):
            print(f"meshtui.controller: {error}", file=sys.stderr, flush=True)
        _say(f"failed {one_line(str(error), 1000)}")
        return 1


def new_core(socket: Path, make_managers: MakeManagers) -> Core:
    """A controller over this user's folders, not yet opened."""
    places = Places(
        socket=socket,
        log=paths.controller_log_path(),
        history=paths.history_path(),
        endpoint=paths.state_dir() / "endpoint.json",
        models=paths.models_dir(),
        transfers=paths.state_dir() / "transfers.json",
        cache_index=paths.state_dir() / "cache-index",
    )
    settings = Settings(paths.config_dir(), shipped_definitions())
    return Core(places, settings, make_managers)


def _run(socket: Path, make_managers: MakeManagers) -> int:
    lock = ControllerLock()
    try:
        held = lock.acquire(socket)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(f"The folder {paths.state_dir()} cannot be used: {reason}.") from error
    if held is None:
        holder = lock.holder()
        _say(f"running {holder.socket if holder else socket}")
        return 0
    log_to(paths.controller_log_path())
    faulthandler.enable()
    try:
        asyncio.run(serve(new_core(socket, make_managers), socket))
    except MeshtuiError:
        raise
    except Exception:
        _LOGGER.exception("the controller ends")
        raise
    return 0


def _say(text: str) -> None:
    """Tells whoever started us (who may be gone), then lets go of the pipe."""
    with contextlib.suppress(OSError):
        os.write(1, f"{text}\n".encode())
    os.dup2(2, 1)

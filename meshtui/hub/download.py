"""Brings a model's files in from the Hub: what an engine needs of them, checked, resumable."""

import asyncio
import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from meshtui.domain.errors import MeshtuiError, NoRoom
from meshtui.hub.errors import ModelNotOnHub, refusal
from meshtui.hub.model_files import HubFile, HubModel, file_url, request_headers
from meshtui.hub.reach import open_session
from meshtui.hub.selection import select_files
from meshtui.hub.transfer import DEFAULT_RETRIES, Retries, fetch_file

_AT_ONCE = 4
_PROGRESS_EVERY_S = 0.1
_RATE_OVER_S = 3.0
_DISK_MARGIN_BYTES = 64_000_000


class DownloadProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a download is; `rate_bytes_s` is that of the last three seconds."""

    done_bytes: int
    total_bytes: int
    rate_bytes_s: float

    @property
    def fraction(self) -> float:
        return self.done_bytes / self.total_bytes if self.total_bytes else 1.0

    @property
    def left_s(self) -> float | None:
        """Seconds to go at this rate; None while nothing comes."""
        left = self.total_bytes - self.done_bytes
        return left / self.rate_bytes_s if self.rate_bytes_s > 0 else None


def files_to_fetch(model: HubModel) -> list[HubFile]:
    """The files that an engine needs of it; raises `ModelNotOnHub` where there are none."""
    by_path = {file.path: file for file in model.files}
    chosen = [by_path[path] for path in select_files(by_path)]
    if not chosen:
        raise ModelNotOnHub(f"{model.ref} holds no files that an engine can load.")
    return chosen


async def download(
    model: HubModel,
    files: Sequence[HubFile],
    folder: Path,
    *,
    endpoint: str,
    token: str | None,
    on_progress: Callable[[DownloadProgress], None],
    retries: Retries = DEFAULT_RETRIES,
) -> dict[str, str]:
    """Fetches `files` to `folder/model/`; gives the SHA-256 of each by its path.

    `folder/parts/` holds what is under way; called again with the same folder it goes on from
    there, unless the model has moved on to another commit: then only equal files are kept.
    `on_progress` is called up to ten times a second. Raises `NoRoom`, or as `fetch_file`.
    """
    total_bytes = sum(file.size_bytes for file in files)
    present = await asyncio.to_thread(_prepare, folder, model, files)
    await asyncio.to_thread(_check_room, folder, total_bytes)
    headers = await asyncio.to_thread(request_headers, endpoint, token)
    urls = await asyncio.to_thread(
        lambda: {file.path: file_url(endpoint, model, file.path) for file in files}
    )
    meter = _Meter(total_bytes, on_progress)
    gate = asyncio.Semaphore(_AT_ONCE)
    digests = dict(present)

    def refused(status: int, answer: Mapping[str, str]) -> MeshtuiError:
        return refusal(
            model=model.ref.model_id,
            endpoint=endpoint,
            status=status,
            code=answer.get("X-Error-Code", ""),
            message=answer.get("X-Error-Message", ""),
            has_token="authorization" in {name.lower() for name in headers},
        )

    async with open_session() as session, meter:

        async def fetch(file: HubFile) -> None:
            async with gate:
                digests[file.path] = await fetch_file(
                    session,
                    urls[file.path],
                    file,
                    headers=headers,
                    part=folder / "parts" / part_name(file),
                    target=folder / "model" / file.path,
                    on_bytes=meter.add,
                    refusal=refused,
                    retries=retries,
                )
                await asyncio.to_thread(_note, folder, file, digests[file.path])

        meter.add(sum(file.size_bytes for file in files if file.path in present))
        try:
            async with asyncio.TaskGroup() as group:
                for file in sorted(files, key=lambda file: file.size_bytes):
                    if file.path not in present:
                        group.create_task(fetch(file))
        except* MeshtuiError as errors:
            raise errors.exceptions[0] from None
    return digests


def part_name(file: HubFile) -> str:
    """Named for the content, so that a changed file never goes on from the old one's part, and
    for the path, since two files may have the same content."""
    path = hashlib.sha256(file.path.encode()).hexdigest()[:12]
    return f"{file.sha256 or file.git_sha1 or 'unknown'}-{path}.part"


def _prepare(folder: Path, model: HubModel, files: Sequence[HubFile]) -> dict[str, str]:
    """Keeps what an earlier attempt finished (it was checked then) and is still wanted; gives
    those files' SHA-256."""
    done = _notes(folder)
    kept = {}
    for file in files:
        target = folder / "model" / file.path
        identity, _, digest = done.get(file.path, "").partition(" ")
        if not digest or identity != part_name(file) or not target.is_file():
            continue
        if target.stat().st_size == file.size_bytes:
            kept[file.path] = digest
    wanted = {part_name(file) for file in files}
    for path in folder.glob("parts/*.part"):
        if path.name not in wanted:
            path.unlink()
    for path in folder.glob("model/**/*"):
        if path.is_file() and path.relative_to(folder / "model").as_posix() not in kept:
            path.unlink()
    (folder / "parts").mkdir(exist_ok=True)
    (folder / "model").mkdir(exist_ok=True)
    return kept


def _notes(folder: Path) -> dict[str, str]:
    notes: dict[str, str] = {}
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        for line in (folder / "done.jsonl").read_bytes().splitlines():
            notes.update(msgspec.json.decode(line, type=dict[str, str]))
    return notes


def _note(folder: Path, file: HubFile, digest: str) -> None:
    """One line a finished file; a torn last line only costs that file."""
    with (folder / "done.jsonl").open("ab") as notes:
        notes.write(msgspec.json.encode({file.path: f"{part_name(file)} {digest}"}) + b"\n")


def _check_room(folder: Path, total_bytes: int) -> None:
    have = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    need = total_bytes - have + _DISK_MARGIN_BYTES
    free = shutil.disk_usage(folder).free
    if free < need:
        raise NoRoom(
            f"The model takes {total_bytes / 1e9:.1f} GB; {folder.parent} has "
            f"{free / 1e9:.1f} GB left.",
            hint="Free some space, or move the model cache to another disk with MESHTUI_CACHE.",
        )


class _Meter:
    """Counts bytes and reports them ten times a second, whether they come or not."""

    def __init__(self, total: int, on_progress: Callable[[DownloadProgress], None]) -> None:
        self._total = total
        self._done = 0
        self._on_progress = on_progress
        self._seen: list[tuple[float, int]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, count: int) -> None:
        self._done += count

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._report())

    async def __aexit__(self, *error: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if error[0] is None:
            self._show()

    async def _report(self) -> None:
        while True:
            self._show()
            await asyncio.sleep(_PROGRESS_EVERY_S)

    def _show(self) -> None:
        now = time.monotonic()
        self._seen = [(at, done) for at, done in self._seen if now - at <= _RATE_OVER_S]
        self._seen.append((now, self._done))
        first_at, first_done = self._seen[0]
        rate = (self._done - first_done) / (now - first_at) if now > first_at else 0.0
        self._on_progress(
            DownloadProgress(
                done_bytes=self._done, total_bytes=self._total, rate_bytes_s=max(0.0, rate)
            )
        )

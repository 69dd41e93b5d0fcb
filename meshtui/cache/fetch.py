"""Brings a model from the Hub into the cache: what it would fetch, and the fetching."""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from meshtui.cache.metadata import new_metadata
from meshtui.cache.names import folder_name
from meshtui.cache.staging import PARTIAL, STAGING, short
from meshtui.cache.store import Entry, ModelStore, Stage, current_user, now_ms
from meshtui.domain.errors import InvalidInput, MeshtuiError
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import DownloadPlan, PlannedFile
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line
from meshtui.hub.download import download, files_to_fetch
from meshtui.hub.errors import HubUnreachable, unreachable
from meshtui.hub.leftovers import DownloadFolder
from meshtui.hub.meter import DownloadProgress
from meshtui.hub.model_files import HubModel, look_up
from meshtui.hub.reach import NOT_TRUSTED, Reach, why_unreachable
from meshtui.hub.retries import DEFAULT_RETRIES, Retries
from meshtui.hub.selection import why_left_out

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


async def plan_download(
    ref: ModelRef, store: ModelStore, reach: Reach, *, files: Sequence[str] | None = None
) -> DownloadPlan:
    """What `fetch` would bring: all files of the repository, and which of them. `files` are those
    that a person wants instead of what engines need. Raises the errors of the Hub."""
    await _check_reachable(reach)
    model = await look_up(ref, reach)
    reasons = why_left_out(file.path for file in model.files)
    wanted = set(files) if files is not None else {p for p, why in reasons.items() if why is None}
    chosen = [file for file in model.files if file.path in wanted]
    have, free, cached = await asyncio.to_thread(
        lambda: (
            DownloadFolder(_partial(store, ref), model).present_bytes(chosen),
            _free_bytes(store),
            store.folder(ref).exists(),
        )
    )
    return DownloadPlan(
        model=str(ref),
        commit=model.commit,
        files=tuple(
            PlannedFile(
                path=one_line(file.path, 500),
                size_bytes=file.size_bytes,
                selected=file.path in wanted,
                reason=reasons[file.path] or "",
            )
            for file in model.files
        ),
        have_bytes=have,
        free_bytes=free,
        cached=cached,
        licence=model.licence,
        findings=tuple(_findings(model, {file.path for file in chosen}, reach)),
    )


async def fetch(
    ref: ModelRef,
    store: ModelStore,
    reach: Reach,
    *,
    files: Sequence[str] | None = None,
    replace: bool = False,
    on_progress: Callable[[DownloadProgress], None],
    on_wait: Callable[[], None] | None = None,
    retries: Retries = DEFAULT_RETRIES,
) -> Entry:
    """Brings the model in; one that is there and can be used is given as it is, unless `replace`:
    then a new one takes its place once all has come. `on_wait` is called while another process
    brings it in, whose entry is given then. What has come is kept when this ends early, and is not
    fetched again. Raises the errors of the Hub, `NoRoom` or `Unavailable`."""
    waited = False

    def waiting() -> None:
        nonlocal waited
        waited = True
        if on_wait:
            on_wait()

    async with store.lock(ref, waiting):
        if waited or not replace:
            entry = await asyncio.to_thread(usable, store, ref)
            if entry is not None:
                return entry
        return await _fetch(ref, store, reach, files, on_progress, retries)


async def _fetch(
    ref: ModelRef,
    store: ModelStore,
    reach: Reach,
    files: Sequence[str] | None,
    on_progress: Callable[[DownloadProgress], None],
    retries: Retries,
) -> Entry:
    """For one who holds the store's lock of the model."""
    await _check_reachable(reach, missing=ref)
    model = await look_up(ref, reach)
    wanted = files_to_fetch(model, files)
    stage = await asyncio.to_thread(store.stage, ref, resume=True)
    try:
        digests = await download(
            model, wanted, stage.folder, reach=reach, on_progress=on_progress, retries=retries
        )
    except MeshtuiError:
        await asyncio.to_thread(_forget_if_empty, store, stage)
        raise
    metadata = new_metadata(
        ref,
        commit_hash=model.commit,
        last_modified=model.last_modified,
        library_name=model.library,
        pipeline_name=model.pipeline,
        tagged_languages=model.languages,
        tags=model.tags,
        download_date=now_ms(),
        downloaded_by=current_user(),
    )
    return await asyncio.to_thread(stage.commit, metadata, digests)


def _forget_if_empty(store: ModelStore, stage: Stage) -> None:
    """A download that was refused before its first byte is no half one."""
    if not any(path.is_file() and path.stat().st_size for path in stage.folder.rglob("*/*")):
        store.abandon(stage)


def usable(store: ModelStore, ref: ModelRef) -> Entry | None:
    """The entry, or None where there is none that can be used: a broken one is replaced."""
    try:
        return store.find(ref)
    except InvalidInput:
        return None


async def _check_reachable(reach: Reach, *, missing: ModelRef | None = None) -> None:
    """Says within seconds what a look-up says after minutes; `missing` cannot be had then."""
    reason = await why_unreachable(reach)
    if reason is None:
        return
    error = unreachable(reach.endpoint, reason, certificates=reason.startswith(NOT_TRUSTED))
    if missing is None:
        raise error
    raise HubUnreachable(
        f"{missing} is not in the model cache, and the Hub at {reach.endpoint} cannot be reached: "
        f"{reason}.",
        hint=f"{error.hint} Without a network, models are imported: meshtui cache import.",
    )


def _findings(model: HubModel, chosen: set[str], reach: Reach) -> Iterator[Finding]:
    name = model.ref.model_id
    if model.gated or model.private:
        kind = "gated" if model.gated else "private"
        yield Finding(
            rule="access",
            level=Level.WARNING if model.gated else Level.OK,
            message=f"{name} is {kind}: only accounts that were let in can fetch its files.",
            fix=f"Ask for access at {reach.endpoint}/{name} with the account of the token."
            if model.gated
            else "",
        )
    weights = [path for path in chosen if path.endswith(_WEIGHTS)]
    if not weights:
        yield Finding(
            rule="weights",
            level=Level.WARNING,
            message="No weights are among the files that would be fetched.",
            fix="Choose files yourself, or another repository of the model.",
        )
    elif not any(path.endswith(".safetensors") for path in weights):
        yield Finding(
            rule="pickle",
            level=Level.WARNING,
            message="The weights are pickles: loading them can run code.",
            fix="Prefer a repository with safetensors files.",
        )
    if flagged := [path for path in model.flagged if path in chosen]:
        yield Finding(
            rule="security",
            level=Level.WARNING,
            message=f"The Hub's scanners found something in {', '.join(flagged[:3])}.",
            fix=f"Read what, at {reach.endpoint}/{name}/tree/{model.commit}, before loading it.",
        )
    if any(file.sha256 is None and file.git_sha1 is None for file in model.files):
        yield Finding(
            rule="no-hashes",
            level=Level.WARNING,
            message="This mirror tells no hashes: what arrives cannot be checked.",
        )


def _partial(store: ModelStore, ref: ModelRef) -> Path:
    """Where a download of the model goes on, if there was one."""
    return store.root / STAGING / f"{short(folder_name(ref))}{PARTIAL}"


def _free_bytes(store: ModelStore) -> int:
    place = next((p for p in (store.root, *store.root.parents) if p.is_dir()), store.root)
    return shutil.disk_usage(place).free

"""The routes of the model cache: one handler a question."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web

from meshtui.controller.cache import ModelCache
from meshtui.controller.http import answer, body, json_lines
from meshtui.controller.transfer_requests import (
    AdoptRequest,
    BuildRequest,
    DownloadRequest,
    ExportRequest,
    ImportRequest,
    Request,
    VerifyRequest,
)
from meshtui.domain.errors import InvalidInput
from meshtui.domain.model_cache import PruneWishes
from meshtui.domain.model_ref import ModelRef


class _Models(msgspec.Struct, frozen=True):
    models: tuple[str, ...]


def add_cache_routes(table: web.RouteTableDef, cache: ModelCache) -> None:
    """All routes that begin with `/cache` or `/transfers`."""
    _entry_routes(table, cache)
    _plan_routes(table, cache)
    _transfer_routes(table, cache)
    for path, kind in (
        ("/cache/download", DownloadRequest),
        ("/cache/import", ImportRequest),
        ("/cache/build", BuildRequest),
        ("/cache/adopt", AdoptRequest),
        ("/cache/export", ExportRequest),
        ("/cache/verify", VerifyRequest),
    ):
        table.post(path)(_submit(cache, kind))


def _submit(
    cache: ModelCache, kind: type[Request]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def submit(request: web.Request) -> web.Response:
        wanted = await body(request, kind)
        if wanted.named is not None:
            ModelRef.parse(wanted.named)
        if wanted.place is not None:
            _absolute(wanted.place)
        return answer(await cache.submit(wanted), 202)

    return submit


def _entry_routes(table: web.RouteTableDef, cache: ModelCache) -> None:
    @table.get("/cache/entries")
    async def entries(request: web.Request) -> web.Response:
        found = await cache.entries.look()
        # Thousands of them are megabytes of JSON.
        data = await asyncio.to_thread(json_lines, found)
        return web.Response(body=data, content_type="application/x-ndjson")

    @table.get("/cache/entry")
    async def entry(request: web.Request) -> web.Response:
        return answer(await cache.details(request.query.get("model", "")))

    @table.get("/cache/usage")
    async def usage(request: web.Request) -> web.Response:
        await cache.entries.look()
        return answer(cache.entries.usage)

    @table.get("/cache/hub")
    async def hub(request: web.Request) -> web.Response:
        path = request.query.get("path")
        return answer(await cache.hub_cache(None if path is None else _absolute(path)))

    @table.post("/cache/delete")
    async def delete(request: web.Request) -> web.Response:
        return answer(await cache.removal.delete((await body(request, _Models)).models))

    @table.post("/cache/prune")
    async def prune(request: web.Request) -> web.Response:
        return answer(await cache.removal.prune(await body(request, PruneWishes)))


def _plan_routes(table: web.RouteTableDef, cache: ModelCache) -> None:
    @table.post("/cache/plan/download")
    async def download(request: web.Request) -> web.Response:
        wanted = await body(request, DownloadRequest)
        return answer(await cache.plan_download(wanted.model, wanted.connection))

    @table.post("/cache/plan/import")
    async def import_(request: web.Request) -> web.Response:
        wanted = await body(request, ImportRequest)
        return answer(await cache.plan_import(_absolute(wanted.path)))

    @table.post("/cache/plan/build")
    async def build(request: web.Request) -> web.Response:
        wanted = await body(request, BuildRequest)
        return answer(await cache.plan_build(_absolute(wanted.path), wanted.wishes))

    @table.post("/cache/plan/export")
    async def export(request: web.Request) -> web.Response:
        wanted = await body(request, ExportRequest)
        _absolute(wanted.wishes.folder)
        return answer(await cache.plan_export(wanted.model, wanted.wishes))

    @table.post("/cache/plan/delete")
    async def delete(request: web.Request) -> web.Response:
        return answer(await cache.removal.plan_delete((await body(request, _Models)).models))

    @table.post("/cache/plan/prune")
    async def prune(request: web.Request) -> web.Response:
        return answer(await cache.removal.plan_prune(await body(request, PruneWishes)))


def _transfer_routes(table: web.RouteTableDef, cache: ModelCache) -> None:
    @table.get("/transfers")
    async def transfers(request: web.Request) -> web.Response:
        return answer(cache.transfers.list())

    @table.post("/transfers/{id}/cancel")
    async def cancel(request: web.Request) -> web.Response:
        return answer(await cache.transfers.cancel(request.match_info["id"]))

    @table.post("/transfers/{id}/retry")
    async def retry(request: web.Request) -> web.Response:
        return answer(await cache.retry(request.match_info["id"]), 202)

    @table.delete("/transfers/{id}")
    async def remove(request: web.Request) -> web.Response:
        await cache.transfers.remove(request.match_info["id"])
        return answer({})


def _absolute(path: str) -> Path:
    """The controller has no folder of its own that a relative path could mean."""
    if not path.startswith("/") or "\0" in path:
        raise InvalidInput("The path must be absolute.")
    return Path(path)

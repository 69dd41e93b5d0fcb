"""The routes of the client: one handler a question."""

from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import msgspec
from aiohttp import web

from meshtui.controller.cache_api import add_cache_routes
from meshtui.controller.check_api import add_check_routes
from meshtui.controller.connections_api import add_connection_routes
from meshtui.controller.core import Core
from meshtui.controller.http import answer, body, flag, json_lines, ndjson, number
from meshtui.controller.logs import log_bytes
from meshtui.controller.settings_api import add_settings_routes
from meshtui.deploy.local import PREVIOUS_LOG_NAME
from meshtui.domain.errors import InvalidInput
from meshtui.domain.generation import ChatRequest
from meshtui.domain.runtime import BuildPhase
from meshtui.domain.server import Phase
from meshtui.studio.history import MAX_PAGE

KEEP_ALIVE_S = 15.0
_MAX_TAIL_LINES = 100_000
_BEFORE_THE_ENGINE = frozenset(
    {
        Phase.QUEUED,
        Phase.FETCHING_MODEL,
        Phase.BUILDING_RUNTIME,
        Phase.SCHEDULING,
        Phase.PULLING_IMAGE,
    }
)


class _StartServer(msgspec.Struct):
    model: str
    connection: str | None = None


class _Build(msgspec.Struct):
    rebuild: bool = False


class _Star(msgspec.Struct):
    starred: bool


class _Switch(msgspec.Struct):
    on: bool
    port: int | None = None


def routes(core: Core) -> web.RouteTableDef:
    """All routes of the client over `core`."""
    table = web.RouteTableDef()
    _controller_routes(table, core)
    _server_routes(table, core)
    _runtime_routes(table, core)
    _run_routes(table, core)
    core.images.add_routes(table)
    core.pooling.add_routes(table)
    add_check_routes(table, core.checks, core.search, core.before_start)
    add_cache_routes(table, core.cache)
    add_settings_routes(table, core.settings)
    add_connection_routes(table, core.editing, core.settings, core.runtimes)
    return table


def _controller_routes(table: web.RouteTableDef, core: Core) -> None:
    @table.get("/controller")
    async def info(request: web.Request) -> web.Response:
        return answer(core.info())

    @table.post("/controller/stop")
    async def stop(request: web.Request) -> web.Response:
        core.stop()
        return answer({}, 202)

    @table.get("/events")
    async def events(request: web.Request) -> web.StreamResponse:
        response = await ndjson(request)
        async with aclosing(core.hub.subscribe(KEEP_ALIVE_S)) as batches:
            async for batch in batches:
                await response.write(json_lines(batch) or b"\n")
        return response

    @table.get("/connections")
    async def connections(request: web.Request) -> web.Response:
        return answer(list(core.connections.values()))

    @table.get("/connections/{name}")
    async def connection(request: web.Request) -> web.Response:
        return answer(core.catalogue.connection(request.match_info["name"]))

    @table.get("/models")
    async def models(request: web.Request) -> web.Response:
        return answer(core.models())

    @table.get("/endpoint")
    async def endpoint(request: web.Request) -> web.Response:
        return answer(core.endpoint.status(with_key=flag(request, "key")))

    @table.post("/endpoint")
    async def switch(request: web.Request) -> web.Response:
        wanted = await body(request, _Switch)
        return answer(await core.endpoint.switch(wanted.on, wanted.port))


def _server_routes(table: web.RouteTableDef, core: Core) -> None:
    @table.get("/servers")
    async def servers(request: web.Request) -> web.Response:
        return answer(core.servers.list())

    @table.post("/servers")
    async def start(request: web.Request) -> web.Response:
        wanted = await body(request, _StartServer)
        choice = core.catalogue.find(wanted.model, wanted.connection)
        return answer(await core.servers.start(choice.connection, choice.enabled), 202)

    @table.get("/servers/{id}")
    async def server(request: web.Request) -> web.Response:
        return answer(core.servers.get(request.match_info["id"]))

    @table.post("/servers/{id}/stop")
    async def stop(request: web.Request) -> web.Response:
        return answer(await core.servers.stop(request.match_info["id"]))

    @table.delete("/servers/{id}")
    async def remove(request: web.Request) -> web.Response:
        await core.servers.remove(request.match_info["id"])
        return answer({})

    @table.get("/servers/{id}/log")
    async def log(request: web.Request) -> web.StreamResponse:
        server_id = request.match_info["id"]
        path = core.servers.log_path(server_id)
        if flag(request, "previous"):
            path = path.with_name(PREVIOUS_LOG_NAME)

        def is_over() -> bool:
            if core.stopping.is_set():
                return True
            return all(s.id != server_id or s.phase.is_over for s in core.servers.list())

        # Until the engine is started, the log is still that of the start before.
        waits = core.servers.get(server_id).phase in _BEFORE_THE_ENGINE
        async with core.servers.reading(server_id):
            return await _log(request, path, is_over, only_new=waits and flag(request, "follow"))


def _runtime_routes(table: web.RouteTableDef, core: Core) -> None:
    @table.get("/runtimes")
    async def runtimes(request: web.Request) -> web.Response:
        return answer(core.runtimes.list())

    @table.get("/runtimes/{name}")
    async def runtime(request: web.Request) -> web.Response:
        return answer(core.runtimes.get(request.match_info["name"]))

    @table.post("/runtimes/{name}/build")
    async def build(request: web.Request) -> web.Response:
        wanted = await body(request, _Build)
        name = request.match_info["name"]
        return answer(await core.runtimes.build(name, rebuild=wanted.rebuild), 202)

    @table.post("/runtimes/{name}/cancel")
    async def cancel(request: web.Request) -> web.Response:
        await core.runtimes.cancel(request.match_info["name"])
        return answer(core.runtimes.get(request.match_info["name"]))

    @table.delete("/runtimes/{name}")
    async def delete(request: web.Request) -> web.Response:
        await core.runtimes.delete(request.match_info["name"])
        return answer({})

    @table.get("/runtimes/{name}/log")
    async def log(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        path = core.runtimes.log_path(name)

        def is_over() -> bool:
            if core.stopping.is_set():
                return True
            # Its definition may be deleted meanwhile, and then it is in no list.
            runtimes = core.runtimes.list()
            return all(r.name != name or r.phase is not BuildPhase.BUILDING for r in runtimes)

        return await _log(request, path, is_over)


def _run_routes(table: web.RouteTableDef, core: Core) -> None:
    @table.post("/runs")
    async def prompt(request: web.Request) -> web.StreamResponse:
        chat = await body(request, ChatRequest)
        async with aclosing(core.runs.stream(chat)) as batches:
            # What cannot begin raises here, before the answer's status is sent.
            first = await anext(batches)
            response = await ndjson(request)
            await response.write(json_lines(first))
            async for batch in batches:
                await response.write(json_lines(batch))
        await response.write_eof()
        return response

    @table.get("/runs")
    async def runs(request: web.Request) -> web.Response:
        limit = number(request, "limit", 100, MAX_PAGE)
        query = request.query
        return answer(
            await core.history.newest(
                limit=limit, search=query.get("search"), before=query.get("before")
            )
        )

    @table.get("/runs/{id}")
    async def run(request: web.Request) -> web.Response:
        return answer(await core.history.get(request.match_info["id"]))

    @table.delete("/runs/{id}")
    async def delete(request: web.Request) -> web.Response:
        found = await core.history.get(request.match_info["id"])
        if found.status == "running":
            raise InvalidInput("This run is still going on.", hint="Cancel it first.")
        await core.history.delete(found.id)
        return answer({})

    @table.post("/runs/{id}/star")
    async def star(request: web.Request) -> web.Response:
        wanted = await body(request, _Star)
        return answer(await core.history.star(request.match_info["id"], wanted.starred))


async def _log(
    request: web.Request, path: Path, is_over: Callable[[], bool], *, only_new: bool = False
) -> web.StreamResponse:
    tail = 0 if only_new else number(request, "tail", 1000, _MAX_TAIL_LINES)
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    await response.prepare(request)
    follow = flag(request, "follow")
    async with aclosing(log_bytes(path, tail=tail, follow=follow, is_over=is_over)) as pieces:
        async for piece in pieces:
            await response.write(piece)
    await response.write_eof()
    return response

"""The routes that change and test connections."""

import msgspec
from aiohttp import web

from meshtui.controller.connection_probe import probe, token_owner
from meshtui.controller.editing import Editing
from meshtui.controller.http import answer, body
from meshtui.controller.parts import Runtimes
from meshtui.domain.connection import Connection
from meshtui.domain.editing import ANY_REVISION
from meshtui.domain.execution import LOCAL
from meshtui.settings.store import Settings


class _Save(msgspec.Struct, frozen=True):
    connection: Connection
    revision: str | None = None


class _Copy(msgspec.Struct, frozen=True):
    name: str


class _Faults(msgspec.Struct, frozen=True):
    connection: Connection
    name: str | None = None


class _Token(msgspec.Struct, frozen=True):
    reference: str
    connection: Connection | None = None


def add_connection_routes(
    table: web.RouteTableDef, editing: Editing, settings: Settings, runtimes: Runtimes
) -> None:
    @table.post("/connections")
    async def create(request: web.Request) -> web.Response:
        return answer(await editing.create(await body(request, Connection)), 201)

    @table.get("/connections/{name}/editable")
    async def look(request: web.Request) -> web.Response:
        return answer(await editing.look(request.match_info["name"]))

    @table.put("/connections/{name}")
    async def save(request: web.Request) -> web.Response:
        wanted = await body(request, _Save)
        name = request.match_info["name"]
        return answer(await editing.save(name, wanted.connection, wanted.revision))

    @table.post("/connections/{name}/copy")
    async def duplicate(request: web.Request) -> web.Response:
        wanted = await body(request, _Copy)
        return answer(await editing.duplicate(request.match_info["name"], wanted.name), 201)

    @table.delete("/connections/{name}")
    async def delete(request: web.Request) -> web.Response:
        revision = request.query.get("revision", ANY_REVISION)
        await editing.delete(request.match_info["name"], revision)
        return answer({})

    @table.get("/executions")
    async def executions(_request: web.Request) -> web.Response:
        return answer([LOCAL, *settings.executions.objects])

    @table.post("/connection-faults")
    async def faults(request: web.Request) -> web.Response:
        wanted = await body(request, _Faults)
        return answer(await editing.faults(wanted.connection, wanted.name))

    @table.post("/connection-test")
    async def test(request: web.Request) -> web.Response:
        connection = await body(request, Connection)
        return answer(await probe(connection, settings.executions, runtimes.list()))

    @table.post("/token-owner")
    async def whose(request: web.Request) -> web.Response:
        wanted = await body(request, _Token)
        return answer(await token_owner(wanted.reference, wanted.connection))

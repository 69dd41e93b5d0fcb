"""The routes of the checker."""

import msgspec
from aiohttp import web

from meshtui.controller.before_start import BeforeStart
from meshtui.controller.checks import Checks
from meshtui.controller.http import answer, body, number
from meshtui.controller.model_search import ModelSearch
from meshtui.domain.check import CheckWishes
from meshtui.domain.errors import InvalidInput
from meshtui.hub.search import MOST_FOUND
from meshtui.memory.gpus import gpus

_MOST_MODELS = 1000


class _Check(msgspec.Struct, frozen=True):
    models: tuple[str, ...]
    wishes: CheckWishes = CheckWishes()


class _Start(msgspec.Struct, frozen=True):
    model: str
    connection: str | None = None


def add_check_routes(
    table: web.RouteTableDef, checks: Checks, search: ModelSearch, before_start: BeforeStart
) -> None:
    @table.post("/check")
    async def check(request: web.Request) -> web.Response:
        wanted = await body(request, _Check)
        if len(wanted.models) > _MOST_MODELS:
            raise InvalidInput(f"At most {_MOST_MODELS} models can be checked at a time.")
        return answer(await checks.check(wanted.models, wanted.wishes))

    @table.post("/check/start")
    async def check_start(request: web.Request) -> web.Response:
        wanted = await body(request, _Start)
        return answer(await before_start.blockers(wanted.model, wanted.connection))

    @table.get("/gpus")
    async def catalogue(_request: web.Request) -> web.Response:
        return answer(list(gpus().values()))

    @table.get("/hub/models")
    async def hub_models(request: web.Request) -> web.Response:
        query = request.query
        return answer(
            await search.search(
                query.get("search", ""),
                task=query.get("task"),
                connection=query.get("connection"),
                limit=number(request, "limit", 20, MOST_FOUND),
            )
        )

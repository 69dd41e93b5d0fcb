"""The routes about what the user sets."""

from aiohttp import web

from meshtui.controller.http import answer
from meshtui.settings.store import Settings


def add_settings_routes(table: web.RouteTableDef, settings: Settings) -> None:
    @table.get("/presets")
    async def presets(_request: web.Request) -> web.Response:
        return answer(list(settings.presets.all.values()))

"""Makes pictures: starts the server where needed, and hands on what it tells."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import aiohttp
from aiohttp import web

from meshtui.controller.catalogue import Catalogue, Choice
from meshtui.controller.explain import explanation_of
from meshtui.controller.fitting import check_fits
from meshtui.controller.http import body, json_lines, ndjson
from meshtui.controller.parts import ReadyServer, Servers
from meshtui.controller.runs import target_of
from meshtui.domain.errors import InvalidInput, MeshtuiError
from meshtui.domain.images import ImageEvent, ImageRequest, ImagesEnded, ImageWaiting
from meshtui.domain.server import ServerStatus
from meshtui.domain.task import Ability
from meshtui.inference.images import make_images


class Images:
    """Answers requests for pictures; `active` counts those that wait or are worked on. A client
    that goes away cancels its own in the engine."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        servers: Servers,
        session: Callable[[], aiohttp.ClientSession],
    ) -> None:
        self._catalogue = catalogue
        self._servers = servers
        self._session = session
        self.active = 0

    def add_routes(self, table: web.RouteTableDef) -> None:
        @table.post("/images")
        async def images(request: web.Request) -> web.StreamResponse:
            asked = await body(request, ImageRequest)
            if not asked.prompt.strip():
                raise InvalidInput("The prompt is empty.", hint="Say what the picture is to show.")
            choice = self._catalogue.find(asked.model, asked.connection)
            check_fits(choice, Ability.IMAGE, self._catalogue)
            response = await ndjson(request)
            async with aclosing(self._events(choice, asked)) as events:
                async for event in events:
                    await response.write(json_lines([event]))
            await response.write_eof()
            return response

    async def _events(
        self, choice: Choice, asked: ImageRequest
    ) -> AsyncGenerator[ImageEvent, None]:
        self.active += 1
        error = None
        try:
            waiting: asyncio.Queue[ServerStatus] = asyncio.Queue()
            starting = asyncio.ensure_future(
                self._servers.ready(choice.connection, choice.enabled, waiting.put_nowait)
            )
            try:
                async for status in _until_done(starting, waiting):
                    yield ImageWaiting(status)
            finally:
                starting.cancel()
            ready = await starting
            with self._servers.lease(ready.server_id):
                pictures = make_images(self._session(), target_of(ready), asked)
                async with aclosing(pictures) as events:
                    async for event in events:
                        yield event
        except MeshtuiError as failure:
            error = explanation_of(failure)
        finally:
            self.active -= 1
        yield ImagesEnded(error)


async def _until_done(
    starting: "asyncio.Future[ReadyServer]", waiting: "asyncio.Queue[ServerStatus]"
) -> AsyncGenerator[ServerStatus, None]:
    """What is told until `starting` is done, the last of it where several came at once."""
    while not starting.done():
        news = asyncio.ensure_future(waiting.get())
        try:
            both: set[asyncio.Future[Any]] = {news, starting}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if news.done() and not news.cancelled():
            status = news.result()
            while not waiting.empty():
                status = waiting.get_nowait()
            yield status

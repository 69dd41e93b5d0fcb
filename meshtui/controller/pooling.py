"""Vectors, orders and classes of texts: starts the server where needed, and asks it."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from meshtui.controller.catalogue import Catalogue
from meshtui.controller.fitting import check_fits
from meshtui.controller.http import answer, body
from meshtui.controller.parts import Servers
from meshtui.controller.runs import target_of
from meshtui.domain.errors import EngineError, InvalidInput
from meshtui.domain.pooling import ClassifyRequest, EmbedRequest, RerankRequest
from meshtui.domain.server import Explanation
from meshtui.domain.task import Ability
from meshtui.inference import pooling
from meshtui.inference.chat import Target


class Pooling:
    """Answers whole requests; `active` counts those that wait or are worked on. A client that
    goes away cancels its own in the engine. `crash_explanation` waits a little for what a server
    that died over a request had to say."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        servers: Servers,
        session: Callable[[], aiohttp.ClientSession],
        crash_explanation: Callable[[str], Awaitable[Explanation | None]],
    ) -> None:
        self._catalogue = catalogue
        self._servers = servers
        self._session = session
        self._crash_explanation = crash_explanation
        self.active = 0

    def add_routes(self, table: web.RouteTableDef) -> None:
        @table.post("/embed")
        async def embed(request: web.Request) -> web.Response:
            asked = await body(request, EmbedRequest)
            async with self._ready(asked, Ability.EMBED) as target:
                found = await pooling.embed(
                    self._session(),
                    target,
                    asked.texts,
                    dimensions=asked.dimensions,
                    truncate=asked.truncate,
                )
            return answer(found)

        @table.post("/rerank")
        async def rerank(request: web.Request) -> web.Response:
            asked = await body(request, RerankRequest)
            async with self._ready(asked, Ability.RERANK) as target:
                found = await pooling.rerank(
                    self._session(), target, asked.query, asked.texts, truncate=asked.truncate
                )
            return answer(found)

        @table.post("/classify")
        async def classify(request: web.Request) -> web.Response:
            asked = await body(request, ClassifyRequest)
            async with self._ready(asked, Ability.CLASSIFY) as target:
                found = await pooling.classify(
                    self._session(), target, asked.texts, truncate=asked.truncate
                )
            return answer(found)

    @asynccontextmanager
    async def _ready(
        self, asked: EmbedRequest | RerankRequest | ClassifyRequest, ability: Ability
    ) -> AsyncGenerator[Target, None]:
        """The model's server, ready, and busy for as long as this lasts."""
        if not asked.texts:
            raise InvalidInput("There is no text.", hint="Send at least one.")
        choice = self._catalogue.find(asked.model, asked.connection)
        check_fits(choice, ability, self._catalogue)
        self.active += 1
        try:
            ready = await self._servers.ready(choice.connection, choice.enabled, lambda _: None)
            try:
                with self._servers.lease(ready.server_id):
                    yield target_of(ready)
            except EngineError as error:
                why = await self._crash_explanation(ready.server_id)
                if why is None:
                    raise
                raise EngineError(why.cause, hint=why.fix) from error
        finally:
            self.active -= 1

"""The OpenAI-compatible routes: one address for every enabled model.

A model's id is `org/name[@revision]`; where several connections enable it, the connection and a
slash stand before it (which is always allowed). `/v1/models` lists the ids to use. A request
starts its server and waits for it; a model whose task does not fit is refused before. What a
prompt leaves open is taken from the enabled model's generation parameters. Closing the connection
cancels in the engine.
"""

import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from meshtui.controller.catalogue import Catalogue, Choice
from meshtui.controller.fitting import check_fits
from meshtui.controller.http import Handler, is_gone, too_large
from meshtui.controller.openai_shapes import (
    DONE,
    Completion,
    error_body,
    error_of,
    error_response,
    json_response,
    model_list,
    sse,
)
from meshtui.controller.parts import Servers
from meshtui.controller.runs import parameters_body, target_of
from meshtui.domain.errors import EngineError, InvalidInput, MeshtuiError
from meshtui.domain.task import Ability, Engine
from meshtui.engines.registry import adapter
from meshtui.inference.chat import Target, error_page, open_chat
from meshtui.inference.relay import open_relay, relayed

_LOGGER = logging.getLogger(__name__)
_RESPONSES = "/v1/responses"
_ROUTES = {
    "/v1/chat/completions": Ability.CHAT,
    "/v1/completions": Ability.CHAT,
    _RESPONSES: Ability.CHAT,
    "/v1/embeddings": Ability.EMBED,
    "/v1/rerank": Ability.RERANK,
    "/v1/score": Ability.RERANK,
    "/v1/classify": Ability.CLASSIFY,
    "/v1/images/generations": Ability.IMAGE,
}


class Gateway:
    """Serves `/v1`; `active` counts requests that wait or stream."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        servers: Servers,
        session: Callable[[], aiohttp.ClientSession],
        started_at: float,
    ) -> None:
        self._catalogue = catalogue
        self._servers = servers
        self._session = session
        self._started_at = started_at
        self.active = 0

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/v1/models", self._models)
        # Ids hold slashes.
        app.router.add_get("/v1/models/{id:.+}", self._model)
        for path in _ROUTES:
            app.router.add_post(path, self._ask)

    async def _models(self, request: web.Request) -> web.Response:
        return json_response(self._listed(self._catalogue.by_id()))

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        choice = self._catalogue.find_by_id(name)
        return json_response(self._listed({name: choice})["data"][0])

    def _listed(self, choices: dict[str, Choice]) -> dict[str, Any]:
        models = (
            (name, choice.connection.name, choice.enabled.task.value)
            for name, choice in choices.items()
        )
        return model_list(models, self._started_at)

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        ability = _ROUTES[request.path]
        body = _request_body(await request.read())
        choice = self._catalogue.find_by_id(body["model"])
        check_fits(choice, ability, self._catalogue)
        if ability is Ability.CHAT:
            body = _with_defaults(request.path, body, choice)
        self.active += 1
        try:
            ready = await self._servers.ready(choice.connection, choice.enabled, lambda _: None)
            target = target_of(ready)
            with self._servers.lease(ready.server_id):
                speaks = adapter(ready.engine)
                if request.path not in speaks.paths:
                    raise _no_route(request.path, ready.engine)
                if speaks.speaks_openai:
                    return await self._relay(request, target, body)
                if body.get("stream"):
                    return await self._translate(request, target, body)
                return await self._whole(target, body)
        finally:
            self.active -= 1

    async def _relay(
        self, request: web.Request, target: Target, body: dict[str, Any]
    ) -> web.StreamResponse:
        speaks = adapter(target.engine)
        path = speaks.paths[request.path]
        async with open_relay(self._session(), target, path, body) as upstream:
            if upstream.status != 200:
                page = await error_page(upstream)
                if upstream.status == 404 and b'"error"' not in page:
                    raise _no_route(request.path, target.engine)
                return json_response(speaks.error(upstream.status, page), upstream.status)
            if not body.get("stream"):
                data = b"".join([piece async for piece in relayed(upstream)])
                return web.Response(body=data, content_type="application/json")
            response = await _begin_sse(request)
            try:
                async for data in relayed(upstream):
                    await response.write(data)
            except EngineError as error:
                await response.write(sse(error_of(error)[1]) + DONE)
            await response.write_eof()
            return response

    async def _translate(
        self, request: web.Request, target: Target, body: dict[str, Any]
    ) -> web.StreamResponse:
        options = body.get("stream_options")
        wants_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        async with open_chat(self._session(), target, body) as stream:
            response = await _begin_sse(request)
            try:
                async for chunk in stream:
                    if chunk.get("choices") or wants_usage:
                        await response.write(sse(chunk))
            except MeshtuiError as error:
                await response.write(sse(error_of(error)[1]))
            await response.write(DONE)
            await response.write_eof()
            return response

    async def _whole(self, target: Target, body: dict[str, Any]) -> web.StreamResponse:
        completion = Completion()
        async with open_chat(self._session(), target, {**body, "stream": True}) as stream:
            async for chunk in stream:
                completion.add(chunk)
        return json_response(completion.body())


@web.middleware
async def errors_as_openai(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers every error in OpenAI's shape."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return json_response(error_body(str(too_large()), "invalid_request_error", 413), 413)
    except web.HTTPException as error:
        message = f"There is no {request.method} {request.path} here."
        reason = message if error.status == 404 else error.reason
        body = error_body(reason, "invalid_request_error", error.status)
        return json_response(body, error.status)
    except Exception as error:
        if is_gone(error, request):
            return web.Response()
        if not isinstance(error, MeshtuiError):
            _LOGGER.exception("%s %s failed", request.method, request.path)
        return error_response(error)


def _no_route(path: str, engine: Engine) -> InvalidInput:
    return InvalidInput(
        f"{engine.label}, which serves this model, does not answer {path}.",
        hint="Set another engine for the model, or a newer runtime.",
    )


def _request_body(data: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The request is not JSON: {error}.") from None
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise InvalidInput("The request needs a model.", hint="GET /v1/models lists the ids.")
    return body


def _with_defaults(path: str, asked: dict[str, Any], choice: Choice) -> dict[str, Any]:
    """The request over the enabled model's own generation parameters."""
    defaults = parameters_body(choice.enabled.generation)
    if path == _RESPONSES and "max_tokens" in defaults:
        defaults["max_output_tokens"] = defaults.pop("max_tokens")
    if asked.get("max_completion_tokens") is not None:
        defaults.pop("max_tokens", None)
    given = {key: value for key, value in asked.items() if value is not None}
    return {**asked, **defaults, **given}


async def _begin_sse(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
    )
    await response.prepare(request)
    return response

"""The controller's HTTP manners: JSON of domain values, errors as `ErrorInfo`, NDJSON streams."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from meshtui.controller.explain import internal_error
from meshtui.domain.codec import from_json, to_json
from meshtui.domain.errors import InvalidInput, MeshtuiError, NotFound

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOGGER = logging.getLogger(__name__)
# A prompt may hold a book; anything above is a mistake.
MAX_BODY_BYTES = 64 * 1024 * 1024


def answer(value: object, status: int = 200) -> web.Response:
    return web.Response(body=to_json(value), status=status, content_type="application/json")


async def body(request: web.Request, kind: type[T]) -> T:
    """The request's JSON as `kind`; raises `InvalidInput`."""
    return from_json(await request.read() or b"{}", kind)


def flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "0") not in ("", "0", "false")


def number(request: web.Request, name: str, default: int, most: int) -> int:
    """A whole number from 0 to `most` in the query; raises `InvalidInput`."""
    text = request.query.get(name, str(default))
    try:
        return max(0, min(int(text), most))
    except ValueError:
        raise InvalidInput(f"{name} must be a whole number.") from None


async def ndjson(request: web.Request) -> web.StreamResponse:
    """A begun response whose lines are JSON values."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    return response


def json_lines(values: Iterable[object]) -> bytes:
    return b"".join(line(value) + b"\n" for value in values)


def line(value: object) -> bytes:
    try:
        return to_json(value)
    except UnicodeEncodeError:
        # Half of a surrogate pair, which some engines let slip out of a broken token.
        return msgspec.json.encode(_whole(msgspec.to_builtins(value)))


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value


def too_large() -> InvalidInput:
    """For a body above `MAX_BODY_BYTES`."""
    return InvalidInput(
        f"The request is larger than {MAX_BODY_BYTES // 1024**2} MiB.", hint="Shorten the prompt."
    )


def is_gone(error: Exception, request: web.Request) -> bool:
    """Whether the error only says that the client went away: nobody reads the answer then, and
    it is nothing for the log."""
    transport = request.transport
    return isinstance(error, ConnectionError) and (transport is None or transport.is_closing())


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers errors as `ErrorInfo`; what nobody expected goes to the log with its traceback."""
    try:
        return await handler(request)
    except MeshtuiError as error:
        return answer(error.info(), error.http_status)
    except web.HTTPRequestEntityTooLarge:
        return answer(too_large().info(), 413)
    except web.HTTPNotFound:
        return answer(NotFound(f"There is no {request.method} {request.path} here.").info(), 404)
    except web.HTTPException as error:
        return answer(InvalidInput(error.reason).info(), error.status)
    except Exception as error:
        if is_gone(error, request):
            return web.Response()
        _LOGGER.exception("%s %s failed", request.method, request.path)
        return answer(internal_error(error), 500)

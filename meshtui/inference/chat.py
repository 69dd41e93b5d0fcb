"""Streams a chat answer from a running engine, whichever it is.

    async with open_chat(session, target, body) as stream:
        async for chunk in stream:
            ...

Leaving the block, or `aclose()`, closes the connection: that is how both engines are told to stop
generating.
"""

from collections import deque
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from meshtui.domain.errors import EngineError, InvalidInput
from meshtui.domain.task import Engine
from meshtui.domain.text import one_line
from meshtui.engines.answers import error_answer
from meshtui.engines.base import EngineAdapter, PreparedRequest
from meshtui.engines.registry import adapter

# Engines listen on this machine, or behind a forwarded port. Once connected there is no limit of
# our own: reading a long prompt on a processor takes minutes without a byte, a dead engine closes
# the connection, and a person can cancel.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=None)
# Error pages are short; nothing keeps a broken server from sending gigabytes.
_MAX_ERROR_BYTES = 256 * 1024


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A ready engine. `model` is the name that requests and answers carry."""

    base_url: str
    api_key: str = ""
    engine: Engine
    model: str
    model_dir: Path
    context_length: int | None = None


class RequestRefused(InvalidInput):
    """The engine, or its adapter, cannot take this request; `error` is OpenAI's shape of it."""

    def __init__(self, error: dict[str, Any], *, hint: str | None = None) -> None:
        super().__init__(str(error["error"]["message"]), hint=hint)
        self.error = error


class AnswerFailed(EngineError):
    """The engine failed before or while answering; `error` is OpenAI's shape of it."""

    def __init__(self, error: dict[str, Any], *, hint: str | None = None) -> None:
        super().__init__(str(error["error"]["message"]), hint=hint)
        self.error = error


class ChatStream:
    """Normalised chunks of one answer, in order (see `meshtui.engines.base`).

    Iteration ends after the usage chunk and raises `AnswerFailed` (or `RequestRefused` where the
    engine only notices on the way that it should not have begun) when the stream reports an error
    or breaks off. `notices` say what of the request is not honoured.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, speaks: EngineAdapter, prepared: PreparedRequest
    ) -> None:
        self.notices = prepared.notices
        self._response = response
        self._pieces = response.content.iter_any()
        self._translator = speaks.translator(prepared)
        self._chunks: deque[dict[str, Any]] = deque()
        self._ended = False

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while not self._chunks:
            if self._ended:
                raise StopAsyncIteration
            await self._read()
        chunk = self._chunks.popleft()
        if "error" in chunk:
            await self.aclose()
            raise failure(chunk)
        return chunk

    async def _read(self) -> None:
        try:
            data = await anext(self._pieces)
        except StopAsyncIteration:
            self._ended = True
            self._chunks.extend(self._translator.finish())
        except (aiohttp.ClientError, OSError) as error:
            self._ended = True
            ending = self._translator.finish()
            self._chunks.extend(ending and [_connection_lost(error)])
        else:
            self._chunks.extend(self._translator.feed(data))

    async def aclose(self) -> None:
        """Ends the answer: the connection is closed and the engine stops generating."""
        self._ended = True
        self._response.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


class _Opening:
    """What `open_chat` gives: to be awaited, or entered with `async with`."""

    def __init__(
        self, session: aiohttp.ClientSession, target: Target, body: Mapping[str, Any]
    ) -> None:
        self._session = session
        self._target = target
        self._body = body
        self._stream: ChatStream | None = None

    def __await__(self) -> Generator[Any, None, ChatStream]:
        return _open(self._session, self._target, self._body).__await__()

    async def __aenter__(self) -> ChatStream:
        self._stream = await self
        return self._stream

    async def __aexit__(self, *exc: object) -> None:
        if self._stream is not None:
            await self._stream.aclose()


def open_chat(session: aiohttp.ClientSession, target: Target, body: Mapping[str, Any]) -> _Opening:
    """Asks the engine; `async with open_chat(...) as stream` or `stream = await open_chat(...)`.

    `body` is an OpenAI chat request. Raises `RequestRefused` (an `InvalidInput`) where it cannot
    be served as it is, and `AnswerFailed` (an `EngineError`) where the engine does not answer.
    """
    return _Opening(session, target, body)


async def _open(
    session: aiohttp.ClientSession, target: Target, body: Mapping[str, Any]
) -> ChatStream:
    speaks = adapter(target.engine)
    try:
        prepared = speaks.prepare_chat(
            {**body, "model": target.model},
            model_dir=target.model_dir,
            context_length=target.context_length,
        )
    except RequestRefused:
        raise
    except InvalidInput as error:
        raise RequestRefused(error_answer(str(error), code=400), hint=None) from error
    response = await ask(session, target, prepared.path, prepared.body)
    try:
        if response.status == 200:
            return ChatStream(response, speaks, prepared)
        refusal = await error_page(response)
    except BaseException:
        response.close()
        raise
    response.close()
    raise failure(speaks.error(response.status, refusal))


async def ask(
    session: aiohttp.ClientSession, target: Target, path: str, body: Mapping[str, Any]
) -> aiohttp.ClientResponse:
    """The engine's answer, unread; closing it cancels in the engine. Raises `AnswerFailed` where
    the engine does not answer."""
    try:
        return await session.post(
            target.base_url + path,
            data=msgspec.json.encode(body),
            # A connection of its own: closing it cancels this answer and no other, and none is
            # reused that an engine dropped after an error.
            headers={
                "Content-Type": "application/json",
                "Connection": "close",
                **adapter(target.engine).headers(target.api_key),
            },
            timeout=_TIMEOUT,
            allow_redirects=False,
        )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise AnswerFailed(
            error_answer(f"The engine does not answer: {one_line(str(error))}", code=503),
            hint="Look at the server's log; it may have stopped.",
        ) from error


async def error_page(response: aiohttp.ClientResponse) -> bytes:
    """What came with an error's status, as much of it as can be had."""
    body = b""
    with suppress(aiohttp.ClientError, OSError):
        async for piece in response.content.iter_any():
            body += piece
            if len(body) >= _MAX_ERROR_BYTES:
                break
    return body[:_MAX_ERROR_BYTES]


def failure(error: dict[str, Any]) -> RequestRefused | AnswerFailed:
    """Requests that are at fault are told from engines that are by the error's code."""
    code = error["error"].get("code")
    if isinstance(code, int) and code in (400, 404, 405, 413, 422):
        return RequestRefused(error)
    return AnswerFailed(error)


def _connection_lost(error: Exception) -> dict[str, Any]:
    return error_answer(
        "The engine's process ended, or closed the connection, before the answer was complete"
        f" ({one_line(str(error)) or type(error).__name__}).",
        code=502,
    )

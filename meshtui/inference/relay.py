"""Hands the bytes of engines that speak OpenAI's dialect on as they are.

Nothing is parsed, so a relayed stream costs one copy a read. Engines that need an adapter's
translation go through `meshtui.inference.chat`.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from meshtui.domain.errors import Unavailable
from meshtui.domain.task import Engine
from meshtui.engines.registry import adapter
from meshtui.inference.chat import Target

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=None)
_SPEAK_OPENAI = frozenset({Engine.VLLM})


def can_relay(engine: Engine) -> bool:
    """Whether the engine's own bytes are what an OpenAI client expects."""
    return engine in _SPEAK_OPENAI


@asynccontextmanager
async def open_relay(
    session: aiohttp.ClientSession, target: Target, path: str, body: Mapping[str, Any]
) -> AsyncGenerator[aiohttp.ClientResponse, None]:
    """The engine's answer, unread. Leaving closes the connection, which cancels in the engine.
    Raises `Unavailable` where the engine does not answer."""
    try:
        response = await session.post(
            target.base_url + path,
            data=msgspec.json.encode({**body, "model": target.model}),
            headers={
                "Content-Type": "application/json",
                "Connection": "close",
                **adapter(target.engine).headers(target.api_key),
            },
            timeout=_TIMEOUT,
            allow_redirects=False,
        )
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(
            "The engine does not answer.", hint="Look at the server's log; it may have stopped."
        ) from error
    try:
        yield response
    finally:
        response.close()

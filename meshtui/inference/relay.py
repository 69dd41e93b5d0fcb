"""Hands the bytes of engines that speak OpenAI's dialect on as they are.

Nothing is parsed, so a relayed stream costs one copy a read. Engines that need an adapter's
translation go through `meshtui.inference.chat`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from meshtui.domain.errors import EngineError
from meshtui.inference.chat import Target, ask


@asynccontextmanager
async def open_relay(
    session: aiohttp.ClientSession, target: Target, path: str, body: Mapping[str, Any]
) -> AsyncGenerator[aiohttp.ClientResponse, None]:
    """The engine's answer, unread. Leaving closes the connection, which cancels in the engine.
    Raises `EngineError` where the engine does not answer."""
    response = await ask(session, target, path, {**body, "model": target.model})
    try:
        yield response
    finally:
        response.close()


async def relayed(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The answer piece by piece; raises `EngineError` where it breaks off."""
    try:
        async for data in response.content.iter_any():
            yield data
    except (aiohttp.ClientError, OSError) as error:
        raise EngineError(
            "The engine's process ended before the answer was complete.",
            hint="Look at the server's log.",
        ) from error

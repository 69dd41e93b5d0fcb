"""Asks an engine whether it answers."""

import aiohttp

# `/health` does no work; an engine that needs longer is not ready for prompts either.
_TIMEOUT = aiohttp.ClientTimeout(total=3.0)


async def answers_health(session: aiohttp.ClientSession, base_url: str) -> bool:
    """Whether `GET /health` gives 200. False while nothing listens, while the socket is bound and
    not served, and where an error answers."""
    try:
        async with session.get(
            f"{base_url}/health",
            timeout=_TIMEOUT,
            headers={"Connection": "close"},
            allow_redirects=False,
        ) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False

"""Whose an access token is.

The question is the one of the Hub's own client (`HfApi.whoami`, `/api/whoami-v2`), asked through
the connection's own way to the Hub.
"""

import asyncio
from typing import Any

import aiohttp
import msgspec

from meshtui.domain.editing import TokenOwner
from meshtui.domain.text import one_line
from meshtui.hub.errors import refused_search, unreachable
from meshtui.hub.look import limited, token_of
from meshtui.hub.reach import (
    Reach,
    is_about_certificates,
    is_offline,
    open_session,
    reason_of,
)

_MOST_ANSWER_BYTES = 1024 * 1024


async def owner(reach: Reach, *, timeout_s: float = 10.0) -> TokenOwner | None:
    """The account of the token that goes with requests; None where none goes with them. Raises
    `BadToken` or `HubUnreachable`."""
    token = await asyncio.to_thread(token_of, reach)
    if token is None:
        return None
    if is_offline():
        raise unreachable(reach.endpoint, "HF_HUB_OFFLINE is set")
    headers = {"User-Agent": "meshtui", "Authorization": f"Bearer {token}"}
    try:
        async with (
            asyncio.timeout(timeout_s),
            open_session(reach) as session,
            # A token must not follow to wherever an answer points.
            session.get(
                f"{reach.endpoint}/api/whoami-v2", headers=headers, allow_redirects=False
            ) as response,
        ):
            if response.status != 200:
                raise refused_search(reach.endpoint, response.status, response.headers)
            body = await limited(response, _MOST_ANSWER_BYTES)
    except TimeoutError as error:
        raise unreachable(reach.endpoint, "it takes too long to answer") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # A token with a line break in it is told by its place, not by its text.
        reason = "the token cannot be sent" if token in str(error) else reason_of(error)
        raise unreachable(
            reach.endpoint, reason, certificates=is_about_certificates(error)
        ) from None
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        said = None
    name = _word(said.get("name")) if isinstance(said, dict) else None
    if name is None:
        raise unreachable(reach.endpoint, "it does not say whose the token is")
    auth = said.get("auth")
    granted = auth.get("accessToken") if isinstance(auth, dict) else None
    facts = granted if isinstance(granted, dict) else {}
    return TokenOwner(
        account=name,
        kind="org" if said.get("type") == "org" else "user",
        token_name=_word(facts.get("displayName")),
        role=_word(facts.get("role")),
    )


def _word(value: Any) -> str | None:
    return (one_line(value, 100) or None) if isinstance(value, str) else None

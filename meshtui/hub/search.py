"""Finds models on the Hub by a part of their name.

The request is the one of the Hub's own client (`HfApi.list_models`), which itself cannot be used
here: it waits without an end, sleeps between five tries, and cannot be broken off, while whoever
types asks again with every key.
"""

import asyncio
from typing import Any

import aiohttp
import msgspec

from meshtui.domain.errors import InvalidInput
from meshtui.domain.hub_search import FoundModel
from meshtui.domain.model_ref import ModelRef
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

MOST_FOUND = 100
_MOST_ANSWER_BYTES = 8 * 1024 * 1024
_MOST_CHARS = 200
_MOST_NUMBER = 1 << 60
# What is asked of each model beside its name (huggingface_hub, `ExpandModelProperty_T`).
_WANTED = (
    "pipeline_tag",
    "library_name",
    "tags",
    "gated",
    "private",
    "downloads",
    "likes",
    "lastModified",
    "safetensors",
)
# Bytes of one element, by the names of safetensors; those of four bits count half.
_DTYPE_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8.0),
    **dict.fromkeys(("F32", "I32", "U32"), 4.0),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2.0),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 1.0),
    **dict.fromkeys(("F4", "I4", "U4"), 0.5),
}


async def search(
    text: str,
    reach: Reach,
    *,
    task: str | None = None,
    limit: int = 20,
    timeout_s: float = 10.0,
) -> list[FoundModel]:
    """The models whose names hold `text`, the most downloaded first; all of them where it is empty.
    `task` is a pipeline tag. Raises `HubUnreachable` or `BadToken`."""
    if is_offline():
        raise unreachable(reach.endpoint, "HF_HUB_OFFLINE is set")
    headers = {"User-Agent": "meshtui"}
    if token := await asyncio.to_thread(token_of, reach):
        headers["Authorization"] = f"Bearer {token}"
    asked = [("sort", "downloads"), ("limit", str(max(1, min(limit, MOST_FOUND))))]
    if words := one_line(text, _MOST_CHARS):
        asked.append(("search", words))
    if task:
        asked.append(("pipeline_tag", task))
    asked += [("expand", name) for name in _WANTED]
    try:
        async with (
            asyncio.timeout(timeout_s),
            open_session(reach) as session,
            session.get(f"{reach.endpoint}/api/models", params=asked, headers=headers) as response,
        ):
            if response.status != 200:
                raise refused_search(reach.endpoint, response.status, response.headers)
            body = await limited(response, _MOST_ANSWER_BYTES)
    except TimeoutError as error:
        raise unreachable(reach.endpoint, "it takes too long to answer") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise unreachable(
            reach.endpoint, reason_of(error), certificates=is_about_certificates(error)
        ) from error
    if len(body) > _MOST_ANSWER_BYTES:
        raise unreachable(reach.endpoint, "its answer is longer than any should be")
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise unreachable(reach.endpoint, "its answer to a search is no JSON") from None
    found = (_model(one) for one in (said if isinstance(said, list) else ())[:MOST_FOUND])
    return [one for one in found if one is not None]


def _model(said: Any) -> FoundModel | None:
    """None for what is no model; what has the wrong type counts as not said."""
    if not isinstance(said, dict):
        return None
    name = said.get("id") or said.get("modelId")
    try:
        ref = ModelRef.parse(name) if isinstance(name, str) else None
    except InvalidInput:
        return None
    if ref is None or ref.revision is not None:
        return None
    tags = said.get("tags")
    licence = next(
        (tag[8:] for tag in (tags if isinstance(tags, list) else ())[:500]
         if isinstance(tag, str) and tag.startswith("license:")), None
    )  # fmt: skip
    parameters, weights_bytes = _size(said.get("safetensors"))
    return FoundModel(
        model=str(ref),
        task=_word(said.get("pipeline_tag")),
        library=_word(said.get("library_name")),
        licence=_word(licence),
        gated=bool(said.get("gated")),
        private=bool(said.get("private")),
        downloads=_number(said.get("downloads")),
        likes=_number(said.get("likes")),
        parameters=parameters,
        weights_bytes=weights_bytes,
        last_modified=_word(said.get("lastModified")),
    )


def _size(said: Any) -> tuple[int | None, int | None]:
    """Parameters and bytes, of counts by type; no bytes where one of the types is not known."""
    counts = said.get("parameters") if isinstance(said, dict) else None
    if not isinstance(counts, dict) or not counts:
        return None, None
    total = _number(said.get("total"))
    numbers = {name: _number(count) for name, count in counts.items()}
    if any(count is None or name not in _DTYPE_BYTES for name, count in numbers.items()):
        return total, None
    size = sum(int(_DTYPE_BYTES[name] * (count or 0)) for name, count in numbers.items())
    return total, size


def _number(value: Any) -> int | None:
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_NUMBER
    return value if known else None


def _word(value: Any) -> str | None:
    return (one_line(value, 100) or None) if isinstance(value, str) else None

"""Asks a running engine for vectors, an order, or classes of texts.

Each function is one request and its whole answer; cancelling it closes the connection, which
cancels in the engine. All raise `RequestRefused` (an `InvalidInput`) for what the engine cannot
take, such as a text that is too long, and `AnswerFailed` (an `EngineError`) where it does not
answer.
"""

import asyncio
import base64
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from meshtui.domain.errors import EngineError
from meshtui.domain.pooling import Classes, Classified, Embeddings, Ranked, Ranking
from meshtui.domain.text import one_line
from meshtui.engines.answers import error_answer
from meshtui.engines.registry import adapter
from meshtui.inference.chat import AnswerFailed, RequestRefused, Target, ask, error_page, failure

T = TypeVar("T")
# vLLM's own field (`PoolingBasicRequestMixin`, 0.32): -1 cuts at the longest that the model takes.
_TRUNCATED = {"truncate_prompt_tokens": -1}


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Vector(msgspec.Struct):
    index: int
    embedding: str


class _Embeddings(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage = msgspec.field(default_factory=_Usage)


class _Ranked(msgspec.Struct):
    index: int
    relevance_score: float


class _Ranking(msgspec.Struct):
    results: list[_Ranked]
    usage: _Usage = msgspec.field(default_factory=_Usage)


class _Class(msgspec.Struct):
    index: int
    probs: list[float]
    label: str | None = None


class _Classes(msgspec.Struct):
    data: list[_Class]
    usage: _Usage = msgspec.field(default_factory=_Usage)


async def embed(
    session: aiohttp.ClientSession,
    target: Target,
    texts: Sequence[str],
    *,
    dimensions: int | None = None,
    truncate: bool = False,
) -> Embeddings:
    """One vector a text. They come as the 32-bit numbers that they are."""
    body: dict[str, Any] = {"input": list(texts), "encoding_format": "base64"}
    if dimensions is not None:
        body["dimensions"] = dimensions
    found = await _asked(session, target, "/v1/embeddings", body, truncate, _Embeddings)
    items = _in_order(found.data, len(texts))
    return Embeddings(
        model=target.model,
        vectors=tuple(_numbers(item.embedding) for item in items),
        prompt_tokens=found.usage.prompt_tokens,
    )


async def rerank(
    session: aiohttp.ClientSession,
    target: Target,
    query: str,
    texts: Sequence[str],
    *,
    truncate: bool = False,
) -> Ranking:
    """All texts, the best first."""
    body = {"query": query, "documents": list(texts)}
    found = await _asked(session, target, "/v1/rerank", body, truncate, _Ranking)
    items = _in_order(found.results, len(texts))
    ranked = [Ranked(item.index, item.relevance_score) for item in items]
    return Ranking(
        model=target.model,
        results=tuple(sorted(ranked, key=lambda item: -item.score)),
        prompt_tokens=found.usage.prompt_tokens,
    )


async def classify(
    session: aiohttp.ClientSession,
    target: Target,
    texts: Sequence[str],
    *,
    truncate: bool = False,
) -> Classes:
    """The classes of each text."""
    body = {"input": list(texts)}
    found = await _asked(session, target, "/v1/classify", body, truncate, _Classes)
    names = await asyncio.to_thread(_class_names, target.model_dir)
    return Classes(
        model=target.model,
        results=tuple(_classified(item, names) for item in _in_order(found.data, len(texts))),
        prompt_tokens=found.usage.prompt_tokens,
    )


async def _asked(
    session: aiohttp.ClientSession,
    target: Target,
    route: str,
    body: Mapping[str, Any],
    truncate: bool,
    kind: type[T],
) -> T:
    speaks = adapter(target.engine)
    path = speaks.paths.get(route)
    if path is None:
        message = f"{target.engine.label} does not answer {route}."
        raise RequestRefused(error_answer(message, code=404))
    more = _TRUNCATED if truncate else {}
    response = await ask(session, target, path, {**body, **more, "model": target.model})
    try:
        if response.status != 200:
            page = await error_page(response)
            raise failure(speaks.error(response.status, page))
        return msgspec.json.decode(await response.read(), type=kind)
    except msgspec.MsgspecError as error:
        raise _unreadable(str(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        message = "The engine's process ended before the answer was complete."
        raise AnswerFailed(
            error_answer(message, code=502), hint="Look at the server's log."
        ) from error
    finally:
        response.close()


def _in_order(items: list[Any], count: int) -> list[Any]:
    """The items by the place of their text; there has to be one for each."""
    ordered = sorted(items, key=lambda item: item.index)
    if [item.index for item in ordered] != list(range(count)):
        raise _unreadable(f"it is about {len(items)} texts, and {count} were sent")
    return ordered


def _numbers(text: str) -> tuple[float, ...]:
    """OpenAI's base64 form of a vector: 32-bit numbers, the least byte first."""
    try:
        return tuple(array("f", base64.b64decode(text, validate=True)))
    except ValueError as error:
        raise _unreadable(str(error)) from error


def _class_names(model_dir: Path) -> dict[int, str]:
    """What the model's configuration calls its classes; empty where it is not on this machine."""
    try:
        config = msgspec.json.decode((model_dir / "config.json").read_bytes())
        return {int(number): str(name) for number, name in config["id2label"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _classified(item: _Class, names: Mapping[int, str]) -> Classified:
    if not item.probs:
        raise _unreadable("a text has no classes")
    labels = [one_line(names.get(number, str(number)), 200) for number in range(len(item.probs))]
    if len(set(labels)) < len(labels):
        labels = [f"{number}: {label}" for number, label in enumerate(labels)]
    likeliest = max(range(len(labels)), key=item.probs.__getitem__)
    return Classified(label=labels[likeliest], scores=dict(zip(labels, item.probs, strict=True)))


def _unreadable(why: str) -> EngineError:
    return AnswerFailed(error_answer(f"The engine's answer cannot be read: {why}.", code=502))

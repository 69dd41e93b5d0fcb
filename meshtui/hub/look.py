"""Looks into a model on the Hub: its list of files, the small ones, and the headers of its weights.

Nothing of the weights themselves is fetched: headers come by ranges, and where a server ignores
those, the connection is closed behind the header.
"""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from meshtui.domain.errors import InvalidInput, MeshtuiError
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line
from meshtui.hub.errors import (
    BadToken,
    GatedModel,
    HubUnreachable,
    ModelNotOnHub,
    refusal,
    unreachable,
)
from meshtui.hub.looks import HeaderText, Look, Looks, key_of
from meshtui.hub.model_files import HubFile, HubModel
from meshtui.hub.reach import (
    NO_TOKEN,
    Reach,
    is_about_certificates,
    is_offline,
    open_session,
    reason_of,
)
from meshtui.hub.safetensors_header import MOST_HEADER_BYTES, header_length
from meshtui.hub.selection import is_safe
from meshtui.hub.together import together
from meshtui.settings.secrets import resolve

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ANSWER_TIMEOUT_S = 10.0
_WHOLE_TIMEOUT_S = 60.0
_MOST_ANSWER_BYTES = 32 * 1024 * 1024
_MOST_FILES = 50_000
_AT_ONCE = 12
# Most headers of shards are shorter.
_FIRST_BYTES = 96 * 1024
_MOST_HEADERS = 500
_MOST_HEADERS_BYTES = 200 * 1024 * 1024


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which files to look into: the most bytes of each text by its name, and whether headers of
    safetensors are wanted."""

    texts: Mapping[str, int]
    headers: bool = True


async def look(ref: ModelRef, reach: Reach, wanted: Wanted, kept: Looks) -> Look:
    """The model at the revision of `ref`. A pinned commit that was seen before needs no request,
    any other one short answer.

    Where the Hub cannot be asked, what was kept stands in, with its `problem`. Raises the errors of
    `meshtui.hub.errors` where there is nothing.
    """
    token = await asyncio.to_thread(token_of, reach)
    key = key_of(ref, reach.endpoint, token)
    before = await asyncio.to_thread(kept.get, key)
    if before is not None and before.refusal is None and _is_pinned(ref, before):
        return before
    try:
        found = await _asked(ref, reach, token, wanted, before)
    except (GatedModel, ModelNotOnHub, BadToken):
        raise
    except MeshtuiError as error:
        if before is None:
            raise
        return msgspec.structs.replace(before, problem=error.message)
    await asyncio.to_thread(kept.put, key, found)
    return found


def token_of(reach: Reach) -> str | None:
    """The token that goes with requests: that of the connection, else the environment's or the
    login's, as the Hub's own client finds it. Blocks."""
    if reach.token is not None:
        return None if reach.token == NO_TOKEN else reach.token
    if os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    return resolve("env:HF_TOKEN") or resolve("hf:default")


async def _asked(
    ref: ModelRef, reach: Reach, token: str | None, wanted: Wanted, before: Look | None
) -> Look:
    if is_offline():
        raise unreachable(reach.endpoint, "HF_HUB_OFFLINE is set")
    headers = {"User-Agent": "meshtui"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        async with asyncio.timeout(_WHOLE_TIMEOUT_S), open_session(reach) as session:
            return await _Asker(session, ref, reach, headers).look(wanted, before)
    except TimeoutError as error:
        raise unreachable(reach.endpoint, "it takes too long to answer") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise unreachable(
            reach.endpoint, reason_of(error), certificates=is_about_certificates(error)
        ) from error


class _Asker:
    """The requests about one model."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        ref: ModelRef,
        reach: Reach,
        headers: dict[str, str],
    ) -> None:
        self._session = session
        self._ref = ref
        self._reach = reach
        self._headers = headers
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._refusal: MeshtuiError | None = None
        self._header_bytes = 0
        self._told: dict[str, bytes] = {}

    async def look(self, wanted: Wanted, before: Look | None) -> Look:
        known = before is not None and before.refusal is None and before.complete
        answer = await self._model(before.etag if known and before is not None else None)
        now = time.time()
        if answer is None:
            assert before is not None
            return msgspec.structs.replace(before, checked_at=now, problem=None)
        model, etag = answer
        if (
            before is not None
            and before.refusal is None
            and before.complete
            and before.model.commit == model.commit
            and before.model.files == model.files
        ):
            return msgspec.structs.replace(
                before, model=model, etag=etag, checked_at=now, problem=None
            )
        texts, unreadable = await self._texts(model, wanted.texts)
        headers = await self._all_headers(model) if wanted.headers and not self._refusal else {}
        return Look(
            model=model,
            etag=etag,
            texts=texts,
            told=self._told if self._refusal else {},
            unreadable=unreadable,
            headers=headers,
            complete=not wanted.headers or len(headers) == _count_headers(model),
            refusal=self._refusal.info() if self._refusal else None,
            checked_at=now,
        )

    async def _model(self, etag: str | None) -> tuple[HubModel, str | None] | None:
        """What the Hub says of the model; None where it is what it said with `etag`."""
        revision = f"/revision/{quote(self._ref.revision, safe='')}" if self._ref.revision else ""
        url = f"{self._reach.endpoint}/api/models/{quote(self._ref.model_id)}{revision}"
        extra = {"If-None-Match": etag} if etag else {}
        async with self._get(f"{url}?blobs=true", extra) as response:
            if response.status == 304:
                return None
            if response.status != 200:
                raise self._refused(response)
            body = await limited(response, _MOST_ANSWER_BYTES)
            if len(body) > _MOST_ANSWER_BYTES:
                raise unreachable(self._reach.endpoint, "its answer is longer than any should be")
            try:
                said = msgspec.json.decode(body)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                raise unreachable(
                    self._reach.endpoint, "its answer about the model is no JSON"
                ) from None
            self._told = _told(said)
            return _model_of(self._ref, said), response.headers.get("ETag")

    async def _texts(
        self, model: HubModel, wanted: Mapping[str, int]
    ) -> tuple[dict[str, bytes], dict[str, str]]:
        sizes = {file.path: file.size_bytes for file in model.files}
        names = [name for name in wanted if name in sizes]
        contents = await together(
            [self._text(model, name, sizes[name], wanted[name]) for name in names]
        )
        texts = {n: c for n, c in zip(names, contents, strict=True) if isinstance(c, bytes)}
        unreadable = {n: c for n, c in zip(names, contents, strict=True) if isinstance(c, str)}
        return texts, unreadable

    async def _text(self, model: HubModel, name: str, size: int, most: int) -> bytes | str:
        """The content, or why there is none. Of cards the beginning is enough. Raises where the
        Hub is at fault, and not the file."""
        too_large = f"it is larger than {most >> 20} MiB, which none is"
        is_card = name.endswith(".md")
        if size > most and not is_card:
            return too_large
        async with self._turns, self._get(self._url(model, name)) as response:
            if response.status != 200:
                error = self._refused(response)
                if isinstance(error, HubUnreachable):
                    raise error
                if isinstance(error, GatedModel | BadToken):
                    self._refusal = error
                return error.message
            content = await limited(response, most)
        return content[:most] if is_card or len(content) <= most else too_large

    async def _all_headers(self, model: HubModel) -> dict[str, HeaderText]:
        files = [file for file in model.files if file.path.endswith(".safetensors")]
        if len(files) > _MOST_HEADERS:
            # The configuration tells enough.
            return {}
        found = await together([self._header(model, file) for file in files])
        return {
            file.path: header
            for file, header in zip(files, found, strict=True)
            if header is not None
        }

    async def _header(self, model: HubModel, file: HubFile) -> HeaderText | None:
        """None where it did not come, which says nothing of the file."""
        if not file.size_bytes:
            return None
        try:
            async with self._turns:
                if self._header_bytes > _MOST_HEADERS_BYTES:
                    return None
                first = await self._range(model, file.path, 0, _FIRST_BYTES)
                if first is None:
                    return None
                length = header_length(first, file.size_bytes)
                rest = 8 + length - len(first)
                if rest > 0:
                    more = await self._range(model, file.path, len(first), rest)
                    if more is None or len(more) < rest:
                        return None
                    first += more
                self._header_bytes += length
                return HeaderText(first[8 : 8 + length])
        except InvalidInput as error:
            return HeaderText(b"", error.message)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return None

    async def _range(self, model: HubModel, path: str, start: int, length: int) -> bytes | None:
        asked = {"Range": f"bytes={start}-{start + length - 1}"}
        async with self._get(self._url(model, path), asked) as response:
            if response.status == 206:
                return (await limited(response, length))[:length]
            if response.status == 200 and start + length <= MOST_HEADER_BYTES + _FIRST_BYTES:
                # It ignores ranges. What is behind stays where it is.
                whole = await limited(response, start + length)
                return whole[start : start + length]
            return None

    def _url(self, model: HubModel, path: str) -> str:
        return (
            f"{self._reach.endpoint}/{quote(self._ref.model_id)}/resolve/"
            f"{quote(model.commit, safe='')}/{quote(path)}"
        )

    @asynccontextmanager
    async def _get(
        self, url: str, extra: Mapping[str, str] = {}
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response, whose body need not be read to its end."""
        async with (
            asyncio.timeout(_ANSWER_TIMEOUT_S),
            self._session.get(url, headers={**self._headers, **extra}) as response,
        ):
            try:
                yield response
            finally:
                response.close()

    def _refused(self, response: aiohttp.ClientResponse) -> MeshtuiError:
        return refusal(
            model=self._ref.model_id,
            endpoint=self._reach.endpoint,
            status=response.status,
            headers=response.headers,
            has_token="Authorization" in self._headers,
        )


async def limited(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, of which at most one byte more than `most` counts."""
    parts: list[bytes] = []
    length = 0
    async for part in response.content.iter_any():
        parts.append(part)
        length += len(part)
        if length > most:
            break
    return b"".join(parts)[: most + 1]


def _count_headers(model: HubModel) -> int:
    found = sum(file.path.endswith(".safetensors") for file in model.files)
    return found if found <= _MOST_HEADERS else 0


def _is_pinned(ref: ModelRef, before: Look) -> bool:
    return (
        before.complete
        and ref.revision == before.model.commit
        and bool(_COMMIT.fullmatch(before.model.commit))
    )


def _model_of(ref: ModelRef, said: Any) -> HubModel:
    """The answer about a model; what has the wrong type counts as absent."""
    if not isinstance(said, dict):
        said = {}
    card = said.get("cardData")
    card = card if isinstance(card, dict) else {}
    tags = tuple(_words(said.get("tags")))
    licence = _word(card.get("license")) or next(
        (tag[8:] for tag in tags if tag.startswith("license:")), None
    )
    if licence == "other":
        licence = _word(card.get("license_name")) or licence
    siblings = said.get("siblings")
    files = (_file(one) for one in (siblings if isinstance(siblings, list) else ())[:_MOST_FILES])
    return HubModel(
        ref=ref,
        commit=_word(said.get("sha")) or "main",
        files=tuple(file for file in files if file is not None),
        library=_word(said.get("library_name")),
        pipeline=_word(said.get("pipeline_tag")),
        licence=licence,
        tags=tags,
        gated=bool(said.get("gated")),
        private=bool(said.get("private")),
    )


def _told(said: Any) -> dict[str, bytes]:
    """The Hub repeats parts of config.json and of the tokenizer's configuration in its answer, also
    of models whose files it gives to some only."""
    config = said.get("config") if isinstance(said, dict) else None
    if not isinstance(config, dict):
        return {}
    parts = {"config.json": {k: v for k, v in config.items() if k != "tokenizer_config"}}
    if isinstance(config.get("tokenizer_config"), dict):
        parts["tokenizer_config.json"] = config["tokenizer_config"]
    return {name: msgspec.json.encode(part) for name, part in parts.items() if part}


def _file(said: Any) -> HubFile | None:
    path = said.get("rfilename") if isinstance(said, dict) else None
    if not isinstance(path, str) or not is_safe(path):
        return None
    size = said.get("size")
    known = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 62
    return HubFile(path=path, size_bytes=size if known else 0)


def _word(value: Any) -> str | None:
    return (one_line(value, 200) or None) if isinstance(value, str) else None


def _words(value: Any) -> Iterable[str]:
    return (word for item in (value if isinstance(value, list) else ())[:500]
            if (word := _word(item)))  # fmt: skip

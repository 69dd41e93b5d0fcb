"""Chat streams over real sockets: what arrives, what breaks, and what closing them does."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meshtui.domain.errors import EngineError, InvalidInput
from meshtui.domain.task import Engine
from meshtui.inference.chat import AnswerFailed, RequestRefused, Target, open_chat

STREAMS = Path(__file__).parent.parent / "data" / "engine_streams"
VLLM_STREAM = (STREAMS / "vllm-0.32.0-chat.txt").read_bytes()
SERVE_STREAM = (STREAMS / "transformers-5.19.0-chat.txt").read_bytes()
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the capital?"}]}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

Handler = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request as a server sees it, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.head = b""
        self.body: dict[str, Any] = {}

    async def read_request(self) -> None:
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        lower = self.head.lower()
        length = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0])
        self.body = json.loads(await self.reader.readexactly(length))

    async def send(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()


@asynccontextmanager
async def engine(handler: Handler, **fields: Any) -> AsyncIterator[Target]:
    """A server on a free port that answers one way."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = Exchange(reader, writer)
        try:
            await exchange.read_request()
            await handler(exchange)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    values: dict[str, Any] = {
        "base_url": f"http://127.0.0.1:{port}",
        "api_key": "key",
        "engine": Engine.VLLM,
        "model": "org/name",
        "model_dir": Path("/nowhere"),
    }
    try:
        yield Target(**{**values, **fields})
    finally:
        server.close()


def streaming(data: bytes, size: int = 2**16) -> Handler:
    async def handler(exchange: Exchange) -> None:
        exchange.writer.write(HEAD)
        for at in range(0, len(data), size):
            await exchange.send(data[at : at + size])
        exchange.writer.write(b"0\r\n\r\n")

    return handler


def answering(status: bytes, body: bytes) -> Handler:
    async def handler(exchange: Exchange) -> None:
        exchange.writer.write(
            b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)
        )

    return handler


async def collect(target: Target, body: dict[str, Any] = BODY) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, open_chat(session, target, body) as stream:
        return [chunk async for chunk in stream]


def text(chunks: list[dict[str, Any]]) -> str:
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


@pytest.mark.parametrize("size", [1, 7, 100, 2**16])
async def test_a_stream_of_vllm_in_pieces_of_any_size(size: int) -> None:
    async with engine(streaming(VLLM_STREAM, size)) as target:
        chunks = await collect(target)
    assert text(chunks) == "L'Étoile, le Grand Étoile,"
    assert chunks[-1]["usage"]["completion_tokens"] == 12


async def test_the_request_that_the_engine_gets() -> None:
    seen: list[Exchange] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange)
        await streaming(VLLM_STREAM)(exchange)

    async with engine(handler) as target:
        await collect(target, {**BODY, "model": "other", "stream_options": {"x": 1}})
    assert b"authorization: bearer key" in seen[0].head.lower()
    assert seen[0].head.startswith(b"POST /v1/chat/completions ")
    assert seen[0].body["model"] == "org/name"
    assert seen[0].body["stream"] is True
    assert seen[0].body["stream_options"] == {"x": 1, "include_usage": True}


async def test_a_stream_of_transformers_serve_looks_the_same(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    async with engine(
        streaming(SERVE_STREAM, 50), engine=Engine.TRANSFORMERS, model_dir=tmp_path
    ) as target:
        chunks = await collect(target)
    assert text(chunks) == "The capital of France is Paris."
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["prompt_tokens"] == 37
    assert {chunk["model"] for chunk in chunks} == {"org/name"}


async def test_notices_say_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    async with (
        engine(streaming(SERVE_STREAM), engine=Engine.TRANSFORMERS, model_dir=tmp_path) as target,
        aiohttp.ClientSession() as session,
        open_chat(session, target, {**BODY, "presence_penalty": 1}) as stream,
    ):
        assert "presence_penalty" in stream.notices[0]


async def test_it_can_be_awaited_too() -> None:
    async with engine(streaming(VLLM_STREAM)) as target, aiohttp.ClientSession() as session:
        stream = await open_chat(session, target, BODY)
        first = await anext(stream)
        await stream.aclose()
        assert first["choices"][0]["delta"]["role"] == "assistant"


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (
            b"400 Bad Request",
            b'{"error":{"message":"too long","type":"BadRequestError","param":"x","code":400}}',
            RequestRefused,
            "too long",
        ),
        (b"404 Not Found", b'{"detail":"Not Found"}', RequestRefused, "Not Found"),
        (b"401 Unauthorized", b'{"error":"Unauthorized"}', AnswerFailed, "Unauthorized"),
        (b"500 Internal Server Error", b"Internal Server Error", AnswerFailed, "Internal"),
        (b"302 Found", b"", AnswerFailed, "302"),
    ],
)
async def test_refusals(
    status: bytes, body: bytes, kind: type[RequestRefused | AnswerFailed], message: str
) -> None:
    async with engine(answering(status, body)) as target:
        with pytest.raises(kind, match=message) as raised:
            await collect(target)
    assert set(raised.value.error["error"]) == {"message", "type", "param", "code"}


async def test_refusals_are_the_kinds_of_errors_that_everybody_knows() -> None:
    assert issubclass(RequestRefused, InvalidInput)
    assert issubclass(AnswerFailed, EngineError)


async def test_what_the_adapter_refuses_never_reaches_the_engine(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    reached: list[Exchange] = []

    async def handler(exchange: Exchange) -> None:
        reached.append(exchange)

    async with engine(handler, engine=Engine.TRANSFORMERS, model_dir=tmp_path) as target:
        with pytest.raises(RequestRefused) as raised:
            await collect(target, {**BODY, "n": 3})
    assert raised.value.error["error"]["code"] == 400
    assert not reached


async def test_an_endless_error_page_ends() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.writer.write(HEAD.replace(b"200 OK", b"500 Oops"))
        while True:
            await exchange.send(b"x" * 65536)

    async with engine(handler) as target:
        with pytest.raises(AnswerFailed):
            await collect(target)


async def test_nothing_listens() -> None:
    async with engine(streaming(b"")) as target:
        pass
    with pytest.raises(AnswerFailed, match="does not answer"):
        await collect(target)


async def test_an_error_in_the_stream_comes_after_the_text_before_it() -> None:
    data = VLLM_STREAM[: VLLM_STREAM.index(b'data: {"id"', 2000)] + (
        b'data: {"error": {"message":"EngineCore encountered an issue. See stack trace (above) for '
        b'the root cause.","type":"InternalServerError","param":null,"code":500}}\n\n'
        b"data: [DONE]\n\n"
    )
    seen: list[dict[str, Any]] = []
    async with (
        engine(streaming(data)) as target,
        aiohttp.ClientSession() as session,
        open_chat(session, target, BODY) as stream,
    ):
        with pytest.raises(AnswerFailed, match="EngineCore encountered an issue"):
            async for chunk in stream:
                seen.append(chunk)
    assert text(seen).startswith("L'")


@pytest.mark.parametrize("how", ["closed", "reset", "ended"])
async def test_an_engine_that_dies_while_it_answers(how: str) -> None:
    part = VLLM_STREAM[:2000]

    async def handler(exchange: Exchange) -> None:
        exchange.writer.write(HEAD)
        await exchange.send(part)
        if how == "reset":
            exchange.writer.transport.abort()
        elif how == "ended":
            exchange.writer.write(b"0\r\n\r\n")

    seen: list[dict[str, Any]] = []
    async with (
        engine(handler) as target,
        aiohttp.ClientSession() as session,
        open_chat(session, target, BODY) as stream,
    ):
        with pytest.raises(AnswerFailed, match="before the answer was complete"):
            async for chunk in stream:
                seen.append(chunk)
    # A reset may overtake what was sent before it.
    assert how == "reset" or text(seen)


@pytest.mark.parametrize("way", ["block", "aclose", "cancel"])
async def test_closing_the_stream_closes_the_connection(way: str) -> None:
    gone = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.writer.write(HEAD)
        await exchange.send(VLLM_STREAM[:2000])
        # The end of the request's stream is how an engine learns that nobody listens any more.
        assert await exchange.reader.read() == b""
        gone.set()

    async with engine(handler) as target, aiohttp.ClientSession() as session:
        if way == "cancel":
            first = asyncio.Event()

            async def read() -> None:
                async with open_chat(session, target, BODY) as stream:
                    async for _ in stream:
                        first.set()

            task = asyncio.create_task(read())
            await asyncio.wait_for(first.wait(), 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            async with open_chat(session, target, BODY) as stream:
                await anext(stream)
                if way == "aclose":
                    await stream.aclose()
                    await asyncio.wait_for(gone.wait(), 5)
        await asyncio.wait_for(gone.wait(), 5)


async def test_a_closed_stream_gives_no_more() -> None:
    async with engine(streaming(VLLM_STREAM)) as target, aiohttp.ClientSession() as session:
        stream = await open_chat(session, target, BODY)
        await anext(stream)
        await stream.aclose()
        rest = [chunk async for chunk in stream]
    # What had arrived already may still be read; nothing fails.
    assert all("error" not in chunk for chunk in rest)

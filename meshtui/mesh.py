"""The enabled models, for Python programs: `meshtui.connect()` and `meshtui.connect_async()`.

    with meshtui.connect() as mesh:
        print(mesh.chat("org/name", "What is the capital of France?").answer)

Servers are started on demand, and live on when the program ends. Nothing that is asked here is kept
in the history. Errors are `meshtui.domain.errors.MeshtuiError`; their text is for people.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, Self, TypedDict, TypeVar, Unpack

from meshtui.client import ControllerClient
from meshtui.domain.codec import from_plain
from meshtui.domain.controller import ModelOption
from meshtui.domain.errors import EngineError, Unavailable
from meshtui.domain.generation import (
    ChatMessage,
    ChatRequest,
    GenerationParameters,
    Run,
    RunEnded,
    RunEvent,
    RunText,
    RunWaiting,
)
from meshtui.domain.images import ImageMade, ImageRequest, ImagesEnded, ImageStep, ImageWaiting
from meshtui.domain.pooling import (
    Classified,
    ClassifyRequest,
    EmbedRequest,
    Ranked,
    RerankRequest,
)
from meshtui.domain.server import ServerStatus

__all__ = ["AsyncMesh", "ChatOptions", "ImageOptions", "Mesh", "Prompt"]

T = TypeVar("T")
# A text, or a conversation: messages, or dicts with "role" and "content".
Prompt = str | Sequence[ChatMessage | Mapping[str, str]]


class ChatOptions(TypedDict, total=False):
    """`on_wait` is called with each change of the server while it starts; for the rest, see
    `GenerationParameters`."""

    connection: str
    system: str
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: Sequence[str]
    on_wait: Callable[[ServerStatus], None]


class ImageOptions(TypedDict, total=False):
    """`on_wait` is called with each change of the server while it starts, `on_step` with each step
    of the making; for the rest, see `ImageRequest`."""

    connection: str
    negative_prompt: str
    width_px: int
    height_px: int
    count: int
    steps: int
    guidance_scale: float
    seed: int
    format: str
    on_wait: Callable[[ServerStatus], None]
    on_step: Callable[[ImageStep], None]


class AsyncMesh:
    """For programs with an event loop. `connection` is needed where several enable a model."""

    def __init__(self, *, spawn: bool = True) -> None:
        self._spawn = spawn
        self._client = ControllerClient()

    async def __aenter__(self) -> Self:
        await self._client.connect(spawn=self._spawn)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.close()

    async def models(self) -> list[ModelOption]:
        """Every enabled model, with its task, its connection, and its server if it has one."""
        return await self._client.models()

    async def chat(self, model: str, prompt: Prompt, **options: Unpack[ChatOptions]) -> Run:
        """The whole answer: `answer`, with `usage`, `finish_reason` and times."""
        ended: Run | None = None
        async with contextlib.aclosing(self._events(model, prompt, options)) as events:
            async for event in events:
                if isinstance(event, RunEnded):
                    ended = event.run
        assert ended is not None, "the client ends with it, or raises"
        return ended

    async def stream(
        self, model: str, prompt: Prompt, **options: Unpack[ChatOptions]
    ) -> AsyncGenerator[str, None]:
        """The answer as it comes. Closing the iterator stops the generation."""
        async with contextlib.aclosing(self._events(model, prompt, options)) as events:
            async for event in events:
                if isinstance(event, RunText):
                    yield event.text

    async def _events(
        self, model: str, prompt: Prompt, options: ChatOptions
    ) -> AsyncGenerator[RunEvent, None]:
        on_wait = options.get("on_wait")
        request = _request(model, prompt, options)
        async with contextlib.aclosing(self._client.prompt(request)) as events:
            async for event in events:
                if isinstance(event, RunWaiting) and on_wait is not None:
                    on_wait(event.server)
                if isinstance(event, RunEnded) and event.run.status != "done":
                    raise _failed(event.run)
                yield event

    async def embed(
        self,
        model: str,
        texts: Sequence[str],
        *,
        connection: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> list[list[float]]:
        """One vector a text. `truncate`: what is too long is cut off, and not refused."""
        found = await self._client.embed(
            EmbedRequest(
                model=model,
                texts=_several(texts),
                connection=connection,
                dimensions=dimensions,
                truncate=truncate,
            )
        )
        return [list(vector) for vector in found.vectors]

    async def rerank(
        self,
        model: str,
        query: str,
        texts: Sequence[str],
        *,
        connection: str | None = None,
        truncate: bool = False,
    ) -> list[Ranked]:
        """The places of the texts with their scores, the best first."""
        found = await self._client.rerank(
            RerankRequest(
                model=model,
                query=query,
                texts=_several(texts),
                connection=connection,
                truncate=truncate,
            )
        )
        return list(found.results)

    async def classify(
        self,
        model: str,
        texts: Sequence[str],
        *,
        connection: str | None = None,
        truncate: bool = False,
    ) -> list[Classified]:
        """The likeliest class of each text, and the share of every class."""
        found = await self._client.classify(
            ClassifyRequest(
                model=model, texts=_several(texts), connection=connection, truncate=truncate
            )
        )
        return list(found.results)

    async def images(
        self, model: str, prompt: str, **options: Unpack[ImageOptions]
    ) -> list[ImageMade]:
        """The pictures: each has its `data`, a file of the format asked for, and its `seed`."""
        fields: dict[str, Any] = {**options}
        on_wait, on_step = fields.pop("on_wait", None), fields.pop("on_step", None)
        request = ImageRequest(model=model, prompt=prompt, **fields)
        made: list[ImageMade] = []
        async with contextlib.aclosing(self._client.images(request)) as events:
            async for event in events:
                match event:
                    case ImageWaiting(server) if on_wait is not None:
                        on_wait(server)
                    case ImageStep() if on_step is not None:
                        on_step(event)
                    case ImageMade():
                        made.append(event)
                    case ImagesEnded(error) if error is not None:
                        raise EngineError(error.cause, hint=error.fix)
        return made


class Mesh:
    """For programs without an event loop; may be used from several threads, and where a loop runs
    it blocks that one. `close` it, or use it with `with`."""

    def __init__(self, *, spawn: bool = True) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mesh", daemon=True)
        self._thread.start()
        self._mesh = AsyncMesh(spawn=spawn)
        try:
            self._wait(self._mesh.__aenter__())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what goes on, and its thread. A second time it does nothing."""
        if self._loop.is_closed():
            return
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._mesh.close()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def models(self) -> list[ModelOption]:
        """As `AsyncMesh.models`."""
        return self._wait(self._mesh.models())

    def chat(self, model: str, prompt: Prompt, **options: Unpack[ChatOptions]) -> Run:
        """As `AsyncMesh.chat`. `on_wait` is called in another thread and may ask nothing here."""
        return self._wait(self._mesh.chat(model, prompt, **options))

    def stream(
        self, model: str, prompt: Prompt, **options: Unpack[ChatOptions]
    ) -> Generator[str, None, None]:
        """As `AsyncMesh.stream`. Leaving the loop early and closing the iterator stop the
        generation."""
        pieces = self._mesh.stream(model, prompt, **options)
        try:
            while (piece := self._wait(_next(pieces))) is not None:
                yield piece
        finally:
            if not self._loop.is_closed():
                self._wait(pieces.aclose())

    def embed(
        self,
        model: str,
        texts: Sequence[str],
        *,
        connection: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> list[list[float]]:
        """As `AsyncMesh.embed`."""
        return self._wait(
            self._mesh.embed(
                model, texts, connection=connection, dimensions=dimensions, truncate=truncate
            )
        )

    def rerank(
        self,
        model: str,
        query: str,
        texts: Sequence[str],
        *,
        connection: str | None = None,
        truncate: bool = False,
    ) -> list[Ranked]:
        """As `AsyncMesh.rerank`."""
        return self._wait(
            self._mesh.rerank(model, query, texts, connection=connection, truncate=truncate)
        )

    def classify(
        self,
        model: str,
        texts: Sequence[str],
        *,
        connection: str | None = None,
        truncate: bool = False,
    ) -> list[Classified]:
        """As `AsyncMesh.classify`."""
        return self._wait(
            self._mesh.classify(model, texts, connection=connection, truncate=truncate)
        )

    def images(self, model: str, prompt: str, **options: Unpack[ImageOptions]) -> list[ImageMade]:
        """As `AsyncMesh.images`; its callbacks as in `chat`."""
        return self._wait(self._mesh.images(model, prompt, **options))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What interrupts the caller cancels the work."""
        if self._loop.is_closed():
            work.close()
            raise _closed()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise _closed() from None
        except BaseException:
            future.cancel()
            raise


def _closed() -> Unavailable:
    return Unavailable("This mesh was closed.", hint="Connect again: meshtui.connect()")


async def _next(pieces: AsyncGenerator[str, None]) -> str | None:
    return await anext(pieces, None)


def _request(model: str, prompt: Prompt, options: ChatOptions) -> ChatRequest:
    messages = [
        message if isinstance(message, ChatMessage) else _message(message)
        for message in ([ChatMessage("user", prompt)] if isinstance(prompt, str) else prompt)
    ]
    if system := options.get("system"):
        messages.insert(0, ChatMessage("system", system))
    return ChatRequest(
        model=model,
        connection=options.get("connection"),
        messages=tuple(messages),
        parameters=GenerationParameters(
            max_tokens=options.get("max_tokens"),
            temperature=options.get("temperature"),
            top_p=options.get("top_p"),
            seed=options.get("seed"),
            stop=tuple(options.get("stop", ())),
        ),
        keep=False,
    )


def _message(message: Mapping[str, str]) -> ChatMessage:
    return from_plain(dict(message), ChatMessage)


def _several(texts: Sequence[str]) -> tuple[str, ...]:
    """One text is a sequence of texts, too, and meant as one."""
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _failed(run: Run) -> EngineError:
    if run.error is not None:
        return EngineError(run.error.cause, hint=run.error.fix)
    return EngineError(f"The run was {run.status}.", hint="Ask again.")

"""Runs prompts: starts the server where needed, streams the answer, keeps it in the history."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import aiohttp

from meshtui.controller.catalogue import Catalogue, Choice
from meshtui.controller.explain import explanation_of
from meshtui.controller.fitting import check_fits
from meshtui.controller.inbox import Inbox
from meshtui.controller.parts import ReadyServer, Servers
from meshtui.controller.recorder import Recorder
from meshtui.domain.errors import EngineError, InvalidInput, MeshtuiError
from meshtui.domain.generation import (
    ChatRequest,
    GenerationParameters,
    Run,
    RunEnded,
    RunEvent,
    RunNotice,
    RunStarted,
    RunStatus,
    RunText,
    RunUsage,
    RunWaiting,
    Usage,
)
from meshtui.domain.server import Explanation
from meshtui.domain.task import Ability
from meshtui.inference.chat import Target, open_chat
from meshtui.settings.connections import wrong_parameter
from meshtui.studio.history import History, new_run_id

_LOGGER = logging.getLogger(__name__)
# Live counts are for the eye.
_USAGE_EVERY_S = 0.25


class Runs:
    """All runs that go on. `crash_explanation` waits a little for what a server that died in the
    middle of an answer had to say."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        servers: Servers,
        history: History,
        session: Callable[[], aiohttp.ClientSession],
        recorded: Callable[[Run], None],
        crash_explanation: Callable[[str], Awaitable[Explanation | None]],
    ) -> None:
        self._catalogue = catalogue
        self._servers = servers
        self._history = history
        self._session = session
        self._recorded = recorded
        self._crash_explanation = crash_explanation
        self._workers: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def active(self) -> int:
        return len(self._workers)

    async def close(self) -> None:
        """Breaks off what goes on; it is kept as `interrupted`."""
        self._closing = True
        for worker in self._workers:
            worker.cancel()
        if self._workers:
            await asyncio.wait(self._workers)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[RunEvent], None]:
        """Batches of events, up to and with `RunEnded`. Closing the generator cancels the run.

        Raises `MeshtuiError` before the first batch where the run cannot begin; whatever fails
        later ends in a `RunEnded` that says so.
        """
        choice = self._check(request)
        status = await self._servers.start(choice.connection, choice.enabled)
        parameters = request.parameters.over(choice.enabled.generation)
        run = Run(
            id=new_run_id(),
            created_at=time.time(),
            model=choice.enabled.model,
            connection=choice.connection.name,
            messages=request.messages,
            parameters=parameters,
        )
        recorder = Recorder(run, self._history if request.keep else None, self._recorded)
        inbox = Inbox()
        inbox.put(RunStarted(run.id, status.id))
        if request.keep and self._history.trouble is not None:
            inbox.put(RunNotice(self._history.trouble))
        worker = asyncio.create_task(self._work(choice, recorder, inbox), name=f"run {run.id}")
        self._workers.add(worker)

        def over(worker: asyncio.Task[None]) -> None:
            self._workers.discard(worker)
            if not recorder.ended:
                # Cancelled before its first turn.
                recorder.end("cancelled")

        worker.add_done_callback(over)
        try:
            while True:
                events = await inbox.take()
                yield events
                if isinstance(events[-1], RunEnded):
                    return
        finally:
            worker.cancel()
            await asyncio.wait([worker])

    def _check(self, request: ChatRequest) -> Choice:
        if not any(message.content.strip() for message in request.messages):
            raise InvalidInput("The prompt is empty.", hint="Write something to the model first.")
        wrong = wrong_parameter(request.parameters)
        if wrong is not None:
            raise InvalidInput(f"The parameter {wrong[0]} {wrong[1]}.")
        choice = self._catalogue.find(request.model, request.connection)
        check_fits(choice, Ability.CHAT, self._catalogue)
        return choice

    async def _work(self, choice: Choice, recorder: Recorder, inbox: Inbox) -> None:
        """One run from asking for the server to its end, whatever that is."""
        status: RunStatus = "done"
        error: Explanation | None = None
        try:
            ready = await self._servers.ready(
                choice.connection, choice.enabled, lambda server: inbox.put(RunWaiting(server))
            )
            with self._servers.lease(ready.server_id):
                await self._answer(ready, recorder, inbox)
        except asyncio.CancelledError:
            status = "interrupted" if self._closing else "cancelled"
            if not self._closing:
                raise
        except MeshtuiError as failure:
            status, error = "failed", explanation_of(failure)
            if isinstance(failure, EngineError) and recorder.engine is not None:
                error = await self._crash_explanation(ready.server_id) or error
        except Exception as failure:
            _LOGGER.exception("run %s failed", recorder.run.id)
            status, error = "failed", explanation_of(failure)
        finally:
            inbox.put(RunEnded(recorder.end(status, error)))

    async def _answer(self, ready: ReadyServer, recorder: Recorder, inbox: Inbox) -> None:
        body = chat_body(recorder.run)
        recorder.asked(ready.engine)
        async with open_chat(self._session(), target_of(ready), body) as stream:
            for notice in stream.notices:
                inbox.put(RunNotice(notice))
            told_s = time.monotonic()
            thinking = Thinking()
            async for chunk in stream:
                usage = chunk.get("usage")
                if usage:
                    recorder.usage = _usage(usage)
                for choice in chunk.get("choices") or ():
                    for text in thinking.pieces(choice.get("delta") or {}):
                        recorder.text(text)
                        inbox.put(RunText(text))
                    recorder.finish_reason = choice.get("finish_reason") or recorder.finish_reason
                if usage and time.monotonic() - told_s >= _USAGE_EVERY_S:
                    told_s = time.monotonic()
                    inbox.put(RunUsage(_usage(usage)))
        if recorder.usage is not None:
            inbox.put(RunUsage(recorder.usage))


class Thinking:
    """Puts what an engine tells apart back in its order: a model's thoughts between the marks
    that most models themselves put there, then its answer. Older releases of vLLM call the field
    for thoughts `reasoning_content`."""

    def __init__(self) -> None:
        self._is_open = False

    def pieces(self, delta: Mapping[str, Any]) -> Iterator[str]:
        thought = delta.get("reasoning") or delta.get("reasoning_content")
        if thought:
            if not self._is_open:
                self._is_open = True
                yield "<think>\n"
            yield thought
        if text := delta.get("content"):
            if self._is_open:
                self._is_open = False
                yield "\n</think>\n\n"
            yield text


def target_of(ready: ReadyServer) -> Target:
    """Where and how to ask a ready server."""
    return Target(
        base_url=ready.base_url,
        api_key=ready.api_key,
        engine=ready.engine,
        model=ready.model,
        model_dir=ready.model_dir,
        context_length=ready.context_length,
    )


def parameters_body(parameters: GenerationParameters) -> dict[str, Any]:
    """The parameters that are set, under OpenAI's names."""
    body: dict[str, Any] = {
        "max_tokens": parameters.max_tokens,
        "temperature": parameters.temperature,
        "top_p": parameters.top_p,
        "seed": parameters.seed,
        "stop": list(parameters.stop) or None,
    }
    return {key: value for key, value in body.items() if value is not None}


def chat_body(run: Run) -> dict[str, Any]:
    """A run as an OpenAI chat request with live token counts."""
    return {
        "model": run.model,
        "messages": [
            {"role": message.role, "content": message.content} for message in run.messages
        ],
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        **parameters_body(run.parameters),
    }


def _usage(counts: dict[str, Any]) -> Usage:
    return Usage(int(counts.get("prompt_tokens") or 0), int(counts.get("completion_tokens") or 0))

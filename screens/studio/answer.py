"""One answer on its way, as plain data: fed by the controller's events, read by a block."""

import time
from collections.abc import AsyncGenerator
from enum import Enum
from typing import TYPE_CHECKING

from meshtui.domain.controller import ModelOption
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.generation import (
    ChatMessage,
    ChatRequest,
    Run,
    RunEnded,
    RunNotice,
    RunStarted,
    RunText,
    RunUsage,
    RunWaiting,
    Usage,
)
from meshtui.domain.images import ImageMade
from meshtui.domain.server import Explanation, Phase, ServerStatus
from meshtui.domain.text import StreamSanitiser, one_line, sanitise

from .. import words
from . import parameters

if TYPE_CHECKING:
    from meshtui.client import ControllerClient

_SHORTEST_MEASURE_S = 0.02


class Standing(Enum):
    """Where an answer stands."""

    WAITING = "waiting"
    STREAMING = "streaming"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def is_over(self) -> bool:
        return self not in (Standing.WAITING, Standing.STREAMING)


class Answer:
    """A prompt and what came of it so far.

    Text collects in a buffer and is taken from there by `take_text`, at the pace of the screen.
    """

    def __init__(self, request: ChatRequest, label: str) -> None:
        self.request = request
        self.label = one_line(label)
        self.connection = one_line(request.connection or "local")
        self.created_at = time.time()
        self.standing = Standing.WAITING
        self.run_id: str | None = None
        self.server: ServerStatus | None = None
        self.server_id: str | None = None
        self.notices: list[str] = []
        self.usage: Usage | None = None
        self.run: Run | None = None
        self.explanation: Explanation | None = None
        self.starred = False
        self.pieces = 0
        self.pictures: list[ImageMade] = []
        self._buffer: list[str] = []
        self._shown: list[str] = []
        self._sanitiser = StreamSanitiser()
        self._asked_at = time.monotonic()
        self._first_at: float | None = None
        self._ended_at: float | None = None

    @classmethod
    def from_run(cls, run: Run, option: ModelOption | None) -> "Answer":
        """A past run as it was stored."""
        request = ChatRequest(
            model=run.model,
            messages=run.messages,
            connection=run.connection,
            parameters=run.parameters,
        )
        answer = cls(request, option.label if option else run.model.rpartition("/")[2])
        answer.created_at = run.created_at
        answer._buffer.append(run.answer)
        answer._close(run)
        return answer

    def stream(self, client: "ControllerClient") -> AsyncGenerator[object, None]:
        """Asks, and gives what there is to take in. Closing it cancels."""
        return client.prompt(self.request)

    def again(self) -> "Answer":
        """The same question, not asked yet."""
        return Answer(self.request, self.label)

    @property
    def shown(self) -> tuple[bytes, ...]:
        """The pictures to be seen, as files."""
        return ()

    @property
    def shows_pictures(self) -> bool:
        return False

    @property
    def fields(self) -> tuple[parameters.FieldSpec, ...]:
        """Those that it was asked with."""
        return parameters.FIELDS

    def field_values(self) -> dict[str, str]:
        return parameters.write(self.request.parameters)

    @property
    def prompt(self) -> str:
        """The newest thing that the user said, sanitised."""
        for message in reversed(self.request.messages):
            if message.role == "user":
                return sanitise(message.content)
        return ""

    @property
    def text(self) -> str:
        """All that was taken so far, sanitised."""
        if len(self._shown) > 1:
            self._shown = ["".join(self._shown)]
        return self._shown[0] if self._shown else ""

    @property
    def turns(self) -> tuple[ChatMessage, ...]:
        """The conversation up to here, for going on with it."""
        said = (ChatMessage("assistant", self.text),) if self.text else ()
        return (*self.request.messages, *said) if said else ()

    @property
    def gives_report(self) -> bool:
        """There is more use in copying why it failed than what came."""
        failed = self.standing is Standing.FAILED
        return self.explanation is not None and (failed or not self.text)

    def take_text(self) -> str:
        """What arrived since the last time, safe to show."""
        raw, self._buffer = "".join(self._buffer), []
        text = self._sanitiser.feed(raw) if raw else ""
        if self.standing.is_over:
            text += self._sanitiser.finish()
        if text:
            self._shown.append(text)
        return text

    def take(self, event: object) -> bool:
        """Takes in an event; True where more than text has changed."""
        match event:
            case RunText(text):
                first = self._first_at is None
                if first:
                    self._arrived()
                self._buffer.append(text)
                self.pieces += 1
                return first
            case RunUsage(usage):
                self.usage = usage
                return False
            case RunStarted(run_id, server_id):
                self.run_id, self.server_id = run_id, server_id
            case RunWaiting(server):
                self.server, self.server_id = server, server.id
                if server.phase is Phase.READY:
                    self._begin()
            case RunNotice(message):
                self.notices.append(one_line(message))
            case RunEnded(run):
                self._close(run)
        return True

    def _begin(self) -> None:
        """The engine is asked from now on."""
        self._asked_at = time.monotonic()

    def _arrived(self) -> None:
        """The first of the answer is there."""
        self._first_at = time.monotonic()
        self.standing = Standing.STREAMING

    def _close(self, run: Run) -> None:
        self.run, self.run_id = run, run.id
        self.standing = Standing(run.status) if run.status != "running" else Standing.INTERRUPTED
        self.usage = run.usage or self.usage
        self.explanation = run.error
        self.starred = run.starred
        self._end()

    def cancel(self) -> None:
        """The user gave up on it."""
        if not self.standing.is_over:
            self.standing = Standing.CANCELLED
            self._end()

    def fail(self, error: MeshtuiError) -> None:
        """It broke off without the controller's saying how it ended; what arrived is kept."""
        self.standing = Standing.INTERRUPTED if self.pieces else Standing.FAILED
        self.explanation = Explanation(
            cause=error.message, fix=error.hint or "Press r to run it again."
        )
        self._end()

    def amend(self, run: Run) -> None:
        """The stored run, where it became known later."""
        if run.status != "running":
            self.run = run
            self.usage = run.usage or self.usage
            self.starred = run.starred

    def _end(self) -> None:
        self._ended_at = time.monotonic()

    def waited_s(self) -> float:
        """Since it was asked for, until its first text or its end."""
        return (self._first_at or self._ended_at or time.monotonic()) - self._asked_at

    def figures(self) -> list[str]:
        """What is known of its speed and size, in words."""
        run, now = self.run, self._ended_at or time.monotonic()
        ttft = run.ttft_s if run else None
        if ttft is None and self._first_at is not None and self.run is None:
            ttft = self._first_at - self._asked_at
        rate = run.tokens_per_s if run else None
        if rate is None and self._first_at is not None and now - self._first_at > 0.2:
            tokens = self.usage.completion_tokens if self.usage else self.pieces
            rate = max(0, tokens - 1) / (now - self._first_at)
        found = []
        if ttft is not None:
            found.append(f"TTFT {words.short_time(ttft)}")
        tokens_took_s = (run.duration_s or 0) if run else now - (self._first_at or now)
        # Too short a time to tell a rate from: the answer came in one piece.
        measured = tokens_took_s >= _SHORTEST_MEASURE_S
        if rate is not None and measured and not (run and self.standing is Standing.FAILED):
            found.append(f"{rate:,.1f} tok/s")
        if self.usage:
            found.append(f"{self.usage.prompt_tokens:,} → {self.usage.completion_tokens:,} tokens")
        elif self.pieces:
            found.append(f"{self.pieces:,} pieces")
        if run and run.finish_reason:
            found.append(one_line(run.finish_reason, 20))
        return found

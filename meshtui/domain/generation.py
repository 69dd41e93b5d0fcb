"""A conversation, how its answer is generated, and what comes back while it streams."""

from typing import Annotated, Literal

import msgspec

from meshtui.domain.described import says
from meshtui.domain.server import Explanation, ServerStatus
from meshtui.domain.task import Engine

Role = Literal["system", "user", "assistant", "tool"]


class ChatMessage(msgspec.Struct, frozen=True):
    """One turn."""

    role: Role
    content: str


class GenerationParameters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How to generate. None means: whatever stands below decides (the enabled model's defaults,
    then the model's `generation_config.json`, then the engine)."""

    max_tokens: Annotated[int | None, says("The most tokens of an answer.")] = None
    temperature: Annotated[
        float | None, says("How freely tokens are drawn; 0 always takes the likeliest.")
    ] = None
    top_p: Annotated[
        float | None,
        says("Draws from the likeliest tokens that hold this much of the probability."),
    ] = None
    seed: Annotated[int | None, says("Makes draws repeatable.")] = None
    stop: Annotated[tuple[str, ...], says("Texts that end an answer.")] = ()

    def over(self, below: "GenerationParameters") -> "GenerationParameters":
        """These parameters, with what they leave open taken from `below`."""
        merged = {
            name: getattr(self, name)
            if getattr(self, name) not in (None, ())
            else getattr(below, name)
            for name in self.__struct_fields__
        }
        return GenerationParameters(**merged)


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt for an enabled model. `connection` is needed where several enable the model.
    `keep` False leaves it out of the history."""

    model: str
    messages: tuple[ChatMessage, ...]
    connection: str | None = None
    parameters: GenerationParameters = GenerationParameters()
    keep: bool = True


class Usage(msgspec.Struct, frozen=True):
    """Token counts as the engine reports them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


RunStatus = Literal["running", "done", "cancelled", "failed", "interrupted"]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt and its answer, as history keeps it.

    `interrupted` marks an answer that broke off because the controller died: what had arrived is
    kept. `ttft_s` is from the engine's being ready to the first text; `duration_s` from there to
    the last; `wait_s` is the time spent on starting the server before that.
    """

    id: str
    created_at: float
    model: str
    connection: str
    messages: tuple[ChatMessage, ...]
    parameters: GenerationParameters = GenerationParameters()
    status: RunStatus = "running"
    engine: Engine | None = None
    answer: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    wait_s: float | None = None
    ttft_s: float | None = None
    duration_s: float | None = None
    error: Explanation | None = None
    starred: bool = False

    @property
    def tokens_per_s(self) -> float | None:
        """Generated tokens per second after the first one, or None where too few came."""
        if self.usage is None or self.duration_s is None or self.usage.completion_tokens < 2:
            return None
        if self.duration_s <= 0:
            return None
        return (self.usage.completion_tokens - 1) / self.duration_s


# What `ControllerClient.prompt` yields, in this order: `RunStarted`, any number of
# `RunWaiting` while the server starts, `RunText` as it arrives, at times `RunUsage` with live
# counts, and exactly one `RunEnded`.


class RunStarted(msgspec.Struct, frozen=True, tag="started"):
    """The run exists; `server_id` is where it will be answered."""

    run_id: str
    server_id: str


class RunWaiting(msgspec.Struct, frozen=True, tag="waiting"):
    """The server is not ready yet; its state has changed."""

    server: ServerStatus


class RunText(msgspec.Struct, frozen=True, tag="text"):
    """More of the answer: raw text from the model, not sanitised."""

    text: str


class RunUsage(msgspec.Struct, frozen=True, tag="usage"):
    """Counts so far."""

    usage: Usage


class RunNotice(msgspec.Struct, frozen=True, tag="notice"):
    """Something to know about this run, such as a parameter that the engine cannot honour."""

    message: str


class RunEnded(msgspec.Struct, frozen=True, tag="ended"):
    """The run as it was stored: done, cancelled or failed."""

    run: Run


RunEvent = RunStarted | RunWaiting | RunText | RunUsage | RunNotice | RunEnded

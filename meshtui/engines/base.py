"""What an engine is to the rest of meshtui: how it is started, read, asked and understood.

Every engine speaks a dialect of its own; an `EngineAdapter` turns it into one language, so that
nothing above branches on the engine. The language is vLLM's OpenAI dialect: a stream of
`chat.completion.chunk` objects, text in `choices[0].delta.content`, one chunk with a
`finish_reason`, then one with `choices: []` and `usage`; errors as
`{"error": {"message", "type", "param", "code"}}`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec

from meshtui.domain.connection import EnabledModel
from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.server import Phase
from meshtui.domain.task import Engine
from meshtui.engines.model_facts import ModelFacts


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What this machine offers to an engine. `compute_capability` is that of the least capable
    NVIDIA GPU (8.9, say), None without one; `cpu_flags` are those of `/proc/cpuinfo`."""

    gpu_count: int = 0
    gpu_names: tuple[str, ...] = ()
    compute_capability: float | None = None
    cpu_flags: frozenset[str] = frozenset()
    cpu_count: int = 1
    memory_bytes: int = 0
    shared_memory_bytes: int = 0


class LaunchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides an engine's command line. `facts` are those of a model whose folder
    is not on this machine (None: they are read from it). `remote`: others than this machine are to
    reach the engine, and the key alone keeps them out."""

    model: str
    model_dir: Path
    enabled: EnabledModel
    runtime: RuntimeStatus
    python: Path
    machine: Machine
    port: int
    api_key: str
    facts: ModelFacts | None = None
    remote: bool = False


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How to start the engine. Secrets stand in `environment` only, never in `argv`.
    `environment` is set on top of the inherited one. `start_timeout_s` bounds the time to ready,
    `grace_s` that between SIGTERM and SIGKILL. `engine_version` is the installed one;
    `context_length` is known here only for engines that do not name it in their log."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    start_timeout_s: float
    grace_s: float
    engine_version: str | None = None
    context_length: int | None = None


class LogUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """What a line of the engine's log tells; None where it tells nothing about that."""

    phase: Phase | None = None
    progress: float | None = None
    message: str | None = None
    context_length: int | None = None
    engine_version: str | None = None


class LogReader(Protocol):
    """Turns log lines (already split at `\\n` and `\\r`) of one start into updates."""

    def feed(self, line: str) -> LogUpdate | None: ...


class PreparedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request in the engine's dialect. `notices` say what it cannot honour; `model` is the
    name that the answer is to carry; `context_length` bounds prompt and answer where the engine
    does not."""

    path: str
    body: dict[str, Any]
    notices: tuple[str, ...] = ()
    model: str = ""
    context_length: int | None = None


class StreamTranslator(Protocol):
    """Turns the bytes of one streamed answer into normalised chunks.

    A chunk that holds the key `error` is the end of a failed stream. `finish` is called when the
    engine closed the connection; it returns what was held back, or an error chunk where the
    stream broke off.
    """

    def feed(self, data: bytes) -> list[dict[str, Any]]: ...

    def finish(self) -> list[dict[str, Any]]: ...


class EngineAdapter(Protocol):
    """One engine's dialect. `speaks_openai`: its answers are what OpenAI's clients expect, byte by
    byte, so that they may be handed on unread. `paths`: the routes for programs that it has, and
    where it answers them."""

    engine: Engine
    speaks_openai: bool
    paths: Mapping[str, str]

    def launch(self, request: LaunchRequest) -> Launch:
        """The command line and environment; raises `InvalidInput` for settings that the engine
        cannot have. Reads the model's small JSON files: call it in a thread."""
        ...

    def log_reader(self) -> LogReader: ...

    async def is_ready(self, session: aiohttp.ClientSession, base_url: str) -> bool:
        """Whether it answers requests now; False too while nothing listens."""
        ...

    def headers(self, api_key: str) -> dict[str, str]:
        """The headers of every request to it."""
        ...

    def prepare_chat(
        self, body: Mapping[str, Any], *, model_dir: Path, context_length: int | None
    ) -> PreparedRequest:
        """An OpenAI chat request in the engine's dialect, always streamed. Raises `InvalidInput`
        for what the engine would answer wrongly."""
        ...

    def translator(self, prepared: PreparedRequest) -> StreamTranslator: ...

    def error(self, status: int, body: bytes) -> dict[str, Any]:
        """The normalised error of an answer that is not 200, in whatever shape it came."""
        ...


class EngineDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The engine for a model, why, and what could be tried should it fail to start."""

    engine: Engine
    reason: str
    fallback: Engine | None = None
    lost: tuple[str, ...] = ()

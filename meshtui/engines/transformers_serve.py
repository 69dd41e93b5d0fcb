"""`transformers serve`: the fallback for models that vLLM cannot run.

It has no API key, no metrics and no served name, answers one request at a time, and ignores much of
what it is asked: `transformers_request` and `transformers_stream` make up for it. Without a key,
anyone on this machine who finds the port may use it; it is bound to 127.0.0.1 and must never be
reachable from elsewhere.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import aiohttp

from meshtui.domain.task import Engine
from meshtui.engines.answers import normalise_error
from meshtui.engines.arguments import check_extra_arguments
from meshtui.engines.base import Launch, LaunchRequest, LogReader, PreparedRequest, StreamTranslator
from meshtui.engines.log_markers import MarkerLogReader
from meshtui.engines.model_facts import ModelFacts, read_facts
from meshtui.engines.probe import answers_health
from meshtui.engines.transformers_request import prepare
from meshtui.engines.transformers_stream import TransformersTranslator
from meshtui.settings.shipped import first_applying, toml_data

_RESERVED = ("--host", "--port", "--enable-cors", "--model-timeout")
_START_TIMEOUT_S = 600.0
_SLOW_READ_BYTES_PER_S = 30e6
# It waits for running requests without a limit; nothing is gained by waiting with it.
_GRACE_S = 3.0
# Runs a command in a folder, so that the folder's name is no part of the command.
_IN_FOLDER = ("/bin/sh", "-c", 'cd -- "$1" && shift && exec "$@"', "sh")


class TransformersAdapter:
    """`EngineAdapter` of `transformers serve`."""

    engine = Engine.TRANSFORMERS
    speaks_openai = False
    paths: Mapping[str, str] = {"/v1/chat/completions": "/v1/chat/completions"}

    def launch(self, request: LaunchRequest) -> Launch:
        enabled = request.enabled
        check_extra_arguments(enabled.extra_engine_args, _RESERVED)
        facts = read_facts(request.model_dir)
        version = request.runtime.version("transformers")
        data = first_applying(toml_data("engines/transformers.toml")["launch"], version)
        prefix, model = _model_argument(request.model_dir)
        argv = [*prefix, str(request.python), "-m", data["module"], "serve", model]
        argv += ["--host", "127.0.0.1", "--port", str(request.port), *data["arguments"]]
        if enabled.quantization in ("bnb-4bit", "bnb-8bit"):
            argv += ["--quantization", enabled.quantization]
        if enabled.trust_remote_code:
            argv.append("--trust-remote-code")
        argv += enabled.extra_engine_args
        environment = {
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false",
            # Threads that wait for each other by spinning take the processor from whoever they
            # wait for: on two busy cores this made 1 token a second, waiting asleep makes 7.
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",
        }
        return Launch(
            argv=tuple(argv),
            environment={**environment, **enabled.engine_environment},
            start_timeout_s=_START_TIMEOUT_S + facts.weights_bytes / _SLOW_READ_BYTES_PER_S,
            grace_s=_GRACE_S,
            engine_version=version,
            context_length=_context_length(facts, enabled.max_tokens),
        )

    def log_reader(self) -> LogReader:
        return MarkerLogReader(toml_data("engines/transformers.toml")["marker"])

    async def is_ready(self, session: aiohttp.ClientSession, base_url: str) -> bool:
        return await answers_health(session, base_url)

    def headers(self, api_key: str) -> dict[str, str]:
        """Nothing: it knows no key."""
        return {}

    def prepare_chat(
        self, body: Mapping[str, Any], *, model_dir: Path, context_length: int | None
    ) -> PreparedRequest:
        facts = _facts(model_dir, _state(model_dir))
        return prepare(body, facts, context_length or facts.context_length)

    def translator(self, prepared: PreparedRequest) -> StreamTranslator:
        return TransformersTranslator(prepared)

    def error(self, status: int, body: bytes) -> dict[str, Any]:
        return normalise_error(status, body)


@lru_cache(maxsize=32)
def _facts(model_dir: Path, state: tuple[int, ...]) -> ModelFacts:
    """Read once for each state of the folder: requests are frequent, changes are not."""
    return read_facts(model_dir)


def _state(model_dir: Path) -> tuple[int, ...]:
    """When the files that requests depend on last changed."""
    state = []
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        try:
            state.append((model_dir / name).stat().st_mtime_ns)
        except OSError:
            state.append(0)
    return tuple(state)


def _context_length(facts: ModelFacts, wanted: int | None) -> int | None:
    known = [length for length in (facts.context_length, wanted) if length is not None]
    return min(known) if known else None


def _model_argument(model_dir: Path) -> tuple[tuple[str, ...], str]:
    """How the model is named, and what must stand before the command for that name to hold.

    An `@` in the name is read as the start of a revision, `:NAME.gguf` as a file in a repository:
    a folder with either in its path is served as `.` from within.
    """
    folder = str(model_dir)
    if "@" in folder or ":" in folder:
        return (*_IN_FOLDER, folder), "."
    return (), folder

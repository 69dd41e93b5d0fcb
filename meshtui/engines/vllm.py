"""vLLM: the default engine. Its OpenAI dialect is the one that the others are translated to."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from meshtui.domain.task import CHAT, Engine, Task
from meshtui.engines.answers import error_answer, from_payload, normalise_error
from meshtui.engines.arguments import check_extra_arguments, gguf_file
from meshtui.engines.base import Launch, LaunchRequest, LogReader, PreparedRequest, StreamTranslator
from meshtui.engines.log_markers import MarkerLogReader
from meshtui.engines.model_facts import ModelFacts, read_facts
from meshtui.engines.place import vllm_runs_on_cpu
from meshtui.engines.probe import answers_health
from meshtui.engines.sse import EventSplitter, EventTooLong
from meshtui.settings.shipped import first_applying, toml_data

_GIB = 1024**3
_RESERVED = (
    "--model",
    "--served-model-name",
    "--host",
    "--port",
    "--uds",
    "--api-key",
    "--root-path",
    "--ssl-keyfile",
    "--ssl-certfile",
)
# Ten minutes cover the imports and the compilation of large models; weights come on top at a rate
# that a network disk reaches.
_START_TIMEOUT_S = 600.0
_SLOW_READ_BYTES_PER_S = 30e6
# vLLM ends within 2 s of SIGTERM when it is ready.
_GRACE_S = 10.0
# Requests of full length that the KV cache should hold at once where memory allows it.
_KV_REQUESTS = 4


class VllmAdapter:
    """`EngineAdapter` of vLLM. Versions differ by the data in `config/engines/vllm.toml`."""

    engine = Engine.VLLM
    speaks_openai = True
    # As of 0.32. What another release lacks, it answers with 404.
    paths: Mapping[str, str] = {
        "/v1/chat/completions": "/v1/chat/completions",
        "/v1/completions": "/v1/completions",
        "/v1/responses": "/v1/responses",
        "/v1/embeddings": "/v1/embeddings",
        "/v1/rerank": "/v1/rerank",
        "/v1/score": "/v1/score",
        "/v1/classify": "/classify",
    }

    def launch(self, request: LaunchRequest) -> Launch:
        enabled = request.enabled
        check_extra_arguments(enabled.extra_engine_args, _RESERVED)
        facts = request.facts or read_facts(request.model_dir)
        data = first_applying(
            toml_data("engines/vllm.toml")["launch"], request.runtime.vllm_version
        )
        on_cpu = vllm_runs_on_cpu(request.runtime)
        argv = [str(request.python), "-m", data["module"]]
        argv += self._model_arguments(request, facts)
        host = "0.0.0.0" if request.remote else "127.0.0.1"  # noqa: S104 (guarded by the key)
        argv += ["--host", host, "--port", str(request.port), *data["arguments"]]
        argv += _task_arguments(enabled.task, request.runtime.vllm_version)
        if request.remote:
            argv += data["remote_arguments"]
        if enabled.max_tokens is not None:
            argv += ["--max-model-len", str(enabled.max_tokens)]
        if enabled.tensor_parallel_size > 1:
            argv += ["--tensor-parallel-size", str(enabled.tensor_parallel_size)]
        if enabled.quantization and facts.has_config:
            argv += ["--quantization", enabled.quantization]
        if enabled.trust_remote_code:
            argv.append("--trust-remote-code")
        if on_cpu:
            # Compiling costs 45 s at every start for 15 % more speed.
            argv.append("--enforce-eager")
        argv += enabled.extra_engine_args
        environment = {
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "VLLM_LOGGING_COLOR": "0",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",
        }
        if on_cpu:
            context = enabled.max_tokens or facts.context_length
            environment["VLLM_CPU_KVCACHE_SPACE"] = str(
                kv_cache_gib(facts.kv_bytes_per_token, context, request.machine.memory_bytes)
            )
        return Launch(
            argv=tuple(argv),
            # The key stands last: with another one it would not answer us.
            environment={
                **environment,
                **enabled.engine_environment,
                "VLLM_API_KEY": request.api_key,
            },
            start_timeout_s=_START_TIMEOUT_S + facts.weights_bytes / _SLOW_READ_BYTES_PER_S,
            grace_s=_GRACE_S,
            engine_version=request.runtime.vllm_version,
        )

    @staticmethod
    def _model_arguments(request: LaunchRequest, facts: ModelFacts) -> list[str]:
        model = request.model_dir
        if not facts.has_config:
            model = model / gguf_file(facts.gguf_files, request.enabled.quantization)
        return ["--model", str(model), "--served-model-name", request.model]

    def log_reader(self) -> LogReader:
        return MarkerLogReader(toml_data("engines/vllm.toml")["marker"])

    async def is_ready(self, session: aiohttp.ClientSession, base_url: str) -> bool:
        return await answers_health(session, base_url)

    def headers(self, api_key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def prepare_chat(
        self, body: Mapping[str, Any], *, model_dir: Path, context_length: int | None
    ) -> PreparedRequest:
        """vLLM checks requests itself; only the stream and its usage chunk are insisted on."""
        options = body.get("stream_options")
        return PreparedRequest(
            path="/v1/chat/completions",
            body={
                **body,
                "stream": True,
                "stream_options": {
                    **(options if isinstance(options, Mapping) else {}),
                    "include_usage": True,
                },
            },
            model=str(body.get("model", "")),
            context_length=context_length,
        )

    def translator(self, prepared: PreparedRequest) -> StreamTranslator:
        return VllmTranslator()

    def error(self, status: int, body: bytes) -> dict[str, Any]:
        return normalise_error(status, body)


class VllmTranslator:
    """Decodes the events and ends at an error, at `[DONE]`, or at the end of the connection."""

    def __init__(self) -> None:
        self._events = EventSplitter()
        self._over = False

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        chunks: list[dict[str, Any]] = []
        try:
            events = self._events.feed(data)
        except EventTooLong as error:
            self._over = True
            return [error_answer(f"The engine's answer cannot be read: {error}.")]
        for event in events:
            if self._over:
                break
            if event == b"[DONE]":
                self._over = True
                break
            chunk = _decode(event)
            self._over = "error" in chunk
            chunks.append(chunk)
        return chunks

    def finish(self) -> list[dict[str, Any]]:
        if self._over:
            return []
        self._over = True
        return [error_answer("The engine broke off before the answer was complete.")]


def _task_arguments(task: Task, version: str | None) -> list[str]:
    """What makes a pooling model of it, where it is to embed, rank or classify."""
    if task in CHAT:
        return []
    data = first_applying(toml_data("engines/vllm.toml")["pooling"], version)
    arguments: list[str] = data["embed" if task is Task.FEATURE_EXTRACTION else "classify"]
    return arguments


def _decode(event: bytes) -> dict[str, Any]:
    try:
        chunk = msgspec.json.decode(event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return error_answer(f"The engine sent what is not JSON: {event[:200]!r}")
    if not isinstance(chunk, dict):
        return error_answer(f"The engine sent an unknown kind of chunk: {event[:200]!r}")
    if "error" in chunk:
        return from_payload(chunk) or error_answer("The engine reported an error without a reason.")
    return chunk


def kv_cache_gib(bytes_per_token: int | None, context_length: int | None, memory_bytes: int) -> int:
    """Whole GiB for vLLM's KV cache in main memory (it accepts no fractions).

    Room for a few requests of full length, within a quarter of the memory; for one such request
    within half of it; at least 1.
    """
    if not bytes_per_token or not context_length:
        return 1
    one = bytes_per_token * context_length / _GIB
    memory = memory_bytes / _GIB
    wanted = min(one * _KV_REQUESTS, memory / 4)
    return max(1, math.ceil(wanted), min(math.ceil(one), int(memory / 2)))

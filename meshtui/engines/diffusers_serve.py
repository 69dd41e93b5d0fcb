"""diffusers: pipelines that make pictures, served by `meshtui.serving.images` in the runtime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from meshtui.domain.errors import InvalidInput
from meshtui.domain.task import Engine
from meshtui.engines.answers import normalise_error
from meshtui.engines.arguments import check_extra_arguments
from meshtui.engines.base import Launch, LaunchRequest, LogReader, PreparedRequest, StreamTranslator
from meshtui.engines.log_markers import MarkerLogReader
from meshtui.engines.probe import answers_health
from meshtui.engines.vllm import VllmTranslator
from meshtui.memory.diffusion import working_bytes
from meshtui.settings.shipped import toml_data

_SCRIPT = Path(__file__).parents[1] / "serving" / "run_images.py"
_RESERVED = ("--host", "--port", "--served-model-name")
_START_TIMEOUT_S = 600.0
_SLOW_READ_BYTES_PER_S = 30e6
# It ends with the step that it is in; then uvicorn waits for two seconds at most.
_GRACE_S = 10.0
# The size of pictures that the choice of what stays on the GPU makes room for.
_USUAL_SIDE_PX = 1024


class DiffusersAdapter:
    """`EngineAdapter` of the server of pictures. It answers no prompts."""

    engine = Engine.DIFFUSERS
    speaks_openai = True
    paths: Mapping[str, str] = {"/v1/images/generations": "/v1/images/generations"}

    def launch(self, request: LaunchRequest) -> Launch:
        enabled = request.enabled
        check_extra_arguments(enabled.extra_engine_args, _RESERVED)
        if enabled.tensor_parallel_size > 1:
            raise InvalidInput(
                "A pipeline of diffusers runs on one GPU.",
                hint="Set the model's tensor_parallel_size to 1.",
            )
        argv = [str(request.python), str(_SCRIPT), str(request.model_dir)]
        argv += ["--host", "127.0.0.1", "--port", str(request.port)]
        argv += ["--served-model-name", request.model]
        argv += ["--work-bytes", str(working_bytes(_USUAL_SIDE_PX, _USUAL_SIDE_PX))]
        argv += enabled.extra_engine_args
        environment = {
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",
        }
        return Launch(
            argv=tuple(argv),
            # The key stands last: with another one it would not answer us.
            environment={
                **environment,
                **enabled.engine_environment,
                "MESHTUI_API_KEY": request.api_key,
            },
            start_timeout_s=_START_TIMEOUT_S
            + _weights_bytes(request.model_dir) / _SLOW_READ_BYTES_PER_S,
            grace_s=_GRACE_S,
            engine_version=request.runtime.version("diffusers"),
        )

    def log_reader(self) -> LogReader:
        return MarkerLogReader(toml_data("engines/diffusers.toml")["marker"])

    async def is_ready(self, session: aiohttp.ClientSession, base_url: str) -> bool:
        return await answers_health(session, base_url)

    def headers(self, api_key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def prepare_chat(
        self, body: Mapping[str, Any], *, model_dir: Path, context_length: int | None
    ) -> PreparedRequest:
        raise InvalidInput(
            "This model makes pictures: it answers no prompts.",
            hint="Ask it with `meshtui image`, or at /v1/images/generations.",
        )

    def translator(self, prepared: PreparedRequest) -> StreamTranslator:
        return VllmTranslator()

    def error(self, status: int, body: bytes) -> dict[str, Any]:
        return normalise_error(status, body)


def _weights_bytes(model_dir: Path) -> int:
    """Of all components: each has its folder."""
    return sum(
        file.stat().st_size
        for pattern in ("*/*.safetensors", "*/*.bin")
        for file in model_dir.glob(pattern)
        if file.is_file()
    )

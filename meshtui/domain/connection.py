"""Where models may run, with which stack, and which ones.

What is said of a field stands beside it: forms, commands, the JSON schema and the reference page
all show it.
"""

from typing import Annotated

import msgspec

from meshtui.domain.described import says
from meshtui.domain.generation import GenerationParameters
from meshtui.domain.task import EngineChoice, Task

DEFAULT_IDLE_TIMEOUT_S = 20 * 60.0


class EnabledModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model on a connection with its serving settings.

    `max_tokens` is the context length in tokens (None: the model's own). `idle_timeout_s` 0 means
    never. `engine` overrides the connection's `engine.completion`. `generation` holds default
    generation parameters. `extra_engine_args` are passed to the engine's command line as they are.
    """

    model: Annotated[str, says("The model on the Hub: org/name or org/name@revision.")]
    task: Annotated[Task, says("What the model is for: the Hub's pipeline tag.")] = (
        Task.TEXT_GENERATION
    )
    display_name: Annotated[str | None, says("What the model is called in lists.")] = None
    max_tokens: Annotated[
        int | None, says("The context length in tokens; without it the model's own.")
    ] = None
    quantization: Annotated[
        str | None,
        says("How weights are quantized while they load (fp8, bitsandbytes); "
             "a quantized checkpoint needs none."),
    ] = None  # fmt: skip
    tensor_parallel_size: Annotated[int, says("Over how many GPUs the model is split.")] = 1
    engine: Annotated[
        EngineChoice | None, says("The engine of this model, in place of engine.completion.")
    ] = None
    idle_timeout_s: Annotated[
        float, says("Seconds without a request after which the server stops; 0 means never.")
    ] = DEFAULT_IDLE_TIMEOUT_S
    generation: Annotated[
        GenerationParameters, says("How to generate where a prompt does not say.")
    ] = GenerationParameters()
    extra_engine_args: Annotated[
        tuple[str, ...], says("Further words for the engine's command line, as they are.")
    ] = ()
    engine_environment: Annotated[dict[str, str], says("Environment variables of the engine.")] = {}
    trust_remote_code: Annotated[
        bool, says("Run Python code from the model's repository; only for authors you trust.")
    ] = False


class Connection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named "Local Hugging Face" connection.

    `runtime` None means: chosen by the machine (`gpu` where an NVIDIA GPU is seen, else `cpu`).
    `access_token` is a reference such as `env:HF_TOKEN`, never a token.
    """

    name: Annotated[str, says("The connection's name, which is its file's name, too.")]
    execution: Annotated[
        str, says("Where servers run: local, or the name of an execution config of a cluster.")
    ] = "local"
    runtime: Annotated[
        str | None, says("The engine stack; without it gpu where this machine has one, else cpu.")
    ] = None
    access_token: Annotated[
        str | None,
        says("Where the Hub's access token is, never the token: env:NAME, hf:default, file:PATH "
             "or keyring:SERVICE/USER."),
    ] = None  # fmt: skip
    use_managed_cache: Annotated[
        bool,
        says("Whether models come through this machine's model cache. Better off for a cluster "
             "whose pods reach the Hub well: they fetch faster than this machine can send."),
    ] = True  # fmt: skip
    enabled_models: Annotated[tuple[EnabledModel, ...], says("What may be run here.")] = ()
    properties: Annotated[
        dict[str, str],
        says("Settings by name: engine.completion (AUTO, VLLM or TRANSFORMERS), hub.endpoint, "
             "hub.proxy, hub.ca_bundle, model.delivery, model.path, model.image; others are kept."),
    ] = {}  # fmt: skip

    @property
    def engine_completion(self) -> EngineChoice:
        """`engine.completion`; unknown values count as AUTO and are reported by settings."""
        value = self.properties.get("engine.completion", "AUTO").upper()
        return EngineChoice(value) if value in EngineChoice.__members__ else EngineChoice.AUTO


class BrokenObject(msgspec.Struct, frozen=True, kw_only=True):
    """A file that should have held a connection, runtime or the like, and does not parse."""

    path: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}, line {self.line}"
        return f"{where}: {self.reason}."

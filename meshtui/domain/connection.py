"""Where models may run, with which stack, and which ones."""

import msgspec

from meshtui.domain.generation import GenerationParameters
from meshtui.domain.task import EngineChoice, Task

DEFAULT_IDLE_TIMEOUT_S = 20 * 60.0


class EnabledModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model on a connection with its serving settings.

    `max_tokens` is the context length in tokens (None: the model's own). `idle_timeout_s` 0 means
    never. `engine` overrides the connection's `engine.completion`. `generation` holds default
    generation parameters. `extra_engine_args` are passed to the engine's command line as they are.
    """

    model: str
    task: Task = Task.TEXT_GENERATION
    display_name: str | None = None
    max_tokens: int | None = None
    quantization: str | None = None
    tensor_parallel_size: int = 1
    engine: EngineChoice | None = None
    idle_timeout_s: float = DEFAULT_IDLE_TIMEOUT_S
    generation: GenerationParameters = GenerationParameters()
    extra_engine_args: tuple[str, ...] = ()
    engine_environment: dict[str, str] = {}
    trust_remote_code: bool = False


class Connection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named "Local Hugging Face" connection.

    `runtime` None means: chosen by the machine (`gpu` where an NVIDIA GPU is seen, else `cpu`).
    `access_token` is a reference such as `env:HF_TOKEN`, never a token.
    """

    name: str
    execution: str = "local"
    runtime: str | None = None
    access_token: str | None = None
    use_managed_cache: bool = True
    enabled_models: tuple[EnabledModel, ...] = ()
    properties: dict[str, str] = {}

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

"""Where and how the model would run: what rules judge it against."""

import msgspec

from meshtui.compat.tables import TransformersTable, VllmTable, transformers_table, vllm_table
from meshtui.domain.memory import GpuSpec
from meshtui.domain.task import EngineChoice, Task


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime, its GPUs and the serving settings.

    Versions are None where the runtime lacks the package. `packages` are all that it has.
    `on_cpu`: vLLM is the one for processors. `gpus_seen` is None where the GPUs are imagined, not
    counted. `driver_cuda` is the newest CUDA version that the driver takes, `runtime_cuda` the
    one that the runtime was built with; None where unknown.
    """

    runtime: str = ""
    vllm_version: str | None = None
    transformers_version: str | None = None
    packages: frozenset[str] = frozenset()
    on_cpu: bool = False
    engine: EngineChoice = EngineChoice.AUTO
    task: Task | None = None
    gpu: GpuSpec | None = None
    gpus_seen: int | None = None
    tensor_parallel_size: int = 1
    max_tokens: int | None = None
    quantization: str | None = None
    trust_remote_code: bool = False
    driver_cuda: str | None = None
    runtime_cuda: str | None = None

    @property
    def has_vllm(self) -> bool:
        """Where nothing is known of the runtime, it is taken for one that has."""
        return self.vllm_version is not None or not self.runtime

    @property
    def vllm(self) -> VllmTable:
        return vllm_table(self.vllm_version)

    @property
    def transformers(self) -> TransformersTable:
        return transformers_table(self.transformers_version)

    @property
    def capability(self) -> int | None:
        """Ten times the compute capability; None without a GPU."""
        return None if self.gpu is None or self.on_cpu else self.gpu.capability


def capability_text(capability: int) -> str:
    """`8.9` for 89."""
    return f"{capability // 10}.{capability % 10}"

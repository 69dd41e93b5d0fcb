"""How a model would be served: what a person sets, and what vLLM chooses for the rest."""

from typing import Any

import msgspec

from meshtui.compat.configuration import Configuration
from meshtui.domain.memory import GIB, GpuSpec
from meshtui.settings.shipped import applies, first_applying, toml_data

_TABLE = "memory/vllm_settings.toml"
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "uint8": 1, "int8": 1, "fp8": 1}


class ServingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that decide how much memory a server takes; None leaves the choice to vLLM.

    `gpu` is the GPU of every rank (None: an H100, for defaults that depend on it).
    `vllm_version` None means the newest known. `quantization` is one that is asked for in addition
    to what the checkpoint has. `pooling` says that the model embeds, ranks or classifies.
    """

    gpu: GpuSpec | None = None
    vllm_version: str | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    max_model_len: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    gpu_memory_utilization: float | None = None
    dtype: str = "auto"
    kv_cache_dtype: str = "auto"
    quantization: str | None = None
    block_size: int | None = None
    async_scheduling: bool | None = None
    prefix_caching: bool | None = None
    hybrid_kv_cache: bool = True
    enforce_eager: bool = False
    expert_parallel: bool = False
    language_model_only: bool = False
    pooling: bool | None = None

    def applies(self, entry: dict[str, Any]) -> bool:
        """Whether an entry with `since` and `before` holds for this version of vLLM."""
        return applies(entry, self.vllm_version)

    @property
    def capability(self) -> int:
        """Ten times the compute capability of the GPU."""
        return self.gpu.capability if self.gpu is not None else 90

    def memory_utilization(self) -> float:
        """The share of the GPU's memory that the server may take."""
        if self.gpu_memory_utilization is not None:
            return self.gpu_memory_utilization
        return float(self._of_version("memory_utilization")["fraction"])

    def batched_tokens(self, max_model_len: int) -> int:
        """`max_num_batched_tokens`: tokens of one step. A default is at most what all sequences
        can hold."""
        if self.max_num_batched_tokens is not None:
            return self.max_num_batched_tokens
        tier = self._batch_tier()
        sequences = self.max_num_seqs or int(tier["max_num_seqs"])
        return min(int(tier["max_num_batched_tokens"]), sequences * max_model_len)

    def sequences(self, max_model_len: int) -> int:
        """`max_num_seqs`: sequences of one step. A default is at most the tokens of a step."""
        if self.max_num_seqs is not None:
            return self.max_num_seqs
        return min(int(self._batch_tier()["max_num_seqs"]), self.batched_tokens(max_model_len))

    def concurrent_batches(self) -> int:
        """Steps under way at a time (vllm/config/vllm.py, `max_concurrent_batches`)."""
        if self.pipeline_parallel_size > 1:
            return self.pipeline_parallel_size
        scheduled = self.async_scheduling
        if scheduled is None:
            scheduled = bool(self._of_version("async_scheduling")["enabled"])
        return 2 if scheduled else 1

    def weights_dtype(self, configuration: Configuration, *, pooling: bool = False) -> str:
        """`bfloat16`, `float16` or `float32`: the type of weights that are not quantized and of
        activations (vllm/config/model.py, `_resolve_auto_dtype`). bfloat16 needs compute
        capability 8.0."""
        if self.dtype != "auto":
            return {"half": "float16", "float": "float32"}.get(self.dtype, self.dtype)
        has_bfloat16 = self.capability >= 80
        preferred = "bfloat16" if has_bfloat16 and not pooling else "float16"
        named = configuration.dtype or "float32"
        if named == "float32" or (named == "bfloat16" and not has_bfloat16):
            return preferred
        return named

    def _of_version(self, table: str) -> Any:
        return first_applying(toml_data(_TABLE)[table], self.vllm_version)

    def _batch_tier(self) -> Any:
        memory_gib = self.gpu.memory_bytes / GIB if self.gpu is not None else 79.0
        name = self.gpu.label.lower() if self.gpu is not None else ""
        return next(
            tier
            for tier in toml_data(_TABLE)["batch"]
            if memory_gib >= tier["min_memory_gib"]
            and not ("except_name" in tier and tier["except_name"] in name)
            and self.applies(tier)
        )


def dtype_bytes(dtype: str) -> int:
    """The size of one element."""
    return _BYTES[dtype]

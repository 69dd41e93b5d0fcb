"""The verdict on a model before it is deployed: what was seen, on which engine, in how much memory.

`CheckReport` is printed as JSON by `meshtui check --json`; its keys are an interface.
"""

from enum import StrEnum

import msgspec

from meshtui.domain.finding import Finding
from meshtui.domain.memory import MemoryItem
from meshtui.domain.task import Engine, EngineChoice, Task


class Verdict(StrEnum):
    """Whether a model runs: as it is, with reservations, not, or nobody can say."""

    RUNS = "runs"
    WARNINGS = "warnings"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"


class CheckWishes(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is checked for. None: what the connection or the model says, or the best that
    fits. `gpu` is a name of the catalogue, `gpus` how many of it; `max_tokens` is the context
    length; `vllm_version` stands in for a runtime's. `exact`: the runtime's own vLLM is asked for
    weights and KV cache, which takes ten seconds and more."""

    connection: str | None = None
    runtime: str | None = None
    vllm_version: str | None = None
    transformers_version: str | None = None
    engine: EngineChoice | None = None
    task: Task | None = None
    gpu: str | None = None
    gpus: int | None = None
    tensor_parallel_size: int | None = None
    max_tokens: int | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    trust_remote_code: bool = False
    exact: bool = False


class MemoryReport(msgspec.Struct, frozen=True, kw_only=True):
    """GPU memory of one rank, the fullest. `kv_cache_bytes_per_request` is that of one request of
    `max_tokens` tokens. `total_bytes_per_gpu` is weights, overheads and one such request.
    `measured`: figures that servers logged here, not estimates. `simulated`: the GPU is one of the
    catalogue, not one that was seen."""

    weights_bytes: int
    kv_cache_bytes_per_token: int
    kv_cache_bytes_per_request: int
    max_tokens: int
    overhead_bytes: int
    total_bytes_per_gpu: int
    gpu: str | None = None
    gpu_count: int = 1
    gpu_bytes: int | None = None
    usable_bytes: int | None = None
    fits: bool | None = None
    max_tokens_that_fit: int | None = None
    concurrency: float | None = None
    parts: tuple[MemoryItem, ...] = ()
    measured: bool = False
    simulated: bool = True
    notes: tuple[str, ...] = ()


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """Serving settings with which the model runs, as they go into a connection."""

    max_tokens: int | None = None
    tensor_parallel_size: int = 1
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    trust_remote_code: bool = False
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of a model before it runs.

    `source` says what it was read from: `hub`, `cache`, `folder`, `configuration`. `alternatives`
    are GPU sets that would do, in words (`L40S × 1`), the smallest first.
    """

    model: str
    verdict: Verdict
    engine: Engine | None = None
    findings: tuple[Finding, ...] = ()
    memory: MemoryReport | None = None
    task: Task | None = None
    source: str = ""
    commit: str | None = None
    licence: str | None = None
    summary: str = ""
    architectures: tuple[str, ...] = ()
    context_length: int | None = None
    runtime: str | None = None
    vllm_version: str | None = None
    proposal: Proposal | None = None
    changes: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()

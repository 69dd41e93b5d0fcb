"""What a connection's extra engine arguments say of memory."""

from collections.abc import Callable, Sequence
from typing import Any

# vLLM's options that decide how much memory a server takes, and the fields that they set.
_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "--gpu-memory-utilization": ("gpu_memory_utilization", float),
    "--max-num-seqs": ("max_num_seqs", int),
    "--max-num-batched-tokens": ("max_num_batched_tokens", int),
    "--kv-cache-dtype": ("kv_cache_dtype", str),
    "--max-model-len": ("max_tokens", int),
}


def memory_options(arguments: Sequence[str]) -> dict[str, Any]:
    """The fields that `--option value` and `--option=value` set; what makes no sense is left to
    the engine to refuse."""
    found: dict[str, Any] = {}
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name not in _OPTIONS:
            continue
        if not equals:
            value = arguments[index + 1] if index + 1 < len(arguments) else ""
        field, read = _OPTIONS[name]
        try:
            found[field] = read(value)
        except ValueError:
            continue
    share = found.get("gpu_memory_utilization", 1.0)
    if not 0 < share <= 1:
        del found["gpu_memory_utilization"]
    return {field: value for field, value in found.items() if value}

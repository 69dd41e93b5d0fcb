"""How a model's weights are quantized, as its files say."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

# ModelOpt names an algorithm where others name a method (vllm 0.32,
# model_arch_config_convertor.py, `_normalize_quantization_config`, and modelopt.py).
_MODELOPT = {
    "FP8": "modelopt",
    "FP8_PER_CHANNEL_PER_TOKEN": "modelopt",
    "FP8_PB_WO": "modelopt",
    "NVFP4": "modelopt_fp4",
    "MXFP8": "modelopt_mxfp8",
    "MIXED_PRECISION": "modelopt_mixed",
}


class Quantization(msgspec.Struct, frozen=True, kw_only=True):
    """The quantization of a checkpoint.

    `method` is the engine's name (`awq`, `gptq`, `fp8`, `compressed-tensors`, `modelopt_fp4`,
    `mxfp4`, `bitsandbytes` ...). `bits` and `group_size` are those of most weights, where stated.
    `block` is the block of FP8 scales. `ignored` are names or patterns of modules that stay as
    they are. `kv_cache` is the algorithm that the checkpoint wants for the KV cache. `raw` is the
    whole section.
    """

    method: str
    bits: int | None = None
    group_size: int | None = None
    block: tuple[int, ...] = ()
    ignored: tuple[str, ...] = ()
    kv_cache: str | None = None
    raw: Mapping[str, Any] = {}


def read_quantization(section: Any) -> Quantization | None:
    """Reads a `quantization_config`, `compression_config` or the content of
    `hf_quant_config.json`; None where it names no method that could be recognised."""
    if not isinstance(section, Mapping):
        return None
    inner = section.get("quantization")
    nested = inner if isinstance(inner, Mapping) else {}
    method = _method(section, nested)
    if method is None:
        return None
    weights = _compressed_weights(section)
    bits = _number(section, "bits", "w_bit", "num_bits") or _number(weights, "num_bits")
    if bits is None:
        bits = _bits_of(method, section)
    return Quantization(
        method=method,
        bits=bits,
        group_size=_number(section, "group_size", "q_group_size")
        or _number(nested, "group_size")
        or _number(weights, "group_size"),
        block=tuple(_numbers(section.get("weight_block_size"))),
        ignored=tuple(_ignored(section, nested)),
        kv_cache=_kv_cache(section, nested),
        raw=section,
    )


def _method(section: Mapping[str, Any], nested: Mapping[str, Any]) -> str | None:
    producer = section.get("producer")
    made_by = producer.get("name") if isinstance(producer, Mapping) else None
    method = section.get("quant_method")
    # ModelOpt's own format counts without a method only where ModelOpt signs it.
    signed = made_by == "modelopt" or "modelopt_quant_config" in nested
    named = method == "modelopt"
    algorithm = (nested.get("quant_algo") if signed or named else None) or (
        section.get("quant_algo") if named else None
    )
    if isinstance(algorithm, str):
        return _MODELOPT.get(algorithm.upper(), "modelopt")
    if isinstance(method, str) and method:
        return method.lower().replace("compressed_tensors", "compressed-tensors")
    if section.get("load_in_4bit") is True or section.get("load_in_8bit") is True:
        return "bitsandbytes"
    return None


def _bits_of(method: str, section: Mapping[str, Any]) -> int | None:
    if method == "bitsandbytes":
        return 4 if section.get("load_in_4bit") or section.get("_load_in_4bit") else 8
    if "fp4" in method:
        return 4
    return 8 if "fp8" in method or method == "modelopt" else None


def _compressed_weights(section: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights of the first group of compressed-tensors."""
    groups = section.get("config_groups")
    if isinstance(groups, Mapping):
        for group in groups.values():
            weights = group.get("weights") if isinstance(group, Mapping) else None
            if isinstance(weights, Mapping):
                return weights
    return {}


def _ignored(section: Mapping[str, Any], nested: Mapping[str, Any]) -> list[str]:
    keys = (
        "ignore",
        "modules_to_not_convert",
        "exclude_modules",
        "ignored_layers",
        "llm_int8_skip_modules",
    )
    for source in (section, nested):
        for key in keys:
            names = source.get(key)
            if isinstance(names, list | tuple):
                return [name for name in names if isinstance(name, str)]
    return []


def _kv_cache(section: Mapping[str, Any], nested: Mapping[str, Any]) -> str | None:
    """`fp8` and the like. compressed-tensors and ModelOpt describe it by type and bits."""
    for source in (nested, section):
        algorithm = source.get("kv_cache_quant_algo")
        if isinstance(algorithm, str) and algorithm:
            return algorithm.lower()
    scheme = section.get("kv_cache_scheme") or nested.get("kv_cache_scheme")
    if isinstance(scheme, Mapping) and scheme.get("num_bits") == 8:
        return "fp8" if scheme.get("type", "float") == "float" else "int8"
    if isinstance(scheme, Mapping) and scheme.get("num_bits") == 4:
        return "nvfp4"
    return None


def _number(source: Mapping[str, Any], *keys: str) -> int | None:
    for key in keys:
        value = source.get(key)
        if isinstance(value, str) and re.fullmatch(r"\d{1,4}", value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 20:
            return value
    return None


def _numbers(value: Any) -> list[int]:
    if not isinstance(value, list | tuple) or len(value) > 4:
        return []
    numbers = [n for n in value if isinstance(n, int) and not isinstance(n, bool) and n > 0]
    return numbers if len(numbers) == len(value) else []

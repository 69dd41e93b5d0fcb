"""What a model folder says of itself, read from small JSON files only."""

import json
from pathlib import Path
from typing import Any

import msgspec

from meshtui.domain.errors import InvalidInput
from meshtui.domain.text import one_line

# Configurations are a few kB; quantization maps of large ones reach some hundred kB.
_MAX_JSON_BYTES = 16 * 1024 * 1024
_WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that decide how a model can be served.

    `pipeline` is the class of a diffusers pipeline. `context_length` is the longest sequence that
    the configuration names, in tokens. `kv_bytes_per_token` is the size of keys and values at two
    bytes an element, None where the configuration lacks the numbers.
    """

    has_config: bool = False
    architectures: tuple[str, ...] = ()
    model_type: str | None = None
    quantization: str | None = None
    custom_code: bool = False
    has_vision: bool = False
    pipeline: str | None = None
    gguf_files: tuple[str, ...] = ()
    weights_bytes: int = 0
    context_length: int | None = None
    kv_bytes_per_token: int | None = None
    generation: dict[str, Any] = {}
    special_tokens: dict[str, Any] = {}
    parses_tools: bool = False


def read_facts(model_dir: Path) -> ModelFacts:
    """Reads the folder; raises `InvalidInput` where it is no folder or a file is not JSON.

    Blocks on a few small files: call it in a thread.
    """
    if not model_dir.is_dir():
        raise InvalidInput(
            f"There is no model folder {one_line(str(model_dir))}.",
            hint="Download the model again, or check the cache folder.",
        )
    config = _json(model_dir / "config.json")
    index = _json(model_dir / "model_index.json")
    tokenizer = _json(model_dir / "tokenizer_config.json")
    sizes = _file_sizes(model_dir)
    inner = config.get("text_config")
    text: dict[str, Any] = inner if isinstance(inner, dict) else config
    architectures, model_type = config.get("architectures"), config.get("model_type")
    return ModelFacts(
        has_config=bool(config),
        architectures=tuple(a for a in architectures if isinstance(a, str))
        if isinstance(architectures, list)
        else (),
        model_type=model_type if isinstance(model_type, str) else None,
        quantization=_quantization(config),
        custom_code=bool(config.get("auto_map")),
        has_vision="vision_config" in config,
        pipeline=str(index.get("_class_name", "a pipeline")) if index else None,
        gguf_files=tuple(name for name in sizes if name.endswith(".gguf")),
        weights_bytes=sum(size for name, size in sizes.items() if name.endswith(_WEIGHTS)),
        context_length=_context_length(text),
        kv_bytes_per_token=_kv_bytes_per_token(text),
        generation=_json(model_dir / "generation_config.json"),
        special_tokens={
            key: text.get(key, config.get(key))
            for key in ("bos_token_id", "eos_token_id", "pad_token_id")
        },
        parses_tools="response_template" in tokenizer,
    )


def _file_sizes(model_dir: Path) -> dict[str, int]:
    """Names and sizes of the folder's files, by name."""
    try:
        files = sorted(entry for entry in model_dir.iterdir() if entry.is_file())
        return {entry.name: entry.stat().st_size for entry in files}
    except OSError as error:
        raise InvalidInput(
            f"The model folder cannot be read: {error.strerror}.",
            hint="Check the owner and the permissions of the cache folder.",
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(_MAX_JSON_BYTES))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{path.name} of the model is not valid JSON: {one_line(str(error))}.",
            hint="The download may be incomplete: delete the model and download it again.",
        ) from error
    except OSError as error:
        raise InvalidInput(f"{path.name} of the model cannot be read: {error.strerror}.") from error
    return data if isinstance(data, dict) else {}


def _quantization(config: dict[str, Any]) -> str | None:
    for key in ("quantization_config", "compression_config"):
        section = config.get(key)
        if isinstance(section, dict) and section.get("quant_method"):
            return str(section["quant_method"]).lower()
    return None


def _context_length(text: dict[str, Any]) -> int | None:
    """As vLLM derives it, without rope scaling (which the engine adds): the smallest of the keys
    that configurations use (vllm/config/model.py, `_get_and_verify_max_len`)."""
    keys = (
        "max_position_embeddings",
        "n_positions",
        "max_seq_len",
        "seq_length",
        "model_max_length",
        "max_target_positions",
        "max_sequence_length",
    )
    found = [text[key] for key in keys if isinstance(text.get(key), int) and text[key] > 0]
    return min(found) if found else None


def _kv_bytes_per_token(text: dict[str, Any]) -> int | None:
    layers = text.get("num_hidden_layers") or text.get("n_layer")
    heads = text.get("num_attention_heads") or text.get("n_head")
    kv_heads = text.get("num_key_value_heads") or heads
    hidden = text.get("hidden_size") or text.get("n_embd")
    head_dim = text.get("head_dim") or (
        hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads else None
    )
    if not all(isinstance(n, int) and n > 0 for n in (layers, kv_heads, head_dim)):
        return None
    return int(2 * layers * kv_heads * head_dim * 2)  # type: ignore[operator]

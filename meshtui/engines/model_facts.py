"""What a model folder says of itself, read from small JSON files only."""

import json
from pathlib import Path
from typing import Any

import msgspec

from meshtui.domain.errors import InvalidInput
from meshtui.domain.text import one_line

# Configurations are a few kB; quantization maps of large ones reach some hundred kB.
_MAX_JSON_BYTES = 16 * 1024 * 1024


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
    has_safetensors: bool = False
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
    names = sorted(entry.name for entry in model_dir.iterdir() if entry.is_file())
    weights = [n for n in names if n.endswith((".safetensors", ".bin", ".pt", ".gguf"))]
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    assert isinstance(text, dict)
    return ModelFacts(
        has_config=bool(config),
        architectures=tuple(str(a) for a in config.get("architectures") or ()),
        model_type=config.get("model_type"),
        quantization=_quantization(config),
        custom_code=bool(config.get("auto_map")),
        has_vision="vision_config" in config,
        pipeline=str(index.get("_class_name", "a pipeline")) if index else None,
        gguf_files=tuple(n for n in names if n.endswith(".gguf")),
        has_safetensors=any(n.endswith(".safetensors") for n in names),
        weights_bytes=sum((model_dir / n).stat().st_size for n in weights),
        context_length=_context_length(text),
        kv_bytes_per_token=_kv_bytes_per_token(text),
        generation=_json(model_dir / "generation_config.json"),
        special_tokens={
            key: text.get(key, config.get(key))
            for key in ("bos_token_id", "eos_token_id", "pad_token_id")
        },
        parses_tools="response_template" in tokenizer,
    )


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

"""Small models on disk: real formats, little content."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meshtui.cache.metadata import new_metadata
from meshtui.cache.store import Entry, ModelStore
from meshtui.domain.model_ref import ModelRef

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama",
          "max_position_embeddings": 2048}  # fmt: skip


def safetensors(
    tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]] | None = None,
    **metadata: str,
) -> bytes:
    """A file of that format; without tensors one of four bfloat16 numbers."""
    tensors = tensors or {"w": ("BF16", (2, 2), b"\x00\x01\x02\x03\x04\x05\x06\x07")}
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(t[2] for t in tensors.values())


def files(**more: bytes) -> dict[str, bytes]:
    """A complete model; `more` is added (`__` stands for a dot)."""
    found = {
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors": safetensors(),
        "tokenizer.json": b"{}",
    }
    return found | {name.replace("__", "."): data for name, data in more.items()}


def write(folder: Path, content: Mapping[str, bytes]) -> Path:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def put(
    store: ModelStore,
    model: str,
    content: Mapping[str, bytes] | None = None,
    *,
    checksums: dict[str, str] | None = None,
    **metadata: Any,
) -> Entry:
    """Commits an entry the way everything else does."""
    ref = ModelRef.parse(model)
    stage = store.stage(ref)
    try:
        write(stage.model_dir, files() if content is None else content)
        return stage.commit(new_metadata(ref, **metadata), checksums)
    finally:
        store.abandon(stage)

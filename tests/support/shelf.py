"""Entries of a model cache, made by the real store."""

import hashlib
import json
import struct
from collections.abc import Mapping

from meshtui.cache.metadata import new_metadata
from meshtui.cache.store import Entry, ModelStore
from meshtui.domain.model_ref import ModelRef
from meshtui.settings import paths


def safetensors(values: int = 1000) -> bytes:
    """A small valid file of weights: one tensor of `values` BF16 numbers."""
    tensor = {"dtype": "BF16", "shape": [values], "data_offsets": [0, 2 * values]}
    header = json.dumps({"weight": tensor}).encode()
    numbers = (bytes(range(256)) * (2 * values // 256 + 1))[: 2 * values]
    return struct.pack("<Q", len(header)) + header + numbers


def model_files(values: int = 1024) -> dict[str, bytes]:
    """The least that is a model of text."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    return {"config.json": json.dumps(config).encode(), "model.safetensors": safetensors(values)}


def put_entry(
    model: str, files: Mapping[str, bytes] | None = None, store: ModelStore | None = None
) -> Entry:
    """A complete entry with checksums, in this test's own cache unless another is given."""
    store = store or ModelStore(paths.models_dir())
    ref = ModelRef.parse(model)
    stage = store.stage(ref)
    contents = model_files() if files is None else files
    for name, data in contents.items():
        path = stage.model_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    try:
        return stage.commit(new_metadata(ref), checksums)
    finally:
        store.abandon(stage)

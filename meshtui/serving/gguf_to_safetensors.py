"""Turns a GGUF file into a folder that engines load: safetensors, configuration, tokenizer.

A script for a runtime's own Python, started by its path; it imports nothing of meshtui:
`python -I gguf_to_safetensors.py FILE.gguf FOLDER`. It prints one JSON object a line:
`{"progress": 0..1, "message": "..."}`, at the end `{"done": true}`.
"""

import json
import sys
from pathlib import Path
from typing import Any


def tell(progress: float, message: str) -> None:
    print(json.dumps({"progress": progress, "message": message}), flush=True)


def convert(source: Path, target: Path) -> None:
    """Weights that were quantised are dequantised to bfloat16; their loss of precision stays."""
    tell(0.0, "Loading transformers")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

    tell(0.3, "Reading the tokenizer")
    place: dict[str, Any] = {"pretrained_model_name_or_path": source.parent}
    tokenizer = AutoTokenizer.from_pretrained(**place, gguf_file=source.name)
    tell(0.5, "Reading the weights")
    model = AutoModelForCausalLM.from_pretrained(
        **place,
        gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    tell(0.8, "Writing safetensors")
    # Engines stop at what the generation configuration says; a GGUF tells it of the tokenizer.
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    # What tells of this machine or of a training run, not of the model.
    without(target / "config.json", "_model_name_or_path")
    without(target / "tokenizer_config.json", "is_local", "local_files_only")


def without(path: Path, *keys: str) -> None:
    """Takes keys out of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in content.items() if key not in keys}
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    convert(source, target)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    print(json.dumps({"done": True}), flush=True)


if __name__ == "__main__":
    main()

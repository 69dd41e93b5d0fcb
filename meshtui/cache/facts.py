"""What the files of an entry tell: the weights, and what could run code.

Two depths: the names of files, which every listing reads, and a bounded look into some of them,
which is remembered (see `meshtui.cache.index`).
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from meshtui.cache.card import Card, read_card
from meshtui.domain.errors import InvalidInput
from meshtui.domain.model_cache import Weights, WeightsFormat
from meshtui.domain.text import one_line
from meshtui.hub.safetensors_header import header_of

# Configurations are a few kB; quantization maps of large models reach some megabytes.
_MOST_JSON_BYTES = 16_000_000
# Loading one of these unpickles it (torch.load, joblib, numpy's object arrays).
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill")
_NOT_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.bin",
                "scheduler.pt", "rng_state.pth")  # fmt: skip
_FORMATS = (
    (WeightsFormat.SAFETENSORS, (".safetensors",)),
    (WeightsFormat.PICKLE, (".bin", ".pt", ".pth", ".ckpt")),
    (WeightsFormat.GGUF, (".gguf",)),
    (WeightsFormat.ONNX, (".onnx",)),
)
# Where a repository of sentence-transformers, a diffusion pipeline or a class says what it is for.
_TASK_OF_FILE = {"model_index.json": "text-to-image", "modules.json": "feature-extraction"}
_TASK_OF_CLASS = (
    ("ForCausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("ForSequenceClassification", "text-classification"),
)
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


class EntryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is read from the files below a `model` folder."""

    weights: Weights = Weights()
    unsafe: tuple[str, ...] = ()
    task: str | None = None
    library: str | None = None
    architectures: tuple[str, ...] = ()
    context_length: int | None = None
    custom_code: bool = False
    card: Card = Card()

    @property
    def licence(self) -> str | None:
        return self.card.licence

    @property
    def tags(self) -> tuple[str, ...]:
        """As the Hub makes them from the card and the files."""
        tags = list(self.card.tags)
        tags += [word for word in self.card.languages if word not in tags]
        if self.card.licence:
            tags.append(f"license:{self.card.licence}")
        if self.weights.format is WeightsFormat.SAFETENSORS and "safetensors" not in tags:
            tags.append("safetensors")
        return tuple(tags)


def weights_by_name(paths: Iterable[str]) -> Weights:
    """Format and number of weight files; the format that engines prefer counts."""
    names = [path for path in paths if path.rpartition("/")[2] not in _NOT_WEIGHTS]
    for kind, suffixes in _FORMATS:
        if found := [name for name in names if name.endswith(suffixes)]:
            return Weights(format=kind, shards=len(found))
    return Weights()


def unsafe_files(paths: Iterable[str]) -> tuple[str, ...]:
    """Files that can run code when the model is loaded. Pickles count only where there are no
    safetensors, which every engine takes first."""
    paths = sorted(paths)
    has_safetensors = any(path.endswith(".safetensors") for path in paths)
    return tuple(
        path
        for path in paths
        if path.endswith(".py") or (path.endswith(PICKLES) and not has_safetensors)
    )


def files_below(folder: Path) -> dict[str, int]:
    """Sizes of the regular files below a folder by their paths (with `/`), hidden ones too, but
    for `.git` and the download caches of other tools. Raises `OSError`."""
    found: dict[str, int] = {}
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                path = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    if prefix or entry.name not in (".git", ".cache"):
                        pending.append(f"{path}/")
                elif entry.is_file(follow_symlinks=False):
                    found[path] = entry.stat(follow_symlinks=False).st_size
    return dict(sorted(found.items()))


def read_entry_facts(model_dir: Path, files: Mapping[str, int] | None = None) -> EntryFacts:
    """Looks into the files below `model_dir`: names, the JSON of the configuration, the header of
    the largest weight file, the model card. What cannot be read counts as absent. Raises
    `OSError` where the folder cannot be listed."""
    files = files_below(model_dir) if files is None else files
    config = json_file(model_dir / "config.json")
    card = read_card(model_dir / "README.md")
    architectures = config.get("architectures")
    names = tuple(
        one_line(a, 100)
        for a in (architectures if isinstance(architectures, list) else ())
        if isinstance(a, str)
    )
    return EntryFacts(
        weights=_weights(model_dir, files, config),
        unsafe=tuple(one_line(path) for path in unsafe_files(files)),
        task=card.pipeline or _task(files, names),
        library=card.library or _library(files, config),
        architectures=names,
        context_length=_context_length(config),
        custom_code=bool(config.get("auto_map")),
        card=card,
    )


def json_file(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(_MOST_JSON_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def quantization_method(config: Mapping[str, Any]) -> str | None:
    """The method that a configuration names, as its own tools call it."""
    for key in ("quantization_config", "compression_config"):
        section = config.get(key)
        if isinstance(section, dict):
            method = section.get("quant_method")
            return one_line(method, 40).lower() if isinstance(method, str) else None
    return None


def _weights(model_dir: Path, files: Mapping[str, int], config: Mapping[str, Any]) -> Weights:
    by_name = weights_by_name(files)
    suffixes = dict(_FORMATS).get(by_name.format, ())
    sizes = {path: size for path, size in files.items() if suffixes and path.endswith(suffixes)}
    dtype = None
    if by_name.format is WeightsFormat.SAFETENSORS:
        largest = max(sizes, key=lambda path: sizes[path])
        try:
            dtype = header_of(model_dir / largest).main_dtype
        except (OSError, InvalidInput):
            # Verify says what is wrong with it; a list only shows what is known.
            dtype = None
    return msgspec.structs.replace(
        by_name,
        dtype=dtype,
        size_bytes=sum(sizes.values()),
        quantization=quantization_method(config),
    )


def _task(files: Mapping[str, int], architectures: tuple[str, ...]) -> str | None:
    for name, task in _TASK_OF_FILE.items():
        if name in files:
            return task
    for architecture in architectures:
        for suffix, task in _TASK_OF_CLASS:
            if architecture.endswith(suffix):
                return task
    return None


def _library(files: Mapping[str, int], config: Mapping[str, Any]) -> str | None:
    if "model_index.json" in files:
        return "diffusers"
    if "modules.json" in files:
        return "sentence-transformers"
    return "transformers" if config else None


def _context_length(config: Mapping[str, Any]) -> int | None:
    inner = config.get("text_config")
    for section in (inner, config):
        if isinstance(section, dict):
            found = [section[key] for key in _CONTEXT if type(section.get(key)) is int]
            if found and min(found) > 0:
                return int(min(found))
    return None

"""A model that was looked into, with what was computed of it: kept for the next question."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import msgspec

from meshtui.compat.subject import Subject
from meshtui.domain.errors import InvalidInput
from meshtui.hub.safetensors_header import SafetensorsHeader
from meshtui.hub.selection import select_files
from meshtui.memory.settings import ServingSettings
from meshtui.memory.weights import Weights, estimate_weights
from meshtui.memory.weights_checkpoint import Checkpoint

_MOST_KEPT = 64


class Known:
    """A subject and its estimates. Threads may share one: what two compute at once is the same."""

    def __init__(self, subject: Subject) -> None:
        self.checkpoint = _checkpoint(subject)
        self.components = _components(subject) if subject.is_pipeline else {}
        # A hundred thousand tensors are told by a few dozen kinds.
        self.subject = msgspec.structs.replace(subject, headers={})
        self._weights: dict[Any, Weights] = {}
        self._alternatives: dict[Any, tuple[str, ...]] = {}

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory: text that was parsed is several times its size."""
        return 10_000 + 5 * sum(len(text) for text in self.subject.texts.values())

    def weights(self, settings: ServingSettings) -> Weights:
        """Raises `InvalidInput` as `estimate_weights`. They depend on the ranks and on what the
        GPU can compute, not on lengths and batches."""
        configuration = self.subject.configuration
        quantized = configuration.quantization is not None or settings.quantization is not None
        key = (
            settings.tensor_parallel_size,
            settings.weights_dtype(configuration),
            # Which kernels there are decides how quantized weights are repacked.
            settings.capability // 10 if quantized else 0,
            settings.vllm_version,
            settings.quantization,
            settings.pooling,
        )
        if key not in self._weights:
            found = estimate_weights(self.subject.configuration, settings, self.checkpoint)
            self._weights = _kept(self._weights, key, found)
        return self._weights[key]

    def alternatives(self, key: Any) -> tuple[str, ...] | None:
        """What was found before under the same settings."""
        return self._alternatives.get(key)

    def keep_alternatives(self, key: Any, found: tuple[str, ...]) -> None:
        self._alternatives = _kept(self._alternatives, key, found)


def _checkpoint(subject: Subject) -> Checkpoint | None:
    """What the headers of the weights say; None where they are not known."""
    chosen = weight_files(subject)
    if not chosen or len(chosen) != len(weight_names(subject)):
        return None
    try:
        return Checkpoint.of_headers(chosen.values())
    except InvalidInput:
        return None


def _components(subject: Subject) -> Mapping[str, Checkpoint]:
    """The components of a pipeline by the names of their folders: one variant of each, and none of
    which a header is not known."""
    chosen = [path for path in select_files(f.path for f in subject.files or ())
              if path.endswith(".safetensors") and path.count("/") == 1]  # fmt: skip
    headers: dict[str, list[SafetensorsHeader]] = {}
    for path in chosen:
        if path not in subject.headers:
            return {}
        headers.setdefault(path.partition("/")[0], []).append(subject.headers[path])
    try:
        return {folder: Checkpoint.of_headers(found) for folder, found in headers.items()}
    except InvalidInput:
        return {}


def weight_names(subject: Subject) -> tuple[str, ...]:
    """The safetensors files that an engine would load: those of the index, else those at the top;
    copies of all of them in one file, or for other programs, are passed over."""
    named = subject.json("model.safetensors.index.json").get("weight_map")
    at_top = [
        path
        for path in subject.paths(".safetensors")
        if "/" not in path and not PurePosixPath(path).name.startswith("consolidated")
    ]
    if isinstance(named, dict):
        of_index = {name for name in named.values() if isinstance(name, str)}
        if listed := tuple(path for path in at_top if path in of_index):
            return listed
    return tuple(at_top)


def weight_files(subject: Subject) -> Mapping[str, SafetensorsHeader]:
    """The headers of `weight_names`, as far as they are known."""
    return {
        name: subject.headers[name] for name in weight_names(subject) if name in subject.headers
    }


def _kept(before: dict[Any, Any], key: Any, value: Any) -> dict[Any, Any]:
    """A new dict with the newest `_MOST_KEPT`."""
    newest = list(before.items())[-_MOST_KEPT:]
    return {**dict(newest), key: value}

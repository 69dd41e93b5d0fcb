"""GPU memory of a diffusion pipeline: its components, and the peak while it makes an image.

    resident          all components + the larger of denoising and decoding
    model offload     the largest component with what it does, one at a time
    sequential        the largest layer, and activations

The components are exact where their headers are known. The peak is an interval: it depends on the
attention kernel, the size of the image and how the decoder tiles, and no log confirms it yet.
Source: diffusers (`enable_model_cpu_offload`, `enable_sequential_cpu_offload`, AutoencoderKL).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from meshtui.domain.errors import InvalidInput
from meshtui.domain.memory import GIB, GpuSpec, MemoryItem
from meshtui.memory.gpus import gpus
from meshtui.memory.weights_checkpoint import Checkpoint
from meshtui.settings.shipped import toml_data

_TABLE = "memory/diffusion.toml"
# What takes memory of the GPU, by the start of the component's name.
_DENOISERS = ("transformer", "unet", "prior", "decoder")
_DECODERS = ("vae", "vqvae", "movq")
_FLOATS = ("F64", "F32", "F16", "BF16")
_MOST_PIXELS = 1 << 26
_MOST_BYTES = 1 << 60
_MOST_COMPONENTS = 50


class DiffusionMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What a pipeline takes: `components` are exact, the variants are intervals of the peak.
    `source` is `headers` or `configuration` (sizes known for the class of pipeline)."""

    components: tuple[MemoryItem, ...]
    resident: MemoryItem
    model_offload: MemoryItem
    sequential_offload: MemoryItem
    source: str
    notes: tuple[str, ...] = ()

    def smallest_gpu(self, variant: MemoryItem | None = None) -> GpuSpec | None:
        """The smallest GPU that surely holds the peak of a variant (all resident, if none is
        named); None where no known one does."""
        needed = (variant or self.resident).high_bytes
        fitting = [gpu for gpu in gpus().values() if gpu.memory_bytes >= needed]
        return min(fitting, key=lambda gpu: gpu.memory_bytes, default=None)


def estimate_diffusion(
    pipeline: Mapping[str, Any],
    checkpoints: Mapping[str, Checkpoint] | None = None,
    *,
    width: int = 1024,
    height: int = 1024,
    element_bytes: int = 2,
) -> DiffusionMemory:
    """The memory of a pipeline from its `model_index.json`.

    `checkpoints` are the headers of the components, by the name of their folder. `element_bytes` is
    the size of the type that the pipeline is loaded in. Raises `InvalidInput` where neither headers
    nor the class of the pipeline tell the sizes, or an image is beyond reason.
    """
    if not 0 < width * height <= _MOST_PIXELS or width < 1:
        raise InvalidInput(
            f"Images of {width} x {height} pixels cannot be made.", hint="Choose a smaller size."
        )
    sizes = _component_bytes(pipeline, checkpoints or {}, element_bytes)
    if sum(sizes.values()) > _MOST_BYTES:
        raise InvalidInput("The headers name sizes beyond any model.")
    context, denoise, decode = _beside(width * height, element_bytes)
    known = bool(checkpoints)
    layer = max((_largest_layer(one) for one in (checkpoints or {}).values()), default=0)
    work = {name: _work(name, denoise, decode) for name in sizes}
    return DiffusionMemory(
        components=tuple(
            MemoryItem.exact(name, size, f"parameters x {element_bytes} bytes")
            for name, size in sizes.items()
        ),
        resident=_variant(
            "resident",
            [
                (context[i] + sum(sizes.values()) + max(part[i] for part in work.values()))
                for i in range(3)
            ],
            "all components + the larger of denoising and decoding + CUDA",
        ),
        model_offload=_variant(
            "model_offload",
            [context[i] + max(sizes[name] + work[name][i] for name in sizes) for i in range(3)],
            "the largest component with what it does + CUDA",
        ),
        sequential_offload=_variant(
            "sequential_offload",
            [
                context[i]
                + (layer or max(sizes.values()) // (50 if i == 0 else 20))
                + max(part[i] for part in work.values())
                for i in range(3)
            ],
            "the largest layer + the larger of denoising and decoding + CUDA",
        ),
        source="headers" if known else "configuration",
        notes=()
        if known
        else ("The sizes are those of the class of pipeline; the headers were not read.",),
    )


def working_bytes(width: int, height: int, element_bytes: int = 2) -> int:
    """What making an image surely takes beside the weights: CUDA, and the larger of denoising and
    decoding."""
    context, denoise, decode = _beside(width * height, element_bytes)
    return context[2] + max(denoise[2], decode[2])


def _component_bytes(
    pipeline: Mapping[str, Any], checkpoints: Mapping[str, Checkpoint], element_bytes: int
) -> dict[str, int]:
    """Bytes of each component that is loaded, in the order of the index."""
    name = pipeline.get("_class_name")
    table = toml_data(_TABLE)["pipelines"]
    known = table.get(name, {}) if isinstance(name, str) else {}
    loaded = [
        part
        for part, entry in list(pipeline.items())[:_MOST_COMPONENTS]
        if isinstance(entry, list | tuple) and len(entry) == 2 and entry[0] is not None
    ]
    sizes: dict[str, int] = {}
    for part in loaded:
        if part in checkpoints:
            sizes[part] = _bytes_of(checkpoints[part], element_bytes)
        elif part in known and not checkpoints:
            sizes[part] = int(known[part]) * element_bytes
    if not sizes or not any(part.startswith(_DENOISERS) for part in sizes):
        raise InvalidInput(
            "The sizes of the pipeline's parts are not known.",
            hint="Its safetensors headers tell them: give a complete folder or the model's id.",
        )
    return sizes


def _bytes_of(checkpoint: Checkpoint, element_bytes: int) -> int:
    return sum(
        kind.count * (kind.elements * element_bytes if kind.dtype in _FLOATS else kind.size_bytes)
        for kind in checkpoint.kinds
    )


def _largest_layer(checkpoint: Checkpoint) -> int:
    """The largest single tensor: modules are moved one by one."""
    return max((kind.size_bytes for kind in checkpoint.kinds), default=0)


def _beside(pixels: int, element_bytes: int) -> tuple[list[int], list[int], list[int]]:
    """Low, likely and high bytes of CUDA, of denoising and of decoding."""
    table = toml_data(_TABLE)
    ends = ("low", "likely", "high")
    activations, area = table["activations"], pixels / (1 << 20)
    map_bytes = activations["decode_channels"] * pixels * element_bytes
    context = [int(table["context"][f"{end}_gib"] * GIB) for end in ends]
    denoise = [int(activations[f"denoise_{end}_gib"] * area * GIB) for end in ends]
    decode = [int(activations[f"decode_{end}"] * map_bytes) for end in ends]
    return context, denoise, decode


def _work(name: str, denoise: list[int], decode: list[int]) -> list[int]:
    """What a component needs while it works. Encoding a prompt is small beside the weights."""
    if name.startswith(_DENOISERS):
        return denoise
    return decode if name.startswith(_DECODERS) else [0, 0, 0]


def _variant(name: str, ends: list[int], formula: str) -> MemoryItem:
    low, likely, high = ends
    return MemoryItem(
        name=name, low_bytes=low, likely_bytes=likely, high_bytes=high, formula=formula
    )

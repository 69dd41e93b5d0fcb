"""The catalogue of GPUs, `config/gpus.toml`."""

import re
from functools import cache

from meshtui.domain.errors import NotFound
from meshtui.domain.memory import GIB, GpuSpec
from meshtui.domain.text import one_line
from meshtui.settings.shipped import toml_data


@cache
def gpus() -> dict[str, GpuSpec]:
    """All known GPUs by name, from small to large."""
    known = [
        GpuSpec(
            name=name,
            label=entry["label"],
            memory_bytes=int(entry["memory_gib"] * GIB),
            capability=entry["capability"],
            bandwidth_bytes_s=int(entry["bandwidth_gb_s"] * 1e9),
            source=entry["source"],
            unsure=entry.get("unsure", False),
        )
        for name, entry in toml_data("gpus.toml").items()
    ]
    known.sort(key=lambda gpu: (gpu.memory_bytes, gpu.capability, gpu.name))
    return {gpu.name: gpu for gpu in known}


def find_gpu(name: str) -> GpuSpec:
    """The GPU that a person or a driver names so: `A10`, `h100`, `NVIDIA A100-SXM4-80GB`.

    Of several that fit, the one with the shortest label is meant. Raises `NotFound`.
    """
    asked = _words(name)
    joined = "".join(asked)
    for gpu in gpus().values():
        if joined == "".join(_words(gpu.name)):
            return gpu
    fitting = [
        gpu
        for gpu in gpus().values()
        if asked and set(asked) <= set(_words(f"{gpu.label} {gpu.name}"))
    ]
    if not fitting:
        raise NotFound(
            f"No GPU named {one_line(name)} is known.",
            hint=f"Known are {', '.join(gpus())}.",
        )
    return min(fitting, key=lambda gpu: (len(gpu.label), gpu.name))


def _words(name: str) -> list[str]:
    """Letters and numbers apart from what makers put around them."""
    words = re.findall(r"[a-z0-9]+", name.lower()[:200])
    return [
        word.removesuffix("gb") if re.fullmatch(r"\d+gb", word) else word
        for word in words
        if word not in ("nvidia", "tesla", "geforce", "sxm2", "sxm4", "sxm5", "sxm", "hbm3",
                        "generation", "graphics", "gpu")
    ]  # fmt: skip

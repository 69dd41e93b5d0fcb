"""From modules to bytes: one rank's tensors by item, rounded as the allocator rounds them.

PyTorch's caching allocator (c10/cuda/CUDACachingAllocator.cpp) rounds a tensor to 512 bytes. One of
10 MiB and more gets a segment of its own, rounded to 2 MiB, whose rest is split off only where it
is larger than 1 MiB.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from meshtui.memory.weights_modules import Blueprint, Experts, Linear, Module
from meshtui.memory.weights_quantization import Quantizer
from meshtui.memory.weights_schemes import PLAIN, experts_sizes, linear_sizes, repacked_bytes

_MIB = 1 << 20
_OWN_SEGMENT = 10 * _MIB
_SEGMENT = 2 * _MIB


class Tally:
    """How many tensors of each size every item has."""

    def __init__(self) -> None:
        self.tensors: Counter[tuple[str, int]] = Counter()

    def add(self, item: str, size_bytes: int, times: int = 1) -> None:
        if size_bytes > 0 and times > 0:
            self.tensors[item, size_bytes] += times

    def update(self, other: "Tally", times: int = 1) -> None:
        for key, count in other.tensors.items():
            self.tensors[key] += count * times

    @property
    def by_item(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for (item, size), count in self.tensors.items():
            found[item] = found.get(item, 0) + size * count
        return found

    @property
    def total(self) -> int:
        return sum(size * count for (_, size), count in self.tensors.items())

    @property
    def rounding(self) -> int:
        """What the allocator takes beyond the tensors."""
        return sum((allocated(size) - size) * count for (_, size), count in self.tensors.items())


def allocated(size: int) -> int:
    """What one tensor takes of the GPU's memory."""
    rounded = -(-size // 512) * 512
    if rounded < _OWN_SEGMENT:
        return rounded
    segment = -(-rounded // _SEGMENT) * _SEGMENT
    return segment if segment - rounded <= _MIB else rounded


def stage_tally(
    blueprint: Blueprint,
    quantizer: Quantizer,
    element_bytes: int,
    layers: range,
    *,
    first: bool,
    last: bool,
) -> Tally:
    """The tensors of one pipeline stage."""
    tally = Tally()
    adder = _Adder(quantizer, element_bytes)
    chosen: list[Module] = [*blueprint.every]
    if first:
        chosen += blueprint.first
    if last:
        chosen += blueprint.last if first else [*blueprint.last, *blueprint.tied_copy]
    tally.update(adder.of(None, chosen))
    if quantizer.by_layer:
        for i in layers:
            tally.update(adder.of(i, blueprint.layers[i]))
    else:
        for modules, times in _alike(blueprint.layers[i] for i in layers):
            tally.update(adder.of(layers.start, modules), times)
    for name, size in blueprint.buffers:
        tally.add(name, size)
    return tally


def _alike(layers: Iterable[Sequence[Module]]) -> list[tuple[Sequence[Module], int]]:
    """Layers that are the same, and how often they come."""
    counted = Counter(tuple(modules) for modules in layers)
    return list(counted.items())


class _Adder:
    """Sizes modules."""

    def __init__(self, quantizer: Quantizer, element_bytes: int) -> None:
        self._quantizer = quantizer
        self._element_bytes = element_bytes

    def of(self, layer: int | None, modules: Iterable[Module]) -> Tally:
        tally, quantizer, width = Tally(), self._quantizer, self._element_bytes
        for module in modules:
            if isinstance(module, Linear):
                if module.item == "head":
                    scheme = quantizer.of_head(module.name)
                else:
                    scheme = quantizer.of_linear(layer, module) if module.quantized else PLAIN
                sizes = linear_sizes(module, scheme, width)
                tally.add("repacking", repacked_bytes(module, scheme))
            elif isinstance(module, Experts):
                sizes = experts_sizes(module, quantizer.of_experts(layer, module), width)
            else:
                sizes = [module.elements * (module.element_bytes or width)]
            for size in sizes:
                tally.add(module.item, size)
        return tally

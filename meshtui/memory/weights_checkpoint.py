"""What the headers of a checkpoint's safetensors files say, in a form that stays small.

A model of 400 GB has a hundred thousand tensors with a few dozen names once the numbers of layers
and experts are taken out; those are kept, with how often they come.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from meshtui.domain.errors import InvalidInput
from meshtui.hub.safetensors_header import DTYPE_BITS, MOST_TENSORS, SafetensorsHeader, header_of

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
_MOST_FILES = 2000
_HEADS = ("lm_head", "output", "embed_out", "output_layer")


class TensorKind(msgspec.Struct, frozen=True):
    """Tensors of one name, type and shape. `*` stands for numbers in `name`; `layers` says how
    many of them each layer has (-1: outside of layers)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    count: int
    layers: tuple[tuple[int, int], ...] = ()

    @property
    def elements(self) -> int:
        """Of one tensor."""
        found = 1
        for size in self.shape:
            found *= size
        return found

    @property
    def size_bytes(self) -> int:
        """Of one tensor."""
        return self.elements * DTYPE_BITS[self.dtype] // 8


class Checkpoint(msgspec.Struct, frozen=True):
    """All kinds of tensors of a checkpoint."""

    kinds: tuple[TensorKind, ...]

    @property
    def total_bytes(self) -> int:
        return sum(kind.size_bytes * kind.count for kind in self.kinds)

    @property
    def has_head(self) -> bool | None:
        """Whether there is an output head of its own; None where no names are known."""
        if not self.kinds:
            return None
        return any(part in _HEADS for kind in self.kinds for part in kind.name.split(".")[:-1])

    @classmethod
    def of_headers(cls, headers: Iterable[SafetensorsHeader]) -> "Checkpoint":
        """From the headers of all files."""
        return cls.of_tensors(
            (name, tensor.dtype, tensor.shape)
            for header in headers
            for name, tensor in header.tensors.items()
        )

    @classmethod
    def of_tensors(cls, tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> "Checkpoint":
        """From name, type (as safetensors names it) and shape of every tensor.

        Raises `InvalidInput` for unknown types and more tensors than any model has.
        """
        counted: dict[tuple[str, str, tuple[int, ...]], Counter[int]] = {}
        for number, (name, dtype, shape) in enumerate(tensors):
            if number >= MOST_TENSORS:
                raise InvalidInput("The headers name more tensors than any model has.")
            if dtype not in DTYPE_BITS:
                raise InvalidInput("The headers name a type of tensor that is not known.")
            found = _NUMBER.search(name)
            layer = int(found[0]) if found is not None and len(found[0]) < 6 else -1
            key = (_NUMBER.sub("*", name), dtype, tuple(shape))
            counted.setdefault(key, Counter())[layer] += 1
        return cls(
            tuple(
                TensorKind(*key, sum(layers.values()), tuple(sorted(layers.items())))
                for key, layers in counted.items()
            )
        )

    @classmethod
    def of_mapping(
        cls, headers: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]
    ) -> "Checkpoint":
        """From type and shape by tensor by file, as another reader has them."""
        return cls.of_tensors(
            (name, dtype, tuple(shape))
            for tensors in headers.values()
            for name, (dtype, shape) in tensors.items()
        )

    @classmethod
    def of_folder(cls, folder: Path) -> "Checkpoint | None":
        """From the safetensors files of a local folder; None where there are none. Blocks on small
        reads. Raises `InvalidInput` for headers that cannot be true, `OSError` as files do."""
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            return None
        if len(files) > _MOST_FILES:
            raise InvalidInput("The folder has more safetensors files than any model.")
        # A file beside the shards that holds all of them again would count twice.
        sharded = [path for path in files if re.search(r"-\d+-of-\d+\.safetensors$", path.name)]
        return cls.of_headers(header_of(path) for path in sharded or files)

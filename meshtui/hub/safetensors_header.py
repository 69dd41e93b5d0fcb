"""The header of a safetensors file, read with bounds: it comes from strangers.

The format (safetensors, "Format"): eight bytes with the little-endian length of the header, a JSON
object, then the tensors' bytes without holes. Each name maps to `dtype`, `shape` and
`data_offsets`, relative to the end of the header; `__metadata__` maps texts to texts.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from meshtui.domain.errors import InvalidInput
from meshtui.domain.text import one_line

# The Hub's client refuses longer ones as well (huggingface_hub, `get_safetensors_metadata`).
MOST_HEADER_BYTES = 25_000_000
MOST_TENSORS = 250_000
_MOST_NAME_CHARS = 1000
_MOST_DIMENSIONS = 16
_LENGTH_BYTES = 8

# Bits of an element (safetensors 0.8, `Dtype`).
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip

ReadAt = Callable[[int, int], bytes]


class Tensor(msgspec.Struct, frozen=True):
    """One tensor; `begin` and `end` are bytes behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.begin

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class SafetensorsHeader(msgspec.Struct, frozen=True):
    """All tensors by name, in the order of the header; `header_bytes` includes the length."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    header_bytes: int

    @property
    def main_dtype(self) -> str | None:
        """The type of most bytes."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size_bytes
        return max(sizes, key=lambda dtype: sizes[dtype]) if sizes else None


def header_length(first: bytes, file_bytes: int) -> int:
    """The length of the JSON from the first eight bytes. Raises `InvalidInput`."""
    if len(first) < _LENGTH_BYTES or file_bytes < _LENGTH_BYTES:
        raise InvalidInput("It is too short to be a safetensors file.")
    length = int.from_bytes(first[:_LENGTH_BYTES], "little")
    if not 2 <= length <= MOST_HEADER_BYTES:
        raise InvalidInput(f"Its header would have {length:,} bytes, which cannot be.")
    if length > file_bytes - _LENGTH_BYTES:
        raise InvalidInput("It ends before its header does: the file is cut off.")
    return length


def read_header(read_at: ReadAt, file_bytes: int) -> SafetensorsHeader:
    """The header of a file of `file_bytes`; `read_at(offset, length)` gives its bytes (fewer at
    the end of the file). Raises `InvalidInput` that says what cannot be true."""
    length = header_length(read_at(0, _LENGTH_BYTES), file_bytes)
    return parse_header(read_at(_LENGTH_BYTES, length), file_bytes)


def header_of(path: Path) -> SafetensorsHeader:
    """The header of a file here. Raises `InvalidInput` or `OSError`; blocks on small reads."""
    with path.open("rb") as file:
        size = file.seek(0, 2)

        def read_at(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        return read_header(read_at, size)


def parse_header(text: bytes, file_bytes: int) -> SafetensorsHeader:
    """The header from its JSON. `file_bytes` is the size of the whole file."""
    if text[:1] != b"{":
        raise InvalidInput("Its header is not a JSON object.")
    try:
        raw = json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        if isinstance(error, _Repeated):
            raise InvalidInput(f"Its header names {one_line(str(error), 80)} twice.") from None
        raise InvalidInput("Its header is not valid JSON.") from error
    # The reference implementation pads with spaces only.
    metadata = raw.pop("__metadata__", None)
    if len(raw) > MOST_TENSORS:
        raise InvalidInput(f"Its header names {len(raw):,} tensors, more than any model has.")
    tensors = {name: _tensor(name, value) for name, value in raw.items()}
    _check_covering(tensors, file_bytes - _LENGTH_BYTES - len(text))
    return SafetensorsHeader(tensors, _texts(metadata), _LENGTH_BYTES + len(text))


class _Repeated(ValueError):
    """A key stands twice: which of the two counts would be up to the reader."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Repeated(next(name for name in found if names.count(name) > 1))
    return found


def _tensor(name: str, value: Any) -> Tensor:
    shown = one_line(name, 80)
    if len(name) > _MOST_NAME_CHARS:
        raise InvalidInput(f"Its header has a tensor with an overlong name: {shown}.")
    try:
        dtype, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise InvalidInput(f"Its header describes {shown} incompletely.") from None
    bits = DTYPE_BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise InvalidInput(f"Its header gives {shown} an unknown type.")
    numbers = [*shape, begin, end] if isinstance(shape, list) else [None]
    if len(numbers) > _MOST_DIMENSIONS + 2 or not all(
        type(number) is int and 0 <= number < 1 << 62 for number in numbers
    ):
        raise InvalidInput(f"Its header gives {shown} a shape or a place that cannot be.")
    wanted_bits = math.prod(shape) * bits
    if end < begin or (end - begin) * 8 != wanted_bits:
        raise InvalidInput(f"{shown} does not have the size that its shape says.")
    return Tensor(dtype, tuple(shape), begin, end)


def _check_covering(tensors: dict[str, Tensor], data_bytes: int) -> None:
    """The tensors stand one behind the other, and end where the file does."""
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != at:
            problem = "overlaps another tensor" if tensor.begin < at else "leaves a hole before it"
            raise InvalidInput(f"{one_line(name, 80)} {problem}.")
        at = tensor.end
    if at != data_bytes:
        problem = "is cut off" if at > data_bytes else "has bytes that belong to no tensor"
        raise InvalidInput(f"The file {problem}: {data_bytes:,} bytes of data, {at:,} described.")


def _texts(metadata: Any) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise InvalidInput("Its __metadata__ holds something other than text.")
    return metadata

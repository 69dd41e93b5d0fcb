"""Headers that could not be true are refused, quickly, whatever they claim."""

import json
import random
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from meshtui.domain.errors import InvalidInput
from meshtui.hub.safetensors_header import header_of, parse_header, read_header
from tests.support.models import safetensors


def raw(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def read(content: bytes) -> None:
    read_header(lambda at, count: content[at : at + count], len(content))


def test_tensors_types_and_metadata_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(
        safetensors({"a": ("BF16", (3,), bytes(6)), "b": ("F32", (), bytes(4))}, format="pt")
    )
    header = header_of(path)
    assert list(header.tensors) == ["a", "b"]
    assert header.tensors["a"].elements == 3 and header.tensors["b"].size_bytes == 4
    assert header.metadata == {"format": "pt"} and header.main_dtype == "BF16"


def test_four_bit_types_have_the_size_of_their_bits() -> None:
    read(raw({"q": {"dtype": "F4", "shape": [3, 2], "data_offsets": [0, 3]}}, bytes(3)))


def tensor(**changes: Any) -> dict[str, Any]:
    return {"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "too short"),
        (b"\x00" * 7, "too short"),
        (struct.pack("<Q", 1 << 60), "cannot be"),
        (struct.pack("<Q", 1000) + b"{}", "cut off"),
        (raw(b"[]"), "not a JSON object"),
        (raw(b" {}"), "not a JSON object"),
        (raw(b'{"a": '), "not valid JSON"),
        (raw(b'{"x":' * 100_000 + b"0" + b"}" * 100_000), "not valid JSON"),
        (raw(b'{"t":{"dtype":"F32"},"t":{}}'), "twice"),
        (raw({"t": 3}), "incompletely"),
        (raw({"t": {"dtype": "F32", "shape": [2]}}), "incompletely"),
        (raw(tensor(dtype="F33"), bytes(8)), "unknown type"),
        (raw(tensor(dtype=["F32"]), bytes(8)), "unknown type"),
        (raw(tensor(shape=[-2]), bytes(8)), "cannot be"),
        (raw(tensor(shape=[True]), bytes(8)), "cannot be"),
        (raw(tensor(shape=[10**30]), bytes(8)), "cannot be"),
        (raw(tensor(shape="2"), bytes(8)), "cannot be"),
        (raw(tensor(shape=[1] * 100), bytes(8)), "cannot be"),
        (raw(tensor(shape=[3]), bytes(8)), "size that its shape"),
        (raw(tensor(data_offsets=[8, 0]), bytes(8)), "size that its shape"),
        (raw(tensor(data_offsets=[4, 12]), bytes(12)), "hole"),
        (raw(tensor() | {"u": tensor()["t"]}, bytes(8)), "overlaps"),
        (raw(tensor(), bytes(7)), "cut off"),
        (raw(tensor(), bytes(9)), "belong to no tensor"),
        (raw({"__metadata__": {"a": 1}}), "other than text"),
        (raw({"n" * 5000: tensor()["t"]}, bytes(8)), "overlong"),
    ],
)
def test_what_cannot_be_true_is_refused_with_the_reason(content: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        read(content)


def test_a_header_with_too_many_tensors_is_refused_in_bounded_time() -> None:
    text = b"{" + b",".join(b'"t%d":{}' % i for i in range(260_000)) + b"}"
    began = time.process_time()
    with pytest.raises(InvalidInput, match="more than any model"):
        parse_header(text, 10**9)
    assert time.process_time() - began < 10


def test_mutated_headers_are_read_or_refused() -> None:
    rng = random.Random(7)
    good = safetensors({"a": ("BF16", (3,), bytes(6)), "b": ("F32", (2, 2), bytes(16))}, x="y")
    refused = 0
    for _ in range(3000):
        content = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            match rng.randrange(3):
                case 0:
                    content[rng.randrange(len(content))] = rng.randrange(256)
                case 1:
                    del content[rng.randrange(len(content))]
                    content = content or bytearray(b"\0")
                case 2:
                    at = rng.randrange(len(content))
                    content[at:at] = rng.randbytes(rng.randint(1, 5))
        try:
            read(bytes(content))
        except InvalidInput:
            refused += 1
    assert refused > 2000

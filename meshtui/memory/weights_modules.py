"""What a model is made of on one rank: modules with the sizes that this rank holds.

A family of models lists its modules; how many bytes a module takes is up to the quantization
(`weights_schemes.py`). `name` is the module's name inside the model, as the engine sees it, since
checkpoints say by name what stays unquantized.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec


class Linear(NamedTuple):
    """A matrix of `sum(outputs)` x `inputs`; `outputs` are the parts merged into it. `bias` has
    `sum(outputs)` elements. `parts` are the names that checkpoints give the parts."""

    item: str
    name: str
    inputs: int
    outputs: tuple[int, ...]
    bias: bool = False
    parts: tuple[str, ...] = ()
    element_bytes: int | None = None
    quantized: bool = True


class Plain(NamedTuple):
    """A tensor that is never quantized: norms, embeddings, routers. `element_bytes` None means the
    model's type."""

    item: str
    name: str
    elements: int
    element_bytes: int | None = None


class Experts(NamedTuple):
    """`number` experts on this rank, fused into one tensor for the way up and one for the way down.
    `width` is this rank's share of the inner size."""

    item: str
    name: str
    number: int
    hidden: int
    width: int
    gated: bool = True
    bias: bool = False


Module = Linear | Plain | Experts


class Blueprint(msgspec.Struct, frozen=True, kw_only=True):
    """The modules of one tensor-parallel rank. `first` stand on the first pipeline stage, `last`
    on the last, `every` on all. `tied` says that the head is the embedding: a last stage of its
    own then holds a copy. `buffers` are bytes by name that every stage keeps. `notes` say what
    was assumed."""

    first: Sequence[Module] = ()
    layers: Sequence[Sequence[Module]] = ()
    last: Sequence[Module] = ()
    every: Sequence[Module] = ()
    tied_copy: Sequence[Module] = ()
    buffers: Sequence[tuple[str, int]] = ()
    notes: Sequence[str] = ()

"""How layers share the pool of pages: vLLM's KV-cache groups.

All groups draw blocks of one size from one pool; a request holds blocks of every group. Layers
that keep different tokens cannot share a group, groups are made equally large, and short ones are
padded. Source: vllm/v1/core/kv_cache_utils.py of vLLM 0.32 (`get_kv_cache_groups`,
`_max_memory_usage_bytes_from_groups`, `_project_kv_cache_groups_to_worker`).
"""

from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec

from meshtui.domain.errors import InvalidInput
from meshtui.memory.kv_layers import Kind, KvLayer, pages_for

# With fewer than one and a half times as many layers of another kind, the larger count is taken.
_NEARLY_EQUAL = 1.5


class KvGroup(msgspec.Struct, frozen=True, dict=True):
    """Layers with one table of blocks: the index of each in the model, and its cache."""

    layers: tuple[tuple[int, KvLayer], ...]

    @cached_property
    def page_bytes(self) -> int:
        return sum(layer.page_bytes for _, layer in self.layers)

    @cached_property
    def _distinct(self) -> frozenset[KvLayer]:
        return frozenset(layer for _, layer in self.layers)

    def blocks(self, tokens: int, in_flight: int) -> int:
        return max(layer.pages(tokens, in_flight) for layer in self._distinct)

    def of_layers(self, first: int, after: int) -> "KvGroup":
        """The part of the group in one stage."""
        if all(first <= index < after for index, _ in self.layers):
            return self
        return KvGroup(tuple(item for item in self.layers if first <= item[0] < after))


def group_layers(
    layers: Sequence[tuple[int, KvLayer]], *, packed: bool = False, hybrid: bool = True
) -> list[KvGroup]:
    """Groups the caches of a model's layers.

    `packed`: pages of different size lie side by side in a block (block-outermost layouts).
    `hybrid` False: windows are kept as full attention. Raises `InvalidInput` where vLLM could not
    unify the pages either.
    """
    if not layers:
        return []
    if not hybrid:
        layers = _without_windows(layers)
        if len({layer.kind for _, layer in layers}) > 1:
            raise InvalidInput(
                "Without the hybrid KV cache manager this model's layers cannot share a cache.",
                hint="Leave the hybrid KV cache manager on.",
            )
    first = layers[0][1]
    if all(layer.same_tokens_as(first) for _, layer in layers):
        return [KvGroup(tuple(layers))]
    if packed and len({layer.page_bytes for _, layer in layers}) > 1:
        return _packed(layers)
    try:
        unified = _one_page_size(layers)
    except InvalidInput:
        promoted = _without_windows(layers)
        if any(not layer.same_tokens_as(promoted[0][1]) for _, layer in promoted):
            raise
        return [KvGroup(tuple(promoted))]
    return _equal_groups(unified)


def _without_windows(layers: Sequence[tuple[int, KvLayer]]) -> list[tuple[int, KvLayer]]:
    blocks = {layer.block for _, layer in layers if layer.kind is Kind.FULL}
    if not blocks:
        return list(layers)
    block = next(iter(blocks)) if len(blocks) == 1 else None
    return [
        (i, layer.as_full(block or layer.block))
        if layer.kind in (Kind.SLIDING, Kind.CHUNKED)
        else (i, layer)
        for i, layer in layers
    ]


def _one_page_size(layers: Sequence[tuple[int, KvLayer]]) -> list[tuple[int, KvLayer]]:
    """Raises the block of layers with smaller pages, or pads where that does not come out even."""
    largest = max(layer.page_bytes for _, layer in layers)
    return [(i, _grown(layer, largest)) for i, layer in layers]


def _grown(layer: KvLayer, page_bytes: int) -> KvLayer:
    if layer.page_bytes == page_bytes:
        return layer
    if layer.kind is Kind.STATE:
        return layer.padded_to(page_bytes)
    if layer.page_bytes and page_bytes % layer.page_bytes == 0 and not layer.padded_bytes:
        return layer.with_block(layer.block * (page_bytes // layer.page_bytes))
    if not (layer.latent and layer.kind is Kind.FULL):
        return layer.padded_to(page_bytes)
    raise InvalidInput("The pages of this model's KV cache cannot be brought to one size.")


def _equal_groups(layers: Sequence[tuple[int, KvLayer]]) -> list[KvGroup]:
    buckets: dict[KvLayer, list[tuple[int, KvLayer]]] = {}
    for index, layer in layers:
        buckets.setdefault(layer, []).append((index, layer))
    counts = [len(bucket) for bucket in buckets.values()]
    size = max(counts) if max(counts) < min(counts) * _NEARLY_EQUAL else min(counts)
    groups = []
    for bucket in buckets.values():
        number = pages_for(len(bucket), size)
        groups += [KvGroup(tuple(bucket[i::number])) for i in range(number)]
    return groups


def _packed(layers: Sequence[tuple[int, KvLayer]]) -> list[KvGroup]:
    """Buckets of layers that hold the same tokens, split so that all groups are about as wide
    (`_get_packed_kv_cache_groups`)."""
    buckets: list[list[tuple[int, KvLayer]]] = []
    for item in layers:
        home = next((b for b in buckets if item[1].same_tokens_as(b[0][1])), None)
        if home is None:
            buckets.append([item])
        else:
            home.append(item)
    pages = [_by_page_size(bucket) for bucket in buckets]
    balanced = [len({len(same) for same in sizes.values()}) == 1 for sizes in pages]
    repeats = [max(len(same) for same in sizes.values()) for sizes in pages]
    floor = max(
        (r for r, sizes, b in zip(repeats, pages, balanced, strict=True) if b and len(sizes) > 1),
        default=0,
    )
    chosen = (
        _least_padding([r for r, b in zip(repeats, balanced, strict=True) if b], floor)
        if floor
        else 0
    )

    def splits(i: int) -> int:
        return pages_for(repeats[i], chosen) if balanced[i] and chosen else 1

    def is_state(i: int) -> bool:
        kind = buckets[i][0][1].kind
        return kind is Kind.STATE or (not chosen and kind is Kind.SLIDING)

    def widest(i: int, number: int) -> int:
        return sum(pages_for(len(same), number) * page for page, same in pages[i].items())

    anchor = max(
        widest(i, len(buckets[i]) if is_state(i) else splits(i)) for i in range(len(buckets))
    )
    groups = []
    for i, bucket in enumerate(buckets):
        number = splits(i)
        if is_state(i):
            fitting = max(anchor // bucket[0][1].page_bytes, 1)
            number = max(number, pages_for(len(bucket), fitting))
        if number == 1:
            groups.append(KvGroup(tuple(bucket)))
            continue
        # Repeats of the pattern of page sizes are dealt out in turn.
        repeated = list(zip(*pages[i].values(), strict=False))
        groups += [
            KvGroup(tuple(item for repeat in repeated[k::number] for item in repeat))
            for k in range(number)
        ]
    return groups


def _by_page_size(
    bucket: Iterable[tuple[int, KvLayer]],
) -> dict[int, list[tuple[int, KvLayer]]]:
    sizes: dict[int, list[tuple[int, KvLayer]]] = {}
    for item in bucket:
        sizes.setdefault(item[1].page_bytes, []).append(item)
    return sizes


def _least_padding(counts: Sequence[int], at_least: int) -> int:
    """The size of a group that pads least; the larger one of equals (`_approximate_gcd`)."""
    sizes = range(max(1, at_least), max(counts) + 1)
    return min(sizes, key=lambda size: (sum(-count % size for count in counts), -size))

"""What one layer keeps in the KV cache, in pages, as vLLM's `KVCacheSpec` describes it.

Source: vllm/v1/kv_cache_interface.py of vLLM 0.32.
"""

from enum import StrEnum
from typing import Any

import msgspec


class Kind(StrEnum):
    """How the cache of a layer grows with the request."""

    FULL = "full"
    SLIDING = "sliding"
    CHUNKED = "chunked"
    STATE = "state"
    CROSS = "cross"


class KvLayer(msgspec.Struct, frozen=True, kw_only=True):
    """The cache of one layer on one rank.

    A page holds `block` tokens. `row_bytes` is what one stored row takes, over all heads of the
    rank, and `tokens_per_row` how many tokens share a row. `reach` is the window (SLIDING), the
    chunk (CHUNKED) or the longest encoder input (CROSS). `state_bytes` and `state_pages` are for
    STATE layers, whose size does not depend on the length. `padded_bytes` is the page's size where
    it is more than its content. `latent` marks MLA's compressed rows, `role` caches that never
    share a group with others.
    """

    kind: Kind
    block: int
    row_bytes: int = 0
    tokens_per_row: int = 1
    reach: int = 0
    state_bytes: int = 0
    state_pages: int = 1
    padded_bytes: int = 0
    latent: bool = False
    role: str = ""

    @property
    def content_bytes(self) -> int:
        if self.kind is Kind.STATE:
            return self.state_bytes
        return self.row_bytes * (self.block // self.tokens_per_row)

    @property
    def page_bytes(self) -> int:
        """The size of one page."""
        return max(self.padded_bytes, self.content_bytes)

    def pages(self, tokens: int, in_flight: int) -> int:
        """Pages that a request of that many tokens holds at most.

        `in_flight` is how many tokens may be scheduled and not settled yet: windows slide only
        over settled ones, so a window holds that much more. A window does not start at the
        beginning of a page, hence one page more.
        """
        match self.kind:
            case Kind.FULL:
                return pages_for(tokens, self.block)
            case Kind.SLIDING:
                return pages_for(min(self.reach - 1 + in_flight, tokens), self.block) + 1
            case Kind.CHUNKED:
                return pages_for(min(self.reach + in_flight, tokens), self.block)
            case Kind.CROSS:
                return pages_for(self.reach, self.block)
            case Kind.STATE:
                return self.state_pages

    def with_block(self, block: int) -> "KvLayer":
        return msgspec.structs.replace(self, block=block)

    def padded_to(self, page_bytes: int) -> "KvLayer":
        return msgspec.structs.replace(self, padded_bytes=page_bytes)

    def as_full(self, block: int) -> "KvLayer":
        """The same rows for all tokens: how windows are kept where they cannot slide."""
        return msgspec.structs.replace(self, kind=Kind.FULL, block=block, reach=0)

    def same_tokens_as(self, other: "KvLayer") -> bool:
        """Whether both hold the same tokens at all times, so that one table of pages can serve
        them although their pages differ in size (vLLM's `UniformTypeKVCacheSpecs`)."""
        return self.block == other.block and self._growth() == other._growth()

    def _growth(self) -> tuple[Any, ...]:
        if self.kind is Kind.FULL:
            return (self.kind,)
        if self.kind is Kind.STATE:
            return (self.kind, self.page_bytes, self.state_pages)
        return (self.kind, self.reach, self.latent)


def pages_for(tokens: int, block: int) -> int:
    return -(-tokens // block)


def aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment

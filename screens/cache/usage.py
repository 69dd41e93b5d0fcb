"""How full the cache and its disk are, on one line."""

from collections.abc import Sequence

from textual.content import Content

from meshtui.domain.model_cache import CacheEntry, CacheUsage
from meshtui.domain.text import one_line

from .. import words
from ..state import Link, State
from .listing import Listing

_LEAST_BAR, _MOST_BAR = 10, 32
_LOW_SHARE = 0.05


def line(
    state: State, listing: Listing, *, shown: int, marked: Sequence[CacheEntry], width: int
) -> Content:
    """Models, their size, the disk; what is filtered, what is marked, what is wrong."""
    usage = state.cache
    parts = [_models(state, listing, shown)]
    if state.controller_stays_away or state.link is Link.LOST:
        parts.append(
            Content.styled(f"{words.ATTENTION} the controller is away: as it was", "$warning")
        )
    elif usage is not None:
        if marked:
            size = words.size(sum(entry.size_bytes for entry in marked))
            parts.append(Content.styled(f"✓ {len(marked)} marked, {size}", "$primary bold"))
        if usage.problem:
            wrong = f"{words.ATTENTION} {one_line(usage.problem, 120)}"
            parts.append(Content.styled(wrong, "$warning"))
        taken = sum(part.cell_length + 2 for part in parts)
        parts.append(_disk(usage, width - taken - 4))
    return Content(" ") + Content("  ").join(parts)


def _models(state: State, listing: Listing, shown: int) -> Content:
    if state.entries is None:
        return Content.styled("models –", "$muted")
    total = sum(entry.size_bytes for entry in state.entries.values())
    count = words.plural(len(state.entries), "model")
    if listing.query.strip():
        return Content.assemble((f"{shown:,}", "$strong"), (f" of {count}", "$muted"))
    return Content.assemble((count, "$strong"), (f"  {words.size(total)}", ""))


def _disk(usage: CacheUsage, room: int) -> Content:
    """The disk as a bar: the cache, everything else, what is free. Without the bar where there
    is no room for it."""
    total, free = usage.disk_total_bytes, usage.disk_free_bytes
    if total <= 0:
        return Content("")
    tone = "$error" if free < _LOW_SHARE * total else "$muted"
    free_of = f"{words.size(free)} of {words.size(total)} free"
    if len(free_of) + 3 + _LEAST_BAR > room:
        free_of = f"{words.size(free)} free"
    after = Content.styled(free_of, tone)
    if usage.partials:
        halves = f"{words.size(usage.partial_bytes)} in half downloads, P prunes"
        if len(free_of) + len(halves) + 3 + _LEAST_BAR <= room:
            after += Content.styled(f"  {words.ATTENTION} {halves}", "$warning")
    cells = min(_MOST_BAR, room - after.cell_length - 3)
    if cells < _LEAST_BAR:
        return after if after.cell_length <= room else Content("")
    ours = min(cells, round(cells * usage.used_bytes / total))
    if usage.used_bytes and not ours:
        ours = 1
    others = max(0, min(cells - ours, round(cells * (total - free) / total) - ours))
    bar = Content.assemble(
        ("▏", "$faint"),
        ("█" * ours, "$primary"),
        ("▓" * others, "$faint"),
        ("░" * (cells - ours - others), "$faint"),
        ("▕ ", "$faint"),
    )
    return bar + after

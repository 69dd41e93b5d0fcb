"""A finding in full: what was seen, why it matters, what to do; for memory the arithmetic."""

from collections.abc import Iterator

from textual.content import Content

from meshtui.domain.check import CheckReport, MemoryReport
from meshtui.domain.finding import Finding
from meshtui.domain.memory import MemoryItem
from meshtui.domain.text import one_line, sanitise

from ..widgets.dialogs import Reader
from ..widgets.wrapping import wrap
from . import reasons
from .shares import shares
from .verdict import gib, gib_range, level_sign, title

_NAMES = {
    "weights": "weights",
    "activations": "activations",
    "non_torch": "CUDA and NCCL",
    "cuda_graphs": "CUDA graphs",
}
_NAME_CELLS, _FIGURE_CELLS, _LEAST_HOW_CELLS = 14, 11, 20
# What is inside of a dialog.
_DIALOG_CELLS = 68
_MOST_FORMULA_CHARS = 600
_MOST_CHARS = 4000


class Explanation(Reader):
    """One finding, to be read."""

    def __init__(self, finding: Finding, report: CheckReport) -> None:
        super().__init__()
        self._finding, self._report = finding, report

    def heading(self) -> str:
        return title(self._finding.rule)

    def content(self) -> Content:
        return Content("\n").join(list(finding_lines(self._finding, self._report)))


class Arithmetic(Reader):
    """How the figures of the bar came about."""

    def __init__(self, memory: MemoryReport) -> None:
        super().__init__()
        self._memory = memory

    def heading(self) -> str:
        return "GPU memory"

    def content(self) -> Content:
        lines = [Content(reasons.why("memory")), Content(""), *memory_lines(self._memory)]
        return Content("\n").join(lines)


def finding_lines(
    finding: Finding, report: CheckReport, width: int = _DIALOG_CELLS
) -> Iterator[Content]:
    """What there is to say of a finding, section by section."""
    sign, tone = level_sign(finding.level)
    yield Content.assemble((f"{sign} ", tone), sanitise(finding.message[:_MOST_CHARS]))
    for heading, text in (("Why", reasons.why(finding.rule)), ("What to do", finding.fix)):
        if text:
            yield Content("")
            yield Content.styled(heading, "$key")
            yield Content(sanitise(text[:_MOST_CHARS]))
    if report.memory and finding.rule in reasons.ABOUT_MEMORY:
        yield Content("")
        yield from memory_lines(report.memory, width)


def memory_lines(memory: MemoryReport, width: int = _DIALOG_CELLS) -> Iterator[Content]:
    """The sum, part by part, each with where it comes from."""
    found = shares(memory)
    per = "" if memory.gpu_count == 1 else f", on each of {memory.gpu_count} GPUs"
    yield Content.styled(f"The sum in GiB{per}", "$key")
    weights = next((part for part in memory.parts if part.name == "weights"), None)
    yield from _row("weights", found.weights.low, found.weights.high, weights, width)
    per_token = memory.kv_cache_bytes_per_token
    of = f"one request of {memory.max_tokens:,} tokens, {per_token / 1024:,.1f} KiB a token"
    yield from _line("KV cache", gib(found.kv_cache), of if per_token else "none is kept", width)
    if found.others:
        for part in found.others:
            yield from _row(part.name, part.low_bytes, part.high_bytes, part, width)
    else:
        yield from _line("other", gib_range(found.other.low, found.other.high), "", width)
    needed = found.needed
    yield from _line("needed", gib_range(needed.low, needed.high), "", width, strong=True)
    if found.total is not None and found.usable is not None:
        gpu = one_line(memory.gpu or "the GPU", 40)
        share = f" of {gib(found.total)}, {found.usable / max(1, found.total):.0%}"
        yield from _line("may be taken", gib(found.usable), f"of {gpu}{share}", width)
        left = found.free
        if left.low >= 0:
            yield from _line(
                "left", gib_range(left.low, left.high), "for more requests", width, strong=True
            )
        elif left.high >= 0:
            yield from _line("left", f"0–{gib(left.high)}", "at best", width, strong=True)
        else:
            yield from _line("short by", gib_range(-left.high, -left.low), "", width, strong=True)
    for note in memory.notes:
        yield Content("")
        yield Content.styled(sanitise(note[:_MOST_CHARS]), "$muted")
    kind = "Figures that servers logged here." if found.measured else _estimate(memory)
    yield Content("")
    yield Content.styled(kind, "$muted")


def _estimate(memory: MemoryReport) -> str:
    if memory.simulated:
        return "An estimate, for a GPU of the catalogue: none of its kind was seen here."
    return "An estimate, for the GPU that was seen here."


def _row(name: str, low: int, high: int, part: MemoryItem | None, width: int) -> Iterator[Content]:
    how = one_line(part.formula, _MOST_FORMULA_CHARS) if part else ""
    if part and part.measured:
        how = f"measured{': ' if how else ''}{how}"
    shown = _NAMES.get(name, one_line(name, _NAME_CELLS))
    yield from _line(shown, gib_range(low, high), how, width)


def _line(
    name: str, figure: str, how: str, width: int, *, strong: bool = False
) -> Iterator[Content]:
    """Name, figure, and where it comes from, in as many rows as that takes."""
    rows = wrap(how, max(_LEAST_HOW_CELLS, width - _NAME_CELLS - _FIGURE_CELLS - 4))
    yield Content.assemble(
        (f"{name:<{_NAME_CELLS}} ", "$muted"),
        (f"{figure:>{_FIGURE_CELLS}}", "$strong bold" if strong else ""),
        (f"   {rows[0]}", "$muted"),
    )
    for row in rows[1:]:
        yield Content.styled(" " * (_NAME_CELLS + _FIGURE_CELLS + 4) + row, "$muted")

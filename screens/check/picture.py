"""The memory of one GPU: a stacked bar, what its parts are, and what fits."""

from collections.abc import Iterator, Sequence

from textual.content import Content
from textual.widget import Widget

from meshtui.domain.check import CheckReport, MemoryReport
from meshtui.domain.text import one_line

from .. import words
from .parameters import Known, gpu_text
from .shares import FREE, KEPT, KV_CACHE, LIMIT, OTHER, PERHAPS, WEIGHTS, Run, Shares, bar, shares
from .verdict import gib, gib_range, requests

Part = tuple[str, str]

_TONES = {
    WEIGHTS: "$primary",
    KV_CACHE: "$key",
    OTHER: "$muted",
    PERHAPS: "$muted",
    FREE: "",
    KEPT: "$faint",
    LIMIT: "$error bold",
}
_OTHERS = {"activations": "activations", "non_torch": "CUDA", "cuda_graphs": "CUDA graphs"}
_LABEL_CELLS = 10
_LOW_ROWS, _TALL_ROWS = 4, 7


class Picture(Widget):
    """Draws what it was last shown. Its height depends on the screen's only, so that nothing
    moves when a figure changes."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._report: CheckReport | None = None
        self._known = Known()

    def on_mount(self) -> None:
        self.auto_links = False

    def show(self, report: CheckReport | None, known: Known) -> None:
        if report != self._report:
            self._report, self._known = report, known
            self.refresh()

    @property
    def _is_tall(self) -> bool:
        return self.screen.has_class("-tall")

    def get_content_height(self, *_sizes: object) -> int:
        return _TALL_ROWS if self._is_tall else _LOW_ROWS

    def render(self) -> Content:
        return Content("\n").join(list(self._lines()))

    def _lines(self) -> Iterator[Content]:
        report, width = self._report, self.size.width
        if report is None or report.memory is None:
            text = "How much memory it takes is not known." if report else ""
            yield Content.styled(text, "$muted")
            return
        found = shares(report.memory)
        rows, more = (2, 2) if self._is_tall else (1, 1)
        for number in range(rows):
            yield bar_line(report.memory, found, width, captioned=number == 0)
        yield legend(found, width, report.memory.gpu_count)
        if self._is_tall:
            yield Content("")
        yield fitted(sentences(report.memory, found), width)
        yield from [fitted(choices, width) for choices in instead(report, self._known)][:more]


def fitted(choices: Sequence[Sequence[Part]], width: int) -> Content:
    """The longest choice that fits; they come in that order."""
    content = Content("")
    for choice in choices:
        content = Content.assemble(*choice)
        if content.cell_length <= width:
            return content
    return content.truncate(width, ellipsis=True)


def bar_cells(runs: Sequence[Run]) -> list[Part]:
    """The bar's parts with their colours; what lies beyond the memory is in the colour of
    failure, whatever its sign."""
    return [(run.text, "$error" if run.beyond else _TONES[run.sign]) for run in runs]


def bar_line(memory: MemoryReport, found: Shares, width: int, *, captioned: bool) -> Content:
    """One row of the bar between its two ends, with the GPU's size before and badges after."""
    size = found.total if found.total is not None else found.needed.high
    caption = f"{gib(size)} GiB" if captioned else ""
    imagined = memory.simulated and memory.gpu is not None
    marks = [name for name, on in (("SIM", imagined), ("measured", found.measured)) if on]
    after: list[Part] = []
    for mark in marks:
        badge = f" {mark} "
        after += [(" ", ""), (badge, "$muted reverse") if captioned else (" " * len(badge), "")]
    room = max(10, width - _LABEL_CELLS - 3 - sum(len(text) for text, _tone in after))
    return Content.assemble(
        (f"{caption:>{_LABEL_CELLS}} ", "$strong"),
        ("▏", "$muted"),
        *bar_cells(bar(found, room)),
        ("▕", "$muted"),
        *after,
    )


def legend(found: Shares, width: int, gpus: int = 1) -> Content:
    """What the signs stand for, in GiB of each GPU, in as many words as there is room for."""
    unit = "GiB" if gpus == 1 else "GiB each"
    parts = [
        (_OTHERS.get(part.name, one_line(part.name, 20)), part.low_bytes, part.high_bytes)
        for part in found.others
    ]
    summed = [("other", found.other.low, found.other.high)]
    every = [
        _legend(found, names, others, gap, unit)
        for names, others, gap in (
            (("weights", "KV cache of one request", "kept back"), parts, 3),
            (("weights", "KV cache", "kept back"), parts, 3),
            (("weights", "KV cache", "kept back"), summed, 3),
            (("weights", "KV", "kept"), summed, 2),
            (("weights", "KV", ""), summed, 1),
        )
    ]
    return fitted(every, width)


def _legend(
    found: Shares,
    names: tuple[str, str, str],
    others: list[tuple[str, int, int]],
    gap: int,
    unit: str,
) -> list[Part]:
    weights, cache, kept = names
    shown: list[list[Part]] = [
        [(WEIGHTS, _TONES[WEIGHTS]), _figure(weights, found.weights.low, found.weights.high)],
        [(KV_CACHE, _TONES[KV_CACHE]), _figure(cache, found.kv_cache, found.kv_cache)],
    ]
    for number, (name, low, high) in enumerate(others):
        sign = (OTHER + PERHAPS, _TONES[OTHER]) if number == 0 else ("+", "$muted")
        shown.append([sign, _figure(name, low, high)])
    if found.usable is not None:
        shown.append([_left_over(found)])
    if kept and found.kept and found.free.high >= 0:
        shown.append([(KEPT, _TONES[KEPT]), _figure(kept, found.kept, found.kept)])
    parts: list[Part] = [(" ", "")]
    for number, item in enumerate(shown):
        parts += [(" " * gap, ""), *item] if number else item
    return [*parts, (f" {unit}", "$muted")]


def _figure(name: str, low: int, high: int) -> Part:
    return f" {name} {gib_range(low, high)}", ""


def _left_over(found: Shares) -> Part:
    free = found.free
    if free.low >= 0:
        return f"free {gib_range(free.low, free.high)}", ""
    if free.high >= 0:
        return f"free at best {gib(free.high)}", "$warning"
    return f"short by {gib_range(-free.high, -free.low)}", "$error"


def sentences(memory: MemoryReport, found: Shares) -> list[list[Part]]:
    """Whether it fits and what can be done with it, at length and in short."""
    length = f"{memory.max_tokens:,}"
    if memory.fits is None:
        needs = gib_range(found.needed.low, found.needed.high)
        said: Part = (f" Takes {needs} GiB with one request of {length} tokens", "")
        return [[said], [(f" Takes {needs} GiB", "")]]
    longest = memory.max_tokens_that_fit
    parts: list[Part] = []
    if not memory.fits:
        parts.append((f" {words.FAILED} Does not fit", "$error"))
        parts.append((f" with {length} tokens", "$muted"))
        if longest:
            parts += [(" · longest context that fits ", "$muted"), (f"{longest:,}", "$strong bold")]
        return [parts, [parts[0], *parts[2:]]]
    if memory.kv_cache_bytes_per_request == 0:
        return [[(" Fits; it keeps no KV cache, so length costs next to nothing", "")]]
    if longest:
        parts += [(" Longest context that fits ", "$muted"), (f"{longest:,}", "$strong bold")]
    if memory.concurrency:
        parts += [
            (" · " if parts else " ", "$muted"),
            (requests(memory.concurrency), "$strong bold"),
            (f" at {length}", "$muted"),
        ]
    parts = parts or [(" Fits", "")]
    if found.free.low < 0:
        close: Part = (f"  {words.ATTENTION} close: it may not fit", "$warning")
        shortly: Part = (f"  {words.ATTENTION} close", "$warning")
        return [[*parts, close], [*parts, shortly], parts]
    return [parts]


def instead(report: CheckReport, known: Known) -> list[list[list[Part]]]:
    """What to change, and which GPUs would do: for each line its choices, long to short."""
    fits = report.memory.fits if report.memory else None
    lines = []
    if report.changes and not fits:
        lines.append(_listed(" → ", " · ", [one_line(text, 200) for text in report.changes]))
    names = [_short(text, known) for text in report.alternatives if not _is_it(text, report)]
    if names:
        before = {True: " Also fits  ", False: " Would fit  ", None: " Fits on  "}[fits]
        lines.append(_listed(before, "   ", names))
    return lines


def _is_it(text: str, report: CheckReport) -> bool:
    """Whether it is the very GPU that the report is about."""
    return bool(report.memory and text.rpartition(" × ")[0] == report.memory.gpu)


def _short(text: str, known: Known) -> str:
    """`L40S 48GB × 1` with the name that the catalogue has for it."""
    name, times, count = text.rpartition(" × ")
    return f"{gpu_text(name, known)} × {one_line(count, 9)}" if times else one_line(text, 60)


def _listed(before: str, between: str, items: list[str]) -> list[list[Part]]:
    return [
        [(before, "$muted"), (between.join(items[:count]), "")]
        for count in range(len(items), 0, -1)
    ]

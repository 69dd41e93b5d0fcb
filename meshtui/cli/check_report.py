"""A verdict as lines for a terminal."""

from collections.abc import Iterator

from meshtui.domain.check import CheckReport, MemoryReport, Verdict
from meshtui.domain.finding import Level
from meshtui.domain.memory import GIB, MemoryItem
from meshtui.domain.text import one_line

SIGNS = {Level.OK: "●", Level.WARNING: "!", Level.BLOCKER: "✗"}
VERDICTS = {
    Verdict.RUNS: "●",
    Verdict.WARNINGS: "!",
    Verdict.BLOCKED: "✗",
    Verdict.UNKNOWN: "?",
}
_BAR_CELLS = 40
# What each part is drawn with, from the left.
_FILLS = {"weights": "█", "kv_cache": "▓"}
_OTHER = "▒"
_WORDS = {
    "kv_cache": "KV cache",
    "non_torch": "CUDA and NCCL",
    "cuda_graphs": "CUDA graphs",
}


def report_lines(report: CheckReport) -> Iterator[str]:
    """The verdict first, then the memory, what was found, and what else would do."""
    yield f"{VERDICTS[report.verdict]} {report.model}  {one_line(report.summary, 2000)}"
    if report.memory is not None:
        yield ""
        yield from memory_lines(report.memory)
    yield ""
    width = max((len(finding.rule) for finding in report.findings), default=0)
    for finding in report.findings:
        message = one_line(finding.message, 2000)
        yield f"  {SIGNS[finding.level]} {finding.rule:<{width}}  {message}"
        if finding.fix and finding.level is not Level.OK:
            yield f"    {'':<{width}}  → {one_line(finding.fix, 2000)}"
    if report.changes:
        yield ""
        yield "  What would help:"
        yield from (f"    {one_line(change, 2000)}" for change in report.changes)
    if report.alternatives:
        yield ""
        yield f"  Also: {', '.join(report.alternatives)}"
    if settings := proposed(report):
        yield ""
        yield f"  Proposed: {settings}"


def memory_lines(memory: MemoryReport) -> Iterator[str]:
    """The bar of one GPU, its parts, and what it holds."""
    badges = [name for name, on in (("SIM", memory.simulated and memory.gpu is not None),
                                    ("measured", memory.measured)) if on]  # fmt: skip
    many = f" × {memory.gpu_count}" if memory.gpu_count > 1 else ""
    badge = f"  [{', '.join(badges)}]" if badges else ""
    if memory.gpu is not None and memory.gpu_bytes:
        yield f"  {memory.gpu}{many}, {gib(memory.gpu_bytes)} each{badge}"
        yield f"  ▕{bar(memory, memory.gpu_bytes)}▏"
    else:
        on = "one GPU" if memory.gpu_count == 1 else f"each of {memory.gpu_count} GPUs"
        yield f"  {gib(memory.total_bytes_per_gpu)} on {on}"
    yield from _rows(memory)
    if memory.max_tokens_that_fit is not None:
        held = f"longest context that fits {memory.max_tokens_that_fit:,}"
        if memory.concurrency:
            held += f" · {memory.concurrency:g} requests of {memory.max_tokens:,} tokens at a time"
        yield f"  {held[0].upper()}{held[1:]}"
    yield from (f"  {one_line(note, 400)}" for note in memory.notes)


def _rows(memory: MemoryReport) -> Iterator[str]:
    """The parts below each other: name, likely size, bounds, and how it was reckoned."""
    rows = [
        (_WORDS.get(one.name, one.name.replace("_", " ")), gib(one.likely_bytes), *_about(one))
        for one in memory.parts
    ]
    rows.append(("together", gib(memory.total_bytes_per_gpu), "", ""))
    name, size, bounds = (max(len(row[at]) for row in rows) for at in range(3))
    for row in rows:
        line = f"    {row[0]:<{name}}  {row[1]:>{size}}  {row[2]:<{bounds}}  {row[3]}"
        yield line.rstrip()


def bar(memory: MemoryReport, gpu_bytes: int) -> str:
    """How full the GPU would be; what goes beyond it ends in `>`."""
    drawn = ""
    seen = 0
    for part in memory.parts:
        seen += part.likely_bytes
        upto = round(_BAR_CELLS * seen / gpu_bytes)
        drawn += _FILLS.get(part.name, _OTHER) * (min(upto, _BAR_CELLS * 2) - len(drawn))
    if len(drawn) > _BAR_CELLS:
        return drawn[: _BAR_CELLS - 1] + ">"
    return drawn + "░" * (_BAR_CELLS - len(drawn))


def interval(part: MemoryItem) -> str:
    """The likely size, with its bounds where they differ, and how it was reckoned."""
    return "  ".join(word for word in (gib(part.likely_bytes), *_about(part)) if word)


def _about(part: MemoryItem) -> tuple[str, str]:
    """The bounds where they differ (or that it was measured), and how it was reckoned."""
    low, high = f"{part.low_bytes / GIB:.2f}", f"{part.high_bytes / GIB:.2f}"
    bounds = f"({low} to {high})" if low != high else ""
    return "measured" if part.measured else bounds, one_line(part.formula, 300)


def gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.2f} GiB"


def proposed(report: CheckReport) -> str:
    """The proposed settings in a line; empty where there are none."""
    found = report.proposal
    if found is None:
        return ""
    settings = {
        "max tokens": f"{found.max_tokens:,}" if found.max_tokens else None,
        "tensor parallel": found.tensor_parallel_size if found.tensor_parallel_size > 1 else None,
        "quantization": found.quantization,
        "KV cache": found.kv_cache_dtype,
        "tool calls": found.tool_call_parser,
        "reasoning": found.reasoning_parser,
        "trust_remote_code": "on" if found.trust_remote_code else None,
    }
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value)

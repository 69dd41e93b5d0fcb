"""Up to three cases side by side: models, GPUs, or both."""

from collections.abc import Sequence

from textual.content import Content

from meshtui.domain.check import CheckReport
from meshtui.domain.finding import Finding, Level
from meshtui.domain.text import one_line

from .. import words
from ..widgets.wrapping import fit_cells, wrap
from .asking import Case
from .parameters import Known, gpu_text
from .picture import Part, bar_cells
from .shares import bar, shares
from .verdict import (
    engine,
    error_text,
    gib,
    gib_range,
    headline,
    level_sign,
    of_level,
    title,
    verdict_sign,
)

MOST = 3
_LABEL_CELLS = 17
_GAP = 2
_MOST_FINDINGS = 6

# What one column says in a row: lines of parts.
Cell = list[list[Part]]


def sheet(cases: Sequence[Case], marked: int, known: Known, width: int) -> Content:
    """The whole comparison, `width` cells wide. A row has as many lines as its longest cell."""
    column = max(12, (width - _LABEL_CELLS) // max(1, len(cases)) - _GAP)
    rows = [
        ("", [_name(case, number == marked, column) for number, case in enumerate(cases)]),
        ("GPU", [_gpus(case, known, column) for case in cases]),
        ("", [_verdict(case, column) for case in cases]),
    ]
    reports = [case.report for case in cases]
    rows += [
        ("", [[] for _case in cases]),
        ("Engine", [_plain(engine(r) if r else "") for r in reports]),
        ("Max tokens", [_plain(_max_tokens(r)) for r in reports]),
        ("Memory", [_bar(r, column) for r in reports]),
        ("weights", [_part(r, "weights", column) for r in reports]),
        ("KV cache", [_part(r, "kv_cache", column) for r in reports]),
        ("other", [_part(r, "other", column) for r in reports]),
        ("free", [_part(r, "free", column) for r in reports]),
        ("Longest context", [_plain(_longest(r)) for r in reports]),
        ("Requests", [_plain(_requests(r)) for r in reports]),
        ("", [[] for _case in cases]),
        ("Findings", [_findings(r, column) for r in reports]),
    ]
    lines: list[Content] = []
    for label, cells in rows:
        lines += _row(label, cells, column)
    return Content("\n").join(lines)


def _row(label: str, cells: Sequence[Cell], column: int) -> list[Content]:
    height = max(1, *(len(cell) for cell in cells))
    lines = []
    for at in range(height):
        parts: list[Part] = [(fit_cells(label if at == 0 else "", _LABEL_CELLS), "$muted")]
        for cell in cells:
            parts += _filled(cell[at] if at < len(cell) else [], column)
        lines.append(Content.assemble(*parts))
    return lines


def _filled(parts: list[Part], column: int) -> list[Part]:
    """The parts in exactly a column's cells and the gap after it."""
    content = Content.assemble(*parts) if parts else Content("")
    used = content.cell_length
    if used <= column:
        return [*parts, (" " * (column - used + _GAP), "")]
    if len(parts) == 1:
        return [(fit_cells(parts[0][0], column), parts[0][1]), (" " * _GAP, "")]
    rest = max(0, column - sum(Content(text).cell_length for text, _tone in parts[:-1]))
    return [*parts[:-1], (fit_cells(parts[-1][0], rest), parts[-1][1]), (" " * _GAP, "")]


def _name(case: Case, is_marked: bool, column: int) -> Cell:
    short = one_line(case.model.rstrip("/").rpartition("/")[2], 200)
    owner = one_line(case.model.rstrip("/").rpartition("/")[0], 200)
    mark: Part = ("▌", "$primary") if is_marked else (" ", "")
    rows = wrap(short, column - 1)[:2]
    return [
        [mark, (fit_cells(owner, column - 1).rstrip(), "$muted")],
        *([mark, (row, "$strong bold")] for row in rows),
    ]


def _gpus(case: Case, known: Known, column: int) -> Cell:
    """Which and how many, and how large they are where there is room for it."""
    memory = case.report.memory if case.report else None
    name = (memory.gpu if memory else None) or case.wishes.gpu
    if not name:
        return _plain("–")
    text = f"{gpu_text(name, known)} × {memory.gpu_count if memory else case.wishes.gpus or 1}"
    if memory and memory.gpu_bytes:
        with_size = f"{text}, {gib(memory.gpu_bytes)} GiB"
        text = with_size if len(with_size) <= column else text
    return _plain(text)


def _verdict(case: Case, column: int) -> Cell:
    if case.error:
        rows = wrap(error_text(case.error), column - 2)
        return [
            [(f"{words.FAILED} " if at == 0 else "  ", "$error"), (row, "$error")]
            for at, row in enumerate(rows[:4])
        ]
    if case.report is None:
        return [[(f"{words.WORKING} ", "$warning"), ("checking…", "$muted")]]
    sign, tone = verdict_sign(case.report.verdict)
    rows = wrap(headline(case.report), column - 2)
    return [
        [(f"{sign} " if at == 0 else "  ", tone), (row, tone)] for at, row in enumerate(rows[:3])
    ]


def _plain(text: str) -> Cell:
    return [[(text, "")]] if text else []


def _max_tokens(report: CheckReport | None) -> str:
    return f"{report.memory.max_tokens:,}" if report and report.memory else ""


def _longest(report: CheckReport | None) -> str:
    longest = report.memory.max_tokens_that_fit if report and report.memory else None
    return f"{longest:,}" if longest else ""


def _requests(report: CheckReport | None) -> str:
    memory = report.memory if report else None
    if memory is None or not memory.concurrency:
        return ""
    return f"{memory.concurrency:,.1f} at {memory.max_tokens:,}"


def _bar(report: CheckReport | None, column: int) -> Cell:
    if report is None or report.memory is None:
        return []
    cells = bar_cells(bar(shares(report.memory), column - 2))
    return [[("▏", "$muted"), *cells, ("▕", "$muted")]]


def _part(report: CheckReport | None, name: str, column: int) -> Cell:
    if report is None or report.memory is None:
        return []
    found = shares(report.memory)
    if name == "weights":
        return _plain(f"{gib_range(found.weights.low, found.weights.high)} GiB")
    if name == "kv_cache":
        return _plain(f"{gib(found.kv_cache)} GiB")
    if name == "other":
        return _plain(f"{gib_range(found.other.low, found.other.high)} GiB")
    if found.usable is None:
        return []
    if found.free.high < 0:
        least, span = gib(-found.free.high), gib_range(-found.free.high, -found.free.low)
        said = (f"short by {span} GiB", f"short by {span}", f"short by {least}")
        return [[(next((text for text in said if len(text) <= column), said[-1]), "$error")]]
    if found.free.low < 0:
        return [[(f"{gib(found.free.high)} GiB at best", "$warning")]]
    return _plain(f"{gib_range(found.free.low, found.free.high)} GiB")


def _findings(report: CheckReport | None, column: int) -> Cell:
    """Only what is not in order; the first lines of each."""
    if report is None:
        return []
    found: list[Finding] = []
    for level in (Level.BLOCKER, Level.WARNING):
        found += of_level(report, level)
    cell: Cell = []
    for finding in found[:_MOST_FINDINGS]:
        sign, tone = level_sign(finding.level)
        cell.append([(f"{sign} ", tone), (title(finding.rule), "$strong")])
        rows = wrap(one_line(finding.message, 400), column - 2)
        cell += [[("  ", ""), (row, "$muted")] for row in rows[:4]]
    if len(found) > _MOST_FINDINGS:
        cell.append([(f"and {len(found) - _MOST_FINDINGS} more", "$muted")])
    return cell or [[(f"{words.READY} ", "$success"), ("nothing in the way", "$muted")]]

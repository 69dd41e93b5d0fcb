"""A report as Markdown, for an issue or a colleague, and as JSON, for programs."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
from textual.screen import Screen

from meshtui.domain.check import CheckReport
from meshtui.domain.finding import Finding
from meshtui.domain.text import one_line

from ..files import save_new
from ..frame import workstation
from ..widgets.dialogs import Ask
from ..work import start
from .asking import Case
from .shares import shares
from .verdict import engine, facts, gib, gib_range, headline, ordered, requests, title, where

_MOST_CHARS = 2000


def save(screen: Screen[None], *cases: Case) -> None:
    """Asks for a name, and writes the reports there."""

    def named(name: str | None) -> None:
        if name:
            start(
                screen, partial(save_new, workstation(screen), name, as_file(cases, name).encode())
            )

    what = "comparison" if len(cases) > 1 else "report"
    path = str(Path.cwd() / file_name(*cases))
    question = Ask(f"Save the {what} as (.md or .json)", path, "Save")
    screen.app.push_screen(question, named)


def as_file(cases: Sequence[Case], name: str) -> str:
    """What belongs into a file of that name: JSON where it ends so (a report, or a list of several
    ones), else Markdown."""
    if Path(name).suffix.lower() != ".json":
        return markdown(*cases)
    reports = [case.report for case in cases if case.report]
    content = reports[0] if len(reports) == 1 else reports
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode()


def file_name(*cases: Case) -> str:
    """A name for the file that says what is in it."""
    models = dict.fromkeys(case.model.rstrip("/").rpartition("/")[2] for case in cases)
    name = "-and-".join(models)
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name[:80])
    return f"check-{kept.strip('.-') or 'model'}.md"


def markdown(*cases: Case) -> str:
    """The reports as text, one below the other."""
    texts = ["\n".join(_lines(case, case.report)) for case in cases if case.report]
    return "\n\n".join(texts) + "\n" if texts else ""


def _lines(case: Case, report: CheckReport) -> Iterator[str]:
    yield f"# {_escaped(report.model)}"
    yield ""
    yield f"**{_escaped(headline(report))}**"
    if report.summary:
        yield ""
        yield _escaped(report.summary)
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in _settings(case, report):
        yield f"| {name} | {_escaped(value)} |"
    if report.memory:
        yield ""
        yield "## Memory of one GPU"
        yield ""
        yield from _memory(report)
    yield ""
    yield "## Findings"
    yield ""
    for finding in ordered(report.findings):
        yield _finding(finding)
    for heading, items in (
        ("What would help", report.changes),
        ("GPUs that would do", report.alternatives),
    ):
        if items:
            yield ""
            yield f"## {heading}"
            yield ""
            yield from (f"- {_escaped(item)}" for item in items)


def _settings(case: Case, report: CheckReport) -> Iterator[tuple[str, str]]:
    memory, wishes = report.memory, case.wishes
    yield "Model", ", ".join(facts(report))
    yield "Engine", engine(report)
    yield "Runtime", report.runtime or "–"
    yield "GPU", where(report, wishes) + (" (simulated)" if memory and memory.simulated else "")
    yield "Max tokens", f"{memory.max_tokens:,}" if memory else "–"
    yield "KV cache", wishes.kv_cache_dtype or "auto"
    yield "Quantization", wishes.quantization or "as it is"


def _memory(report: CheckReport) -> Iterator[str]:
    memory = report.memory
    if memory is None:
        return
    found = shares(memory)
    yield "| | GiB |"
    yield "|---|---:|"
    yield f"| weights | {gib_range(found.weights.low, found.weights.high)} |"
    yield f"| KV cache of one request | {gib(found.kv_cache)} |"
    if found.others:
        for part in found.others:
            yield f"| {_escaped(part.name)} | {gib_range(part.low_bytes, part.high_bytes)} |"
    else:
        yield f"| other | {gib_range(found.other.low, found.other.high)} |"
    yield f"| needed | {gib_range(found.needed.low, found.needed.high)} |"
    if found.usable is not None and found.total is not None:
        yield f"| may be taken of {gib(found.total)} | {gib(found.usable)} |"
    yield ""
    if memory.fits is not None:
        yield "It fits." if memory.fits else "It does not fit."
    if memory.max_tokens_that_fit:
        yield f"The longest context that fits is {memory.max_tokens_that_fit:,} tokens."
    if memory.concurrency:
        yield f"{requests(memory.concurrency)} of {memory.max_tokens:,} tokens fit at a time."
    yield "These figures were measured." if found.measured else "These figures are estimates."


def _finding(finding: Finding) -> str:
    fix = f" *{_escaped(finding.fix)}*" if finding.fix else ""
    return f"- **{finding.level.value}** {title(finding.rule)}: {_escaped(finding.message)}{fix}"


def _escaped(text: str) -> str:
    """Text that Markdown leaves as it is."""
    line = one_line(text, _MOST_CHARS)
    return "".join(f"\\{c}" if c in "\\`*[]<>|" else c for c in line)

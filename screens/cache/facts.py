"""What is known of an entry, line by line."""

from collections.abc import Iterable, Iterator
from textwrap import wrap

from textual.content import Content

from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import CacheDetails, CacheEntry, Transfer
from meshtui.domain.text import one_line, sanitise

from .. import words
from ..widgets.table import Column, Row
from .rows import EntryRow, age, damage, danger_of, state_of, weights_text

Pair = tuple[str, str]

_LABEL = 13
_SIGNS = {
    Level.OK: (words.READY, "$success"),
    Level.WARNING: (words.ATTENTION, "$warning"),
    Level.BLOCKER: (words.FAILED, "$error"),
}

FILE_COLUMNS = (
    Column("FILE", 24, most=40),
    Column("SIZE", 7, right=True),
    Column("SHA-256", 14, most=64, drop=1),
)


def file_rows(details: CacheDetails) -> list[Row]:
    rows = [
        Row(
            file.path,
            (
                (one_line(file.path), ""),
                (words.size(file.size_bytes), ""),
                (one_line(file.sha256 or "–"), "$muted"),
            ),
        )
        for file in details.files
    ]
    if details.more_files:
        more = f"… and {words.plural(details.more_files, 'more file')}"
        rows.append(Row("", ((more, "$muted"), ("", ""), ("", ""))))
    return rows


def heading(row: EntryRow) -> Content:
    """Sign, name and state."""
    sign, text, tone = state_of(row)
    return Content.assemble(
        (f"{sign.strip() or words.READY} ", tone),
        (row.name, "$strong bold"),
        (f"   {text}", "$muted"),
    )


def finding_lines(findings: Iterable[Finding], width: int) -> Iterator[Content]:
    """Each with its sign, and what to do about it below."""
    for finding in findings:
        sign, tone = _SIGNS[finding.level]
        first, *rest = wrap(one_line(finding.message, 1000), width - 2) or [""]
        yield Content.assemble((f"{sign} ", tone), first)
        yield from (Content(f"  {line}") for line in rest)
        for line in wrap(one_line(finding.fix, 1000), width - 2):
            yield Content.styled(f"  {line}", "$muted")


def entry_lines(entry: CacheEntry, width: int) -> Iterator[Content]:
    """All that the list knows of it."""
    checked = entry.verification
    pairs: list[Pair] = []
    if entry.problem:
        pairs.append(("broken", entry.problem))
    if danger := danger_of(entry):
        name, _, what = danger.partition(": ")
        pairs.append((name, f"{what}: {', '.join(entry.unsafe)}"))
    if harm := damage(entry):
        pairs.append(("damaged", harm))
    pairs += [
        ("task", " · ".join(filter(None, (entry.task, entry.library)))),
        ("weights", _weights(entry)),
        ("licence", entry.licence or "not said"),
        ("revision", entry.commit or ""),
        ("languages", ", ".join(entry.languages)),
        ("tags", ", ".join(entry.tags)),
        ("brought in", _when(entry.downloaded_at, entry.downloaded_by)),
        ("last used", _when(entry.last_used_at, entry.last_used_by) or "never"),
        ("verified", f"{age(checked.at)} against {checked.against}" if checked else "never"),
        ("enabled on", ", ".join(entry.enabled_on)),
        ("served by", ", ".join(entry.served_by)),
        ("folder", entry.folder),
        ("page", entry.url),
    ]
    yield from pair_lines(pairs, width)


def details_lines(details: CacheDetails, width: int) -> Iterator[Content]:
    """The whole of it: verdict, findings, facts, the model card."""
    entry = details.entry
    yield heading(EntryRow(entry.model, entry))
    yield Content("")
    count = len(details.files) + details.more_files
    context = words.plural(details.context_length, "token") if details.context_length else ""
    pairs = [
        ("runs", details.verdict),
        ("architecture", ", ".join(details.architectures)),
        ("context", context),
        ("size", f"{words.size(entry.size_bytes)} in {words.plural(count, 'file')}"),
        ("deleting", f"frees {words.size(details.frees_bytes)}"),
    ]
    yield from pair_lines(pairs, width)
    yield from entry_lines(entry, width)
    findings = [*details.findings, *(entry.verification.findings if entry.verification else ())]
    if findings:
        yield Content("")
        yield Content.styled("Findings", "$key")
        yield from finding_lines(findings, width)
    if details.card.strip():
        yield Content("")
        yield Content.styled("Model card", "$key")
        for line in sanitise(details.card).strip().split("\n"):
            yield from (Content(part) for part in wrap(line.expandtabs(4), width) or [""])


def transfer_lines(transfer: Transfer, width: int) -> Iterator[Content]:
    """How it stands or ended, and what to do about it."""
    row = EntryRow(transfer.model or transfer.id, None, transfer)
    yield heading(row)
    if transfer.error:
        for line in wrap(one_line(transfer.error.message, 2000), width):
            yield Content.styled(line, "$error")
        for line in wrap(one_line(transfer.error.hint or "", 2000), width):
            yield Content(line)
    total = transfer.total_bytes
    amount = words.size(transfer.done_bytes) if transfer.done_bytes or total else ""
    pairs = [
        ("what", transfer.kind.value),
        ("from or to", transfer.place or ""),
        ("step", transfer.step),
        ("moved", f"{amount} of {words.size(total)}" if total and amount else amount),
        ("began", age(transfer.started_at) if transfer.started_at else ""),
        ("ended", age(transfer.ended_at) if transfer.ended_at else ""),
    ]
    yield from pair_lines(pairs, width)
    yield from finding_lines(transfer.findings, width)


def pair_lines(pairs: Iterable[Pair], width: int) -> Iterator[Content]:
    """Names and values, those that have one; long values go on below."""
    for name, value in pairs:
        text = one_line(value, 2000)
        first, *rest = wrap(text, max(20, width - _LABEL)) or [""]
        if first:
            yield Content.assemble((f"{name:<{_LABEL}}", "$muted"), first)
            yield from (Content(" " * _LABEL + line) for line in rest)


def _weights(entry: CacheEntry) -> str:
    weights = entry.weights
    kind = weights_text(weights)
    if not kind:
        return "none"
    size = words.size(weights.size_bytes) if weights.size_bytes else ""
    stored = "" if kind.startswith(weights.format.value) else weights.format.value
    return " · ".join(filter(None, (kind, stored, size)))


def _when(at: float | None, who: str | None) -> str:
    if not at:
        return ""
    return f"{age(at)} by {who}" if who else age(at)

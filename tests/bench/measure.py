"""What the benches share: ratios of medians, taken in turn, tried again when the machine is noisy.

A figure is only ever compared with something run beside it, one after the other, so that a slow
machine slows both. Noise makes a ratio worse, hardly ever better: a bound that is missed is
measured again, and it has failed when no attempt meets it.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ATTEMPTS = 12
# What was measured last under each title, for the summary at the end of the run.
TABLES: dict[str, str] = {}


@dataclass(frozen=True)
class Row:
    """One line of a table: a figure, what it was held against, and the bound on their ratio."""

    what: str
    ours: float
    beside: float
    bound: float
    unit: str

    @property
    def ratio(self) -> float:
        return self.ours / self.beside

    @property
    def holds(self) -> bool:
        return self.ratio <= self.bound


def in_turn(runs: int, *measures: Callable[[], float], warm_up: int = 1) -> tuple[list[float], ...]:
    """Calls the measures one after the other, `runs` times; the first rounds do not count."""
    results: tuple[list[float], ...] = tuple([] for _ in measures)
    for round_number in range(warm_up + runs):
        for measure, kept in zip(measures, results, strict=True):
            figure = measure()
            if round_number >= warm_up:
                kept.append(figure)
    return results


def median(figures: Sequence[float]) -> float:
    return statistics.median(figures)


def percentile(figures: Sequence[float], share: float) -> float:
    """The smallest figure that at least `share` of all do not exceed."""
    ordered = sorted(figures)
    return ordered[max(0, min(len(ordered) - 1, round(share * len(ordered)) - 1))]


def require(title: str, attempt: Callable[[], Sequence[Row]]) -> None:
    """Measures until every bound has held, at most `ATTEMPTS` times; prints each table.

    Each figure stands for itself: one that held in an earlier attempt is not asked again.
    """
    best: dict[str, Row] = {}
    for number in range(1, ATTEMPTS + 1):
        rows = attempt()
        print(f"\n{title} (attempt {number})\n{table(rows)}")
        for row in rows:
            if row.what not in best or row.ratio < best[row.what].ratio:
                best[row.what] = row
        TABLES[title] = f"{title} (best of {number})\n{table(list(best.values()))}"
        if all(row.holds for row in best.values()):
            return
    missed = [row.what for row in best.values() if not row.holds]
    raise AssertionError(f"{title}: bound missed in {ATTEMPTS} attempts: {', '.join(missed)}")


def table(rows: Sequence[Row]) -> str:
    lines = [("", "ours", "beside", "ratio", "bound", "")]
    for row in rows:
        lines.append(
            (
                row.what,
                f"{row.ours:,.4g} {row.unit}",
                f"{row.beside:,.4g} {row.unit}",
                f"{row.ratio:.3f}",
                f"{row.bound:g}",
                "" if row.holds else "MISSED",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )

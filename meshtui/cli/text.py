"""How numbers, times and tables read on a terminal."""

import time
from collections.abc import Collection, Iterable, Sequence

from meshtui.domain.amounts import size_of
from meshtui.domain.text import cells, one_line


def duration(seconds: float | None) -> str:
    """`0:42`, `1:15`, `2:03:09`; an en dash where there is none."""
    if seconds is None:
        return "–"
    whole = int(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ago(at: float | None) -> str:
    """How long ago a time (seconds since the epoch) was: `3 m ago`."""
    if at is None:
        return "–"
    seconds = max(0.0, time.time() - at)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"


def size(count_bytes: int | None) -> str:
    """Decimal units as disks and files are sold: `269 MB`, `5.9 GB`."""
    return "–" if count_bytes is None else size_of(count_bytes)


def percent(progress: float | None) -> str:
    return "" if progress is None else f"{progress:.0%}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str] = ()) -> str:
    """Columns padded to their widest cell; every cell is sanitised and on one line. The columns
    with the heads in `right` stand to the right, as numbers do."""
    lines = [list(head), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(cells(line[column]) for line in lines) for column in range(len(head))]

    def padded(cell: str, column: int) -> str:
        room = " " * (widths[column] - cells(cell))
        return room + cell if head[column] in right else cell + room

    return "\n".join(
        "  ".join(padded(cell, column) for column, cell in enumerate(line)).rstrip()
        for line in lines
    )

"""Text wrapped to a width as it arrives, at a cost per piece that does not grow with the text."""

from rich.cells import cell_len, split_graphemes

_TAB = "    "


def wrap(line: str, width: int) -> list[str]:
    """Rows of at most `width` cells, broken at spaces where there are any. Spaces at a break are
    dropped. Appending to `line` never changes any row but the last one."""
    if len(line) <= width and line.isascii():
        return [line]
    return _wrap_ascii(line, width) if line.isascii() else _wrap_cells(line, width)


def _wrap_ascii(line: str, width: int) -> list[str]:
    rows = []
    start, end = 0, len(line)
    while end - start > width:
        cut = line.rfind(" ", start + 1, start + width + 1)
        if cut < 0:
            rows.append(line[start : start + width])
            start += width
        else:
            rows.append(line[start:cut])
            start = cut + 1
    rows.append(line[start:])
    return rows


def _wrap_cells(line: str, width: int) -> list[str]:
    spans, total = split_graphemes(line)
    if total <= width:
        return [line]
    rows = []
    start = used = 0
    space: int | None = None
    used_at_space = 0
    for begin, end, cells in spans:
        if used + cells > width and begin > start:
            if line[begin:end] == " ":
                rows.append(line[start:begin])
                start, used, space = end, 0, None
                continue
            if space is not None:
                rows.append(line[start:space])
                start, used = space + 1, used - used_at_space
            else:
                rows.append(line[start:begin])
                start, used = begin, 0
            space = None
        used += cells
        if line[begin:end] == " " and begin > start:
            space, used_at_space = begin, used
    rows.append(line[start:])
    return rows


class WrappedText:
    """Rows of a text that grows at its end.

    Only the last row is wrapped again when text arrives; a new width wraps everything once.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.width = 0
        self.rows: list[str] = []

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def __len__(self) -> int:
        return len(self.rows)

    def feed(self, text: str) -> int:
        """Adds text; returns the first row that changed."""
        self._pieces.append(text)
        if not self.width:
            return 0
        return self._lay_out(text)

    def fit(self, width: int) -> None:
        """Wraps to `width` cells."""
        if width != self.width and width > 0:
            self.width = width
            self.rows = []
            self._lay_out(self.text)

    def _lay_out(self, text: str) -> int:
        if not self.rows:
            if not text:
                return 0
            self.rows.append("")
        first = len(self.rows) - 1
        lines = text.replace("\t", _TAB).split("\n")
        lines[0] = self.rows.pop() + lines[0]
        for line in lines:
            self.rows.extend(wrap(line, self.width))
        return first


def fit_cells(text: str, width: int) -> str:
    """The text in exactly `width` cells: padded, or cut with an ellipsis."""
    length = cell_len(text)
    if length <= width:
        return text + " " * (width - length)
    if width <= 0:
        return ""
    rows = _wrap_cells(text.replace(" ", "\u00a0"), width - 1)
    kept = text[: len(rows[0])]
    return kept + "…" + " " * (width - 1 - cell_len(kept))

"""What the test of a connection found."""

from collections.abc import Sequence

from textual.content import Content

from meshtui.domain.finding import Finding
from meshtui.domain.text import one_line

from ..widgets.dialogs import Reader
from .rows import finding_lines


class ProbeResult(Reader):
    """All findings, with what to do."""

    def __init__(self, name: str, findings: Sequence[Finding]) -> None:
        super().__init__()
        self._tested, self._findings = name, findings

    def heading(self) -> str:
        return f"Test of {one_line(self._tested)}"

    def content(self) -> Content:
        return Content("\n").join(finding_lines(self._findings))

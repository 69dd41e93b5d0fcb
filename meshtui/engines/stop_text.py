"""Cuts an answer at its stop texts, however it is divided into pieces."""

from collections.abc import Sequence


class StopCutter:
    """Lets text through until a stop text begins.

    A tail that may be the beginning of a stop text is held back until it is known to be one or
    not. `matched` is the stop text that was found; nothing passes after it.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.matched: str | None = None

    def feed(self, piece: str) -> str:
        """The text that may be shown now."""
        if self.matched is not None:
            return ""
        if not self._stops:
            return piece
        text = self._held + piece
        self._held = ""
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            at, self.matched = min(found, key=lambda hit: hit[0])
            return text[:at]
        keep = self._beginning(text)
        if keep:
            text, self._held = text[:-keep], text[-keep:]
        return text

    def finish(self) -> str:
        """What was held back and turned out to be text."""
        text, self._held = self._held, ""
        return text

    def _beginning(self, text: str) -> int:
        """Length of the longest tail that a stop text begins with."""
        longest = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:size]):
                    longest = size
                    break
        return longest

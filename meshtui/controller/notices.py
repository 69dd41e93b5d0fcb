"""Sentences that whoever opens a screen should see: what does not work as it should."""

from collections.abc import Callable

_MOST = 20


class Notices:
    """The newest notices, each once; `changed` is called when one is added or removed."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.changed: Callable[[], None] = lambda: None

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(self._texts)

    def add(self, text: str) -> None:
        if text not in self._texts:
            self._texts = [*self._texts, text][-_MOST:]
            self.changed()

    def remove(self, text: str) -> None:
        """What it says is over."""
        if text in self._texts:
            self._texts = [other for other in self._texts if other != text]
            self.changed()

"""Sentences that whoever opens a screen should see: what does not work as it should."""

from collections.abc import Callable

_MOST = 20


class Notices:
    """The newest notices, each once; `changed` is called when one is added."""

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

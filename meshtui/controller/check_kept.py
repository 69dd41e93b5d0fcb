"""Models that were looked into, as many as have room; shared by threads."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from meshtui.engines.check.known import Known


class Kept:
    """The least recently used go first. A model is read again when its signature changed."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._known: OrderedDict[str, tuple[Hashable, Known]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> Known | None:
        """Whatever was kept last, changed or not."""
        with self._lock:
            found = self._known.get(key)
            if found is None:
                return None
            self._known.move_to_end(key)
            return found[1]

    def fresh(self, key: str, signature: Hashable, read: Callable[[], Known]) -> Known:
        """What is kept under that signature, else what `read` gives."""
        with self._lock:
            found = self._known.get(key)
            if found is not None and found[0] == signature:
                self._known.move_to_end(key)
                return found[1]
        known = read()
        with self._lock:
            self._drop(key)
            self._known[key] = (signature, known)
            self._bytes += known.size_bytes
            while self._bytes > self._most_bytes and len(self._known) > 1:
                self._drop(next(iter(self._known)))
        return known

    def _drop(self, key: str) -> None:
        found = self._known.pop(key, None)
        if found is not None:
            self._bytes -= found[1].size_bytes

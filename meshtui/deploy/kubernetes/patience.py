"""How long a cluster may go on trying what fails, before it is given up."""

import asyncio
from collections.abc import Callable

from meshtui.deploy.kubernetes.phases import Observation
from meshtui.domain.server import Phase

# Images that cannot be pulled, and pods that are refused, do not come right by themselves; a node
# may become free, or be added, at any time.
_PATIENCE_S = {Phase.PULLING_IMAGE: 600.0, Phase.FAILED: 60.0}


class Patience:
    """`lost` is called when the same kind of failure was seen for too long."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._with: Phase | None = None
        self._timer: asyncio.TimerHandle | None = None

    def see(self, seen: Observation) -> None:
        kind = seen.phase if seen.explanation is not None and seen.phase in _PATIENCE_S else None
        if kind is self._with:
            return
        self.forget()
        if kind is not None:
            self._with = kind
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_PATIENCE_S[kind], self._lost)

    def forget(self) -> None:
        """All is well, or over."""
        self._with = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

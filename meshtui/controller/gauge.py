"""How far a transfer is, whoever counts: a thread with its `Work`, or a download."""

import msgspec

from meshtui.cache.work import Work


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the gauge."""

    step: str = ""
    done_bytes: int = 0
    total_bytes: int | None = None
    rate_bytes_s: float = 0.0


class Gauge:
    """Read ten times a second, from the event loop; written by whoever works.

    A thread counts in `work`; what `show` was given last (None: nothing) goes before it.
    """

    def __init__(self) -> None:
        self.work = Work()
        self.model: str | None = None
        self._shown: Reading | None = None

    def show(self, reading: Reading | None) -> None:
        self._shown = reading

    def read(self) -> Reading:
        if self._shown is not None:
            return self._shown
        work = self.work
        return Reading(
            step=work.step,
            done_bytes=work.done_bytes,
            total_bytes=work.total_bytes,
            rate_bytes_s=work.rate_bytes_s(),
        )

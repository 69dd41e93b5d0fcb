"""What happens while one waits, on stderr: one line that changes on a terminal, else one a step."""

import shutil
import sys

from meshtui.cli.text import duration, percent, size
from meshtui.domain.images import ImageStep
from meshtui.domain.model_cache import Transfer, TransferState
from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.server import ServerStatus
from meshtui.domain.text import one_line

_MANY = 1000


class Narrator:
    """Writes progress to stderr without ever mixing with the answer on stdout."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = ""
        self._step = ""

    def server(self, server: ServerStatus) -> None:
        record = server.current
        if record is None:
            return
        took = duration((record.ended_at or 0) - record.started_at) if record.ended_at else ""
        words = [record.phase.value, record.message, percent(record.progress), took]
        self._say(record.phase.value, " ".join(word for word in words if word))

    def runtime(self, runtime: RuntimeStatus) -> None:
        self._say(runtime.step, f"{runtime.step} {percent(runtime.progress)}".rstrip())

    def transfer(self, transfer: Transfer, *, of: int = 1, done: int = 0) -> None:
        """Where there is no terminal, a line every tenth of the way."""
        if transfer.state is TransferState.QUEUED:
            self._say(transfer.id, f"{_name(transfer)}: waiting for its turn")
            return
        fraction = transfer.fraction
        words = [
            f"{done + 1} of {of}" if of > 1 else "",
            f"{_name(transfer)}:",
            transfer.step or transfer.kind.value,
            percent(fraction),
            f"of {size(transfer.total_bytes)}" if transfer.total_bytes else "",
            f"at {size(int(transfer.rate_bytes_s))}/s" if transfer.rate_bytes_s > 0 else "",
            f"{duration(transfer.left_s)} left" if transfer.left_s else "",
        ]
        tenth = None if fraction is None else int(fraction * 10)
        step = f"{transfer.id} {transfer.step} {tenth}"
        self._say(step, " ".join(word for word in words if word))

    def steps(self, step: ImageStep) -> None:
        """Where there is no terminal, a line every tenth of the way."""
        fraction = step.done / max(1, step.total)
        left_s = step.elapsed_s / step.done * (step.total - step.done) if step.done else None
        text = f"Step {step.done} of {step.total} {percent(fraction)} {duration(left_s)} left"
        self._say(f"steps {int(fraction * 10)}", text)

    def count(self, doing: str, done: int) -> None:
        """How many of an unknown number are done; where there is no terminal, every thousand."""
        if self._live or done >= _MANY:
            self._say(f"{doing} {done // _MANY}", f"{doing}: {done:,}")

    def note(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        print(one_line(text, 2000), file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Takes the changing line away, before the answer begins."""
        if self._live and self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self._shown = ""

    def _say(self, step: str, text: str) -> None:
        if self._live:
            line = one_line(text, max(10, shutil.get_terminal_size().columns - 1))
            if line != self._shown:
                sys.stderr.write(f"\r\x1b[K{line}")
                sys.stderr.flush()
                self._shown = line
        elif step != self._step:
            print(one_line(text), file=sys.stderr, flush=True)
        self._step = step


def _name(transfer: Transfer) -> str:
    return transfer.model or transfer.place or transfer.kind.value

"""One server's state: its phases, who uses it, who listens, and when it stops by itself."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from meshtui.deploy.local import EngineProcess
from meshtui.deploy.records import RecordSaver, ServerRecord
from meshtui.domain.server import Explanation, Phase, PhaseRecord, ServerStatus
from meshtui.domain.text import one_line

# How often progress is told to those who listen; phases are told at once.
_TELL_INTERVAL_S = 0.1

_log = logging.getLogger(__name__)


class Server:
    """The state of one server and its one way to change it. Processes and waiting are others'
    affair: this tells every change to `on_change` and to subscribers, saves it, and calls
    `on_idle` when the idle timeout is over."""

    def __init__(
        self,
        folder: Path,
        record: ServerRecord,
        *,
        saver: RecordSaver,
        on_change: Callable[[ServerStatus], None],
        on_idle: Callable[["Server"], None],
    ) -> None:
        self.folder = folder
        self.record = record
        self.process: EngineProcess | None = None
        self.key = ""
        self._saver = saver
        self._on_change = on_change
        self._on_idle = on_idle
        self._listeners: list[Callable[[ServerStatus], None]] = []
        self._telling: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._active = 0

    @property
    def status(self) -> ServerStatus:
        return self.record.status

    @property
    def phase(self) -> Phase:
        return self.status.phase

    # -- phases

    def begin(self) -> None:
        """A new start: everything of the last one is forgotten but its log."""
        old, enabled = self.status, self.record.enabled
        status = ServerStatus(
            id=old.id,
            model=old.model,
            connection=old.connection,
            task=enabled.task,
            phase=Phase.QUEUED,
            phases=(PhaseRecord(phase=Phase.QUEUED, started_at=time.time()),),
            created_at=old.created_at,
            last_used_at=old.last_used_at,
            idle_timeout_s=enabled.idle_timeout_s,
            active_requests=self._active,
        )
        self.keep(
            status=status,
            nonce="",
            engine=None,
            fallback=None,
            model_dir="",
            deadline=0.0,
        )
        self.tell()

    def enter(self, phase: Phase, message: str = "") -> None:
        """The next phase begins now, and the current one ends. The same phase again only changes
        its message."""
        if phase is self.phase:
            self.report(None, message or None)
            return
        now = time.time()
        *done, last = self.status.phases
        phases = (
            *done,
            msgspec.structs.replace(last, ended_at=now),
            PhaseRecord(phase=phase, started_at=now, message=one_line(message)),
        )
        self.change(phase=phase, phases=phases)
        self._arm_idle()
        self.tell()

    def report(self, progress: float | None, message: str | None) -> None:
        """How far the current phase is; told soon, not at once. None leaves as it is."""
        *done, last = self.status.phases
        current = msgspec.structs.replace(
            last,
            progress=last.progress if progress is None else min(1.0, max(0.0, progress)),
            message=last.message if message is None else one_line(message),
        )
        if current != last:
            self.change(phases=(*done, current))

    def ready(self, since: float | None = None) -> None:
        """It answers from now on, or has done so since a moment before."""
        self.change(ready_at=since or time.time())
        self.enter(Phase.READY)

    def over(self, explanation: Explanation | None, message: str = "") -> None:
        """No process is left: Failed where there is an explanation, else Stopped."""
        self.process = None
        self.change(
            stopped_at=time.time(),
            port=None,
            pid=None,
            memory_bytes=None,
            explanation=explanation,
        )
        if explanation is None:
            self.enter(Phase.STOPPED, message)
        else:
            self.enter(Phase.FAILED, explanation.cause)

    def add_notice(self, notice: str) -> None:
        self.change(notices=(*self.status.notices, one_line(notice)))

    def note(self, notice: str) -> None:
        """As `add_notice`, for what may happen again and again: it stands there once."""
        if one_line(notice) not in self.status.notices:
            self.add_notice(notice)

    # -- changes

    def change(self, **fields: Any) -> None:
        """Changes fields of the status; told soon."""
        self.keep(status=msgspec.structs.replace(self.status, **fields))
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(_TELL_INTERVAL_S, self.tell)

    def keep(self, **fields: Any) -> None:
        """Changes fields of the record, which is saved."""
        self.record = msgspec.structs.replace(self.record, **fields)
        self._saver.save(self.folder, self.record)

    async def saved(self) -> None:
        """Waits until all of it is on disk."""
        await self._saver.flush()

    def tell(self) -> None:
        """Tells the present status to all who listen."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        for listener in (self._on_change, *self._listeners):
            try:
                listener(self.status)
            except Exception:
                _log.exception("a listener of %s failed", self.status.id)

    def subscribe(self, listener: Callable[[ServerStatus], None]) -> Callable[[], None]:
        """Calls the listener at every change until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def close(self) -> None:
        """Stops the timers."""
        for timer in (self._telling, self._idle):
            if timer is not None:
                timer.cancel()

    # -- use

    def acquire(self) -> None:
        """A request begins: the server does not stop by itself while it lasts."""
        self._active += 1
        self._used()

    def release(self) -> None:
        """It has ended; the idle timeout starts anew."""
        self._active -= 1
        self._used()

    def touch(self) -> None:
        """Somebody is about to use it."""
        self._used()

    @property
    def is_busy(self) -> bool:
        return self._active > 0

    def used_elsewhere(self, at: float) -> None:
        """Another controller told that it was used: the idle timeout counts from then on."""
        if at > (self.status.last_used_at or 0.0):
            self.change(last_used_at=at)
            self._arm_idle()

    def _used(self) -> None:
        self.change(active_requests=self._active, last_used_at=time.time())
        self._arm_idle()

    def rest(self) -> None:
        """Arms the idle timer of an adopted server, from when it was last used. The requests that
        its record counts ended with the controller that had sent them."""
        self.change(active_requests=self._active)
        self._arm_idle()

    def _arm_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        timeout_s = self.record.enabled.idle_timeout_s
        status = self.status
        stops_at = None
        if status.phase is Phase.READY and not self._active and timeout_s > 0:
            stops_at = max(status.last_used_at or 0.0, status.ready_at or 0.0) + timeout_s
            loop = asyncio.get_running_loop()
            left_s = max(0.0, stops_at - time.time())
            self._idle = loop.call_later(left_s, self._on_idle, self)
        if stops_at != status.stops_at:
            self.change(stops_at=stops_at)

"""One thread that owns the pipeline, and the bounded queue of what is asked of it."""

import asyncio
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .pipeline import Cancelled, Made, OutOfMemory, Pipeline, Say
from .requests import ImageRequest


class QueueFull(Exception):
    """As many requests wait as may."""


@dataclass(frozen=True)
class Step:
    """So many steps of all are done."""

    done: int
    total: int
    elapsed_s: float


@dataclass(frozen=True)
class Preview:
    """An unfinished picture of the request's `number`-th one."""

    number: int
    index: int
    data: bytes


@dataclass(frozen=True)
class Picture:
    number: int
    made: Made


@dataclass(frozen=True)
class Ended:
    """The last event of a job. `error` says why it failed; `status` is the HTTP status of that."""

    elapsed_s: float
    error: str | None = None
    status: int = 200


Event = Step | Preview | Picture | Ended


@dataclass
class Job:
    """A request on its way; its events arrive in `events`, in the loop that made it."""

    request: ImageRequest
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    events: "asyncio.Queue[Event]" = field(default_factory=asyncio.Queue)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def tell(self, event: Event) -> None:
        self.loop.call_soon_threadsafe(self.events.put_nowait, event)


@dataclass
class Totals:
    """What was done since the start."""

    pictures: int = 0
    steps: int = 0
    cancelled: int = 0
    failed: int = 0
    busy_s: float = 0.0


@dataclass(frozen=True)
class State:
    """Where the server stands: a phase in meshtui's words, how far in it, and words."""

    phase: str = "Starting"
    progress: float = 0.0
    message: str = ""

    @property
    def is_ready(self) -> bool:
        return self.phase == "Ready"

    @property
    def has_failed(self) -> bool:
        return self.phase == "Failed"


class Worker:
    """Loads the pipeline in its thread, then serves one job after the other."""

    def __init__(
        self, load: Callable[[Say], Pipeline], most_waiting: int, on_failed: Callable[[], None]
    ) -> None:
        """`on_failed` is called in the thread when the pipeline cannot be loaded."""
        self._load = load
        self._on_failed = on_failed
        self._most_waiting = most_waiting
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._current: Job | None = None
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self.state = State()
        self.pipeline: Pipeline | None = None
        self.totals = Totals()

    def start(self) -> None:
        self._thread.start()

    def submit(self, request: ImageRequest) -> Job:
        """Raises `QueueFull`. Who hung up while waiting holds no place."""
        job = Job(request)
        with self._changed:
            for gone in [waiting for waiting in self._jobs if waiting.cancelled.is_set()]:
                self._jobs.remove(gone)
                self.totals.cancelled += 1
            if len(self._jobs) >= self._most_waiting:
                raise QueueFull
            self._jobs.append(job)
            self._changed.notify()
        return job

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    def end(self) -> None:
        """Cancels what is under way and what waits. The thread ends with the step it is in."""
        with self._changed:
            self._is_ending = True
            if self._current is not None:
                self._current.cancelled.set()
            for job in self._jobs:
                job.tell(Ended(0.0, "The server is ending.", 503))
            self._jobs.clear()
            self._changed.notify()

    def _next(self) -> Job | None:
        """Waits for a job; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._is_ending)
            self._current = None if self._is_ending else self._jobs.popleft()
            return self._current

    def _say(self, phase: str, progress: float, message: str) -> None:
        self.state = State(phase, progress, message)
        print(f"meshtui-images: {phase} {progress:.0%} {message}", flush=True)

    def _run(self) -> None:
        try:
            self.pipeline = self._load(self._say)
        except Exception as error:
            traceback.print_exc()
            self._say("Failed", 0.0, f"{type(error).__name__}: {error}")
            self._on_failed()
            return
        self._say("Ready", 1.0, f"{self.pipeline.name} is loaded")
        while (job := self._next()) is not None:
            self._serve(job, self.pipeline)

    def _serve(self, job: Job, pipeline: Pipeline) -> None:
        begun = time.perf_counter()
        request, done = job.request, 0
        number = index = 0

        def on_step(of_this: int) -> None:
            nonlocal done
            self.totals.steps += 1
            if job.cancelled.is_set():
                raise Cancelled
            done = number * request.steps + of_this
            job.tell(Step(done, request.total_steps, time.perf_counter() - begun))

        def on_preview(data: bytes) -> None:
            nonlocal index
            job.tell(Preview(number, index, data))
            index += 1

        error: str | None = None
        status = 200
        try:
            if job.cancelled.is_set():
                raise Cancelled
            for made in pipeline.make(request, on_step, on_preview):
                self.totals.pictures += 1
                job.tell(Picture(number, made))
                number, index = number + 1, 0
                if job.cancelled.is_set():
                    raise Cancelled
        except Cancelled:
            self.totals.cancelled += 1
            error, status = "The request was cancelled.", 499
        except OutOfMemory as failure:
            self.totals.failed += 1
            error, status = str(failure), 507
        except Exception as failure:
            traceback.print_exc()
            self.totals.failed += 1
            error, status = _words(failure), 500
        elapsed_s = time.perf_counter() - begun
        self.totals.busy_s += elapsed_s
        job.tell(Ended(elapsed_s, error, status))


def _words(failure: Any) -> str:
    text = str(failure).strip().splitlines()
    return f"{type(failure).__name__}: {text[0][:500]}" if text else type(failure).__name__

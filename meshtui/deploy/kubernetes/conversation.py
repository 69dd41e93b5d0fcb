"""Requests to `meshtui.serving.receive_model` in a pod, and its answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import msgspec

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.errors import unreachable
from meshtui.deploy.kubernetes.execute import Execution, Frames, said_of_end
from meshtui.domain.errors import MeshtuiError, Unavailable

# The script stands in the container's environment: in the address of the request it would be
# too long for some of the proxies on the way.
SCRIPT_VARIABLE = "MESHTUI_RECEIVER"
COMMAND = ("python3", "-I", "-S", "-c", f"import os; exec(os.environ['{SCRIPT_VARIABLE}'])")
# It says every second that it is there.
_SILENCE_S = 60.0
_LAST_WORDS_S = 5.0


class ReceiverEnded(Unavailable):
    """The program in the pod ended before its work was done: the pod may be gone."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the receiver; which fields say something depends on the request."""

    error: str = ""
    message: str = ""
    waiting: bool = False
    state: str = ""
    have: dict[str, int] = {}
    offset: int = 0
    free_bytes: int = 0
    needed_bytes: int = 0
    found: bool = False
    top: tuple[str, ...] = ()
    path: str | None = None
    at: int | None = None


class Conversation:
    """`open` it to a container that holds the script. `on_going` hears which file is how far."""

    def __init__(self, execution: Execution, host: str, on_going: Callable[[str, int], None]):
        self._execution = execution
        self._host = host
        self._on_going = on_going
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()
        self._end: asyncio.Future[MeshtuiError] = asyncio.get_running_loop().create_future()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        cluster: Cluster,
        namespace: str,
        pod: str,
        container: str,
        on_going: Callable[[str, int], None] = lambda path, at: None,
    ) -> AsyncIterator[Self]:
        """Raises `ClusterError`."""
        async with Execution.start(cluster, namespace, pod, container, COMMAND) as execution:
            conversation = cls(execution, cluster.host, on_going)
            reading = asyncio.create_task(conversation._read(), name=f"receiver in {pod}")
            try:
                yield conversation
            finally:
                reading.cancel()
                await asyncio.wait({reading})

    async def ask(self, **request: Any) -> Answer:
        """The next answer after a request. Raises as `answer`."""
        await self._execution.write(msgspec.json.encode(request) + b"\n")
        return await self.answer()

    async def answer(self) -> Answer:
        """Raises `ClusterError` where the connection broke, `ReceiverEnded` where the program in
        the pod ended."""
        waiting = asyncio.ensure_future(self._answers.get())
        either: set[asyncio.Future[Any]] = {waiting, self._end}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if waiting.done() and not waiting.cancelled():
            return waiting.result()
        raise self._end.result()

    async def answer_while(self, sending: asyncio.Task[None]) -> Answer:
        """The answer to what is being sent. An early one ends the sending: it is a refusal."""
        answering = asyncio.ensure_future(self.answer())
        both: set[asyncio.Future[Any]] = {sending, answering}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and sending.exception():
                # Why it takes no more may still be on its way.
                await asyncio.wait({answering}, timeout=_LAST_WORDS_S)
                if not answering.done():
                    sending.result()
            return await answering
        finally:
            for task in both:
                task.cancel()
            # Also takes what the other one of them has to say.
            await asyncio.gather(*both, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        await self._execution.write(data)

    async def write_frames(self, frames: Frames) -> None:
        await self._execution.write_frames(frames)

    async def ended(self) -> None:
        """Raises why, as soon as the conversation is over."""
        raise await asyncio.shield(self._end)

    async def _read(self) -> None:
        lines = self._execution.lines()
        try:
            while True:
                async with asyncio.timeout(_SILENCE_S):
                    line = await anext(lines)
                answer = msgspec.json.decode(line, type=Answer)
                if answer.at is None:
                    self._answers.put_nowait(answer)
                elif answer.path:
                    self._on_going(answer.path, answer.at)
        except StopAsyncIteration:
            said = said_of_end(self._execution)
            self._end.set_result(
                ReceiverEnded(
                    f"The program that takes the model in ended: {said}.",
                    hint="Try again. The image has to hold python3, 3.10 or newer.",
                )
            )
        except (TimeoutError, msgspec.MsgspecError) as error:
            self._end.set_result(unreachable(self._host, error))
        except MeshtuiError as error:
            self._end.set_result(error)

"""Sends an entry of this machine's cache to a volume, by way of a pod and the API server alone.

Each connection runs `meshtui.serving.receive_model` in the pod: one holds the model's lock, and
all take files. What is there of a file is hashed there and not sent again; a file counts when
its SHA-256 is right on the other side.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from meshtui.cache.disk_errors import explained
from meshtui.deploy.install_progress import format_bytes
from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.conversation import Answer, Conversation
from meshtui.deploy.kubernetes.execute import FRAME_BYTES, Frames
from meshtui.deploy.kubernetes.sendable import Sendable, SendableFile
from meshtui.domain.delivery import DeliveryProgress
from meshtui.domain.errors import BrokenDownload, NoRoom, Unavailable
from meshtui.domain.text import one_line

CONTAINER = "load"
# More gain nothing: the processors of the API server and the node are the limit, or the line is.
_CONNECTIONS = 4
# Another connection starts another program in the pod, which is to be worth it.
_EACH_BYTES = 128 << 20
_STEP = "Sending the model to the volume"


class Upload:
    """One sending of an entry to a pod. `run` it once."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        pod: str,
        what: Sendable,
        on_progress: Callable[[DeliveryProgress], None],
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._pod = pod
        self._what = what
        self._on_progress = on_progress
        self._reached: dict[str, int] = {}
        self._finished = 0
        self.sent_bytes = 0
        """What was put on the line."""

    async def run(self) -> bool:
        """False where the model was there already. Raises `ClusterError` where a connection breaks
        (what has come stays), `NoRoom`, `BrokenDownload` or `Unavailable`."""
        async with self._conversation() as leader:
            wanted = {file.path: file.size_bytes for file in self._what.files}
            answer = await leader.ask(
                do="begin", name=self._what.name, digest=self._what.digest, files=wanted
            )
            while answer.waiting:
                self._tell("Waiting: somebody else is sending this model")
                answer = await leader.answer()
            self._check(answer)
            if answer.state == "present":
                return False
            self._reached.update(answer.have)
            self._tell(_STEP)
            await self._send_all(leader)
            self._tell("Completing the model on the volume")
            self._check(await leader.ask(do="commit", name=self._what.name, files=wanted))
        return True

    async def _send_all(self, leader: Conversation) -> None:
        # The largest first, so that no connection is left alone with one at the end.
        files = deque(sorted(self._what.files, key=lambda file: -file.size_bytes))

        async def work(conversation: Conversation) -> None:
            buffers = Frames(), Frames()
            while files:
                await self._send(conversation, files.popleft(), buffers)

        async def work_beside() -> None:
            async with self._conversation() as conversation:
                await work(conversation)

        count = min(_CONNECTIONS, len(files), 1 + self._what.size_bytes // _EACH_BYTES)
        workers = {asyncio.create_task(work(leader))}
        workers |= {asyncio.create_task(work_beside()) for _ in range(count - 1)}
        # Where the lock's connection breaks, somebody else may begin at any time.
        tasks = {*workers, asyncio.create_task(leader.ended())}
        try:
            while workers:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                workers -= done
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _send(
        self, conversation: Conversation, file: SendableFile, buffers: tuple[Frames, Frames]
    ) -> None:
        for _ in range(2):
            answer = await conversation.ask(
                do="put",
                name=self._what.name,
                path=file.path,
                size=file.size_bytes,
                sha256=file.sha256,
            )
            self._check(answer)
            self._reached[file.path] = answer.offset
            sending = asyncio.create_task(self._body(conversation, file, answer.offset, buffers))
            answer = await conversation.answer_while(sending)
            if answer.error != "damaged":
                self._check(answer)
                self._reached[file.path] = file.size_bytes
                self._finished += 1
                self._tell(_STEP)
                return
            # What was there before may have been wrong: then all of it is sent once more.
            self._reached[file.path] = 0
            if await asyncio.to_thread(file.is_damaged):
                raise BrokenDownload(
                    f"{one_line(file.path, 120)} of {self._what.model} is damaged in the model "
                    "cache of this machine: it is not what was stored.",
                    hint=f"Delete it from the cache and fetch it again: {self._what.model}",
                )
        raise BrokenDownload(
            f"{one_line(file.path, 120)} of {self._what.model} arrived damaged twice.",
            hint="Try again; if it stays, the volume's disk or something on the way is broken.",
        )

    async def _body(
        self,
        conversation: Conversation,
        file: SendableFile,
        offset: int,
        buffers: tuple[Frames, Frames],
    ) -> None:
        if isinstance(file.source, bytes):
            for at in range(offset, file.size_bytes, FRAME_BYTES):
                block = file.source[at : at + FRAME_BYTES]
                await conversation.write(block)
                self.sent_bytes += len(block)
            return
        with explained(f"{self._what.model} cannot be read", file.source.parent):
            await self._copy(conversation, file, file.source, offset, buffers)

    async def _copy(
        self,
        conversation: Conversation,
        file: SendableFile,
        source: Path,
        offset: int,
        buffers: tuple[Frames, Frames],
    ) -> None:
        """Reads the next part while one is on its way."""
        handle = await asyncio.to_thread(os.open, source, os.O_RDONLY | os.O_CLOEXEC)
        frames, other = buffers
        reading = asyncio.create_task(asyncio.to_thread(frames.read, handle, offset))
        try:
            # No more than was promised, also where the file has grown since.
            while offset < file.size_bytes and (count := await reading):
                offset += count
                frames.limit(count - max(0, offset - file.size_bytes))
                reading = asyncio.create_task(asyncio.to_thread(other.read, handle, offset))
                await conversation.write_frames(frames)
                self.sent_bytes += frames.size_bytes
                frames, other = other, frames
            if offset < file.size_bytes:
                raise BrokenDownload(
                    f"{one_line(file.path, 120)} of {self._what.model} became shorter while it "
                    "was sent.",
                    hint=f"See what is wrong: meshtui cache verify {self._what.model}",
                )
        finally:
            # Its thread may be reading from the file, into the buffer, until it is done.
            await asyncio.wait({reading})
            os.close(handle)

    def _conversation(self) -> contextlib.AbstractAsyncContextManager[Conversation]:
        return Conversation.open(
            self._cluster, self._namespace, self._pod, CONTAINER, self._on_going
        )

    def _on_going(self, path: str, at: int) -> None:
        self._reached[path] = at
        self._tell(_STEP)

    def _tell(self, step: str) -> None:
        self._on_progress(
            DeliveryProgress(
                step=step,
                done_bytes=sum(self._reached.values()),
                total_bytes=self._what.size_bytes,
                files_done=self._finished,
                files=len(self._what.files),
            )
        )

    def _check(self, answer: Answer) -> None:
        """Raises what an answer says."""
        if not answer.error:
            return
        said, model = one_line(answer.message, 300), self._what.model
        if answer.error == "no-room":
            sizes = ""
            if answer.needed_bytes:
                sizes = (
                    f": {format_bytes(answer.needed_bytes)} are still to come, and "
                    f"{format_bytes(answer.free_bytes)} are free"
                )
            raise NoRoom(
                f"The volume has no room for {model}{sizes}.",
                hint="Make the claim larger, or delete models on it that nobody needs.",
            )
        if answer.error == "not-allowed":
            raise Unavailable(
                f"The pod may not write to the volume: {said}.",
                hint="Set security in the execution config to restricted, so that the volume "
                "belongs to the pod's group; or ask who runs the cluster.",
            )
        raise Unavailable(f"The volume does not take {model}: {said or answer.error}.")

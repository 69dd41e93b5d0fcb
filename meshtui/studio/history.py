"""The history of prompts and answers, in one SQLite file.

All work with the file happens in one thread of its own, so that a slow disk never holds up a
stream. Writes are handed over without waiting; what goes wrong with them is reported once, and
prompting goes on without a history.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from meshtui.domain.errors import NotFound
from meshtui.domain.generation import Run
from meshtui.studio.history_file import HistoryFile, Trouble

T = TypeVar("T")

MAX_PAGE = 1000


class History:
    """Runs, newest first. `notice` is called (on the event loop) with a sentence for people when
    the history cannot be kept as it should, and `solved` with that sentence when it can again."""

    def __init__(
        self,
        path: Path,
        notice: Callable[[str], None],
        solved: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._path = path
        self._notice = notice
        self._solved = solved
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="history")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._file: HistoryFile | None = None
        self._told: set[str] = set()
        self.trouble: str | None = None
        """Why runs are not written right now; None while they are."""

    async def open(self) -> None:
        """Opens or makes the file. Runs that a dead controller left `running` become
        `interrupted`. A file that is no database is moved aside; where none can be kept at all,
        the history lives in memory until the controller ends."""
        self._loop = asyncio.get_running_loop()
        self._file, notice = await self._do(lambda: HistoryFile.open(self._path))
        if notice:
            self._told.add(notice)
            self._notice(notice)

    async def close(self) -> None:
        """Writes what is waiting, and closes."""
        if self._file is not None:
            await self._do(self._file.close)
        self._thread.shutdown(wait=False)

    def put(self, run: Run) -> None:
        """Adds a run or replaces it as a whole."""
        self._later(lambda file: file.put(run))

    def put_answer(self, run_id: str, answer: str) -> None:
        """Replaces the answer of a run that is still coming."""
        self._later(lambda file: file.put_answer(run_id, answer))

    async def get(self, run_id: str) -> Run:
        """Raises `NotFound`."""
        run = await self._with(lambda file: file.get(run_id))
        if run is None:
            raise _unknown(run_id)
        return run

    async def newest(
        self, *, limit: int = 100, search: str | None = None, before: str | None = None
    ) -> list[Run]:
        """At most `limit` runs, fewer where they are huge, newest first; older than the run with
        the id `before`; holding every word of `search` (its beginning is enough) in model,
        messages or answer."""
        limit = max(1, min(limit, MAX_PAGE))
        return await self._with(lambda file: file.newest(limit, search, before))

    async def star(self, run_id: str, starred: bool) -> Run:
        """Raises `NotFound`."""
        run = await self._with(lambda file: file.star(run_id, starred))
        if run is None:
            raise _unknown(run_id)
        return run

    async def delete(self, run_id: str) -> None:
        """Raises `NotFound`."""
        if not await self._with(lambda file: file.delete(run_id)):
            raise _unknown(run_id)

    async def settle(self) -> None:
        """Returns when everything handed over before is written."""
        await self._do(lambda: None)

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _with(self, work: "Callable[[HistoryFile], T]") -> T:
        file = self._file
        assert file is not None, "open() first"
        return await self._do(lambda: work(file))

    def _later(self, work: "Callable[[HistoryFile], None]") -> None:
        """Hands a write over; the order of writes is kept."""
        file = self._file
        assert file is not None, "open() first"
        self._thread.submit(work, file).add_done_callback(self._written)

    def _written(self, done: "Future[None]") -> None:
        error = done.exception()
        text = None
        if error is not None:
            text = str(error) if isinstance(error, Trouble) else f"The history failed: {error!r}."
        if self._loop is not None and not self._loop.is_closed() and text != self.trouble:
            self._loop.call_soon_threadsafe(self._tell, text)

    def _tell(self, text: str | None) -> None:
        before, self.trouble = self.trouble, text
        if text is None and before is not None:
            self._told.discard(before)
            self._solved(before)
        # Every flush of a stream would fail in the same way.
        if text is not None and text not in self._told:
            self._told.add(text)
            self._notice(text)


def new_run_id() -> str:
    """An id that sorts by time of creation: milliseconds, then chance."""
    return f"{int(time.time() * 1000):012x}{secrets.token_hex(5)}"


def _unknown(run_id: str) -> NotFound:
    return NotFound(f"There is no run {run_id!r} in the history.")

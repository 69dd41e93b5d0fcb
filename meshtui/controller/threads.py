"""Long steps in threads that belong to somebody: cancelled, they end, and are waited for."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from meshtui.cache.work import Cancelled, Work

T = TypeVar("T")


class Threads:
    """A few threads of their own: hours of copying must not hold up those in which the rest of
    the controller takes its short steps."""

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="cache")

    def close(self) -> None:
        """Call it when nothing runs any more."""
        self._pool.shutdown(wait=True)

    async def run(self, work: Work, step: Callable[[], T]) -> T:
        """What `step` gives, which counts in `work`. Cancelling cancels the work and waits for
        the step's end; where it had succeeded before it noticed, that counts."""
        begun = self._pool.submit(step)
        ended = asyncio.wrap_future(begun)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            if begun.cancel():
                raise
            work.cancel()
            await asyncio.wait([ended])
            if ended.exception() is not None:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            return ended.result()
        except Cancelled:
            raise asyncio.CancelledError from None

"""Several steps at the same time, of which none outlives the others' failure."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def together(steps: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in their order; where one fails, the others are ended before it is raised."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise

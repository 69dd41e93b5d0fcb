"""Work beside the painting: coroutines that belong to a node and end with it."""

from collections.abc import Callable, Coroutine
from typing import Any

from textual.dom import DOMNode
from textual.worker import Worker

from .frame import workstation

Work = Callable[[], Coroutine[Any, Any, None]]


def start(node: DOMNode, work: Work, *, group: str = "work", latest: bool = False) -> Worker[None]:
    """Runs `work` until it ends or the node goes. `latest`: in place of any of its group that is
    still running. What it raises is said, and costs no more than this piece of work."""

    async def guarded() -> None:
        try:
            await work()
        except Exception as error:
            node.log.error(error)
            workstation(node).say(f"{type(error).__name__}: {error}", "error")

    return node.run_worker(guarded, group=group, exclusive=latest, exit_on_error=False)

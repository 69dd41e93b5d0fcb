"""Ends the app when its terminal is gone, or when it is asked to by a signal.

A terminal that closes sends SIGHUP, which may be ignored (`nohup`, some supervisors, a session
that was made that way); the toolkit would then go on reading an end of file as fast as it can.
So the terminal itself is watched too, by a thread that sleeps until the line is cut.
"""

import asyncio
import os
import select
import signal
import sys
import threading
from collections.abc import Callable

# The draft is kept in much less; what then still waits to write to the lost terminal never ends.
# (The toolkit's writer does.)
_GRACE_S = 2.0


def watch(leave: Callable[[], object]) -> None:
    """Calls `leave` on the running loop when it is time to go."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGHUP, signal.SIGTERM):
        loop.add_signal_handler(number, leave)
    if sys.__stdin__ is not None and sys.__stdin__.isatty():
        arguments = (sys.__stdin__.fileno(), loop, leave)
        threading.Thread(target=_wait, args=arguments, name="hangup", daemon=True).start()


def _wait(terminal: int, loop: asyncio.AbstractEventLoop, leave: Callable[[], object]) -> None:
    poll = select.poll()
    poll.register(terminal, 0)  # a hang-up is always reported
    poll.poll()
    if not loop.is_closed():
        loop.call_soon_threadsafe(leave)
    threading.Event().wait(_GRACE_S)
    os._exit(1)

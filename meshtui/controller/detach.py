"""Leaving the family of the process that started us. Imports nothing that takes time."""

import os


def detach() -> None:
    """Goes on in a child with a session of its own; the first process ends at once, so that
    whoever started it has nothing left to wait for."""
    if os.fork() > 0:
        os._exit(0)
    os.setsid()

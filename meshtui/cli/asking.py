"""Questions on the terminal. They go to stderr, and Ctrl-C ends them at once."""

import asyncio
import sys

from meshtui.domain.errors import InvalidInput, MeshtuiError
from meshtui.domain.text import one_line


class Declined(MeshtuiError):
    """The person said no."""

    code = "declined"


def can_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


async def ask(question: str) -> str:
    """The line that is typed, stripped; empty at the end of the input."""
    print(f"{one_line(question, 1000)} ", end="", file=sys.stderr, flush=True)
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        # A terminal hands over whole lines: this does not wait.
        if not typed.done():
            typed.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin, read)
    try:
        return (await typed).strip()
    finally:
        loop.remove_reader(sys.stdin)


async def confirm(question: str, *, yes: bool) -> None:
    """Returns when it may be done. Raises `Declined`, and `InvalidInput` where nobody can be
    asked and `--yes` was not given."""
    if yes:
        return
    if not can_ask():
        raise InvalidInput(
            f"{question} Nobody can be asked here.", hint="Add --yes, or look with --dry-run first."
        )
    if (await ask(f"{question} [y/N]")).lower() not in ("y", "yes"):
        raise Declined("Nothing was changed.")

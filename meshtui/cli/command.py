"""What all nouns share: an argument parser with subcommands, a connected client, exit statuses."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable

from meshtui.cli import exit_codes
from meshtui.client import ControllerClient
from meshtui.domain.codec import to_json
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.text import sanitise

Action = Callable[[ControllerClient, argparse.Namespace], Awaitable[int]]


class Noun:
    """The parser of one noun. Each verb names the coroutine that does it."""

    def __init__(self, name: str, description: str) -> None:
        self.parser = argparse.ArgumentParser(prog=f"meshtui {name}", description=description)
        self._verbs = self.parser.add_subparsers(metavar="VERB", required=True)

    def verb(
        self, name: str, action: Action, help: str, *, connect: bool = True, spawn: bool = True
    ) -> argparse.ArgumentParser:
        """Adds a verb. `spawn` False: it does not start a controller that is not running;
        `connect` False: it gets a client that is not connected."""
        parser = self._verbs.add_parser(name, help=help, description=help)
        parser.add_argument("--json", action="store_true", help="print JSON to stdout")
        parser.set_defaults(action=action, connect=connect, spawn=spawn)
        return parser

    def run(self, words: list[str]) -> int:
        return run_action(self.parser, words)


def run_action(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Parses, connects, acts; turns errors into a line on stderr and an exit status."""
    try:
        arguments = parser.parse_args(words)
    except SystemExit as stopped:  # argparse has printed its help or its complaint
        return stopped.code if isinstance(stopped.code, int) else exit_codes.USAGE
    try:
        return asyncio.run(_connected(arguments))
    except MeshtuiError as error:
        complain(error)
        return exit_codes.of(error)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return exit_codes.INTERRUPTED


async def _connected(arguments: argparse.Namespace) -> int:
    client = ControllerClient()
    try:
        if arguments.connect:
            await client.connect(spawn=arguments.spawn)
        status: int = await arguments.action(client, arguments)
        return status
    finally:
        await client.close()


def complain(error: MeshtuiError) -> None:
    """What went wrong and what to do, on stderr."""
    print(f"meshtui: {sanitise(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"  {sanitise(error.hint)}", file=sys.stderr)


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(to_json(value).decode() + "\n")

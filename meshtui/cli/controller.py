"""`meshtui controller`: the background process itself."""

import argparse
import asyncio
import contextlib
import sys

from meshtui.cli import exit_codes
from meshtui.cli.command import Noun, print_json
from meshtui.cli.text import ago, size
from meshtui.client import ControllerClient
from meshtui.domain.errors import Unavailable
from meshtui.domain.text import sanitise
from meshtui.settings.paths import controller_log_path, system_config_path


def run(words: list[str]) -> int:
    noun = Noun(
        "controller",
        "The controller owns servers, runtimes and downloads; it starts by itself at first need.",
    )
    noun.verb("status", _status, "whether it runs", spawn=False)
    noun.verb(
        "stop",
        _stop,
        "stop it; servers go on and the next controller takes them over",
        spawn=False,
    )
    noun.verb("restart", _restart, "stop it and start it again; servers go on", connect=False)
    # Reading the log must work just when the controller does not.
    logs = noun.verb("logs", _logs, "print the end of its log", connect=False)
    logs.add_argument("-n", "--tail", type=int, default=200, metavar="LINES")
    return noun.run(words)


async def _status(client: ControllerClient, arguments: argparse.Namespace) -> int:
    info = await client.info()
    if arguments.json:
        print_json(info)
        return exit_codes.OK
    print(f"running  meshtui {info.version}, pid {info.pid}, started {ago(info.started_at)}")
    print(f"socket   {info.socket}\nlog      {info.log}\nmemory   {size(info.memory_bytes)}")
    for what in info.busy:
        print(f"busy     {sanitise(what)}")
    for name in info.locked:
        print(f"locked   {sanitise(name)}, by {system_config_path()}")
    return exit_codes.OK


async def _stop(client: ControllerClient, arguments: argparse.Namespace) -> int:
    await client.stop_controller()
    if not arguments.json:
        print("stopped; servers go on")
    return exit_codes.OK


async def _restart(client: ControllerClient, arguments: argparse.Namespace) -> int:
    with contextlib.suppress(Unavailable):  # not running: there is only the start left to do
        await client.connect(spawn=False)
        await client.stop_controller()
        await client.close()
    info = await client.connect()
    print_json(info) if arguments.json else print(f"running  pid {info.pid}")
    return exit_codes.OK


async def _logs(client: ControllerClient, arguments: argparse.Namespace) -> int:
    try:
        text = await asyncio.to_thread(controller_log_path().read_text, errors="replace")
    except FileNotFoundError:
        raise Unavailable("The controller has not written a log yet.") from None
    lines = sanitise(text).splitlines()
    lines = lines[max(0, len(lines) - max(0, arguments.tail)) :]
    if arguments.json:
        print_json([{"line": line} for line in lines])
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    return exit_codes.OK

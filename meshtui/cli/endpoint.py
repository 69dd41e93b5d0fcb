"""`meshtui endpoint`: the OpenAI-compatible endpoint for programs."""

import argparse
import shlex

from meshtui.cli import exit_codes
from meshtui.cli.command import Noun, print_json
from meshtui.client import ControllerClient
from meshtui.domain.controller import EndpointStatus


def run(words: list[str]) -> int:
    noun = Noun(
        "endpoint", "The OpenAI-compatible endpoint on 127.0.0.1; it wants a key and starts servers"
    )
    on = noun.verb("on", _on, "switch it on")
    on.add_argument("--port", type=int, help="a fixed port (default: a free one, then kept)")
    noun.verb("off", _off, "switch it off")
    noun.verb("status", _status, "whether and where it listens")
    noun.verb("env", _env, 'print the environment for a program: eval "$(meshtui endpoint env)"')
    return noun.run(words)


async def _on(client: ControllerClient, arguments: argparse.Namespace) -> int:
    return _print(await client.set_endpoint(True, arguments.port), arguments.json)


async def _off(client: ControllerClient, arguments: argparse.Namespace) -> int:
    return _print(await client.set_endpoint(False), arguments.json)


async def _status(client: ControllerClient, arguments: argparse.Namespace) -> int:
    return _print(await client.endpoint(), arguments.json)


async def _env(client: ControllerClient, arguments: argparse.Namespace) -> int:
    status = await client.endpoint(with_key=True)
    if not status.on:
        await client.set_endpoint(True)
        status = await client.endpoint(with_key=True)
    values = {"OPENAI_BASE_URL": status.base_url or "", "OPENAI_API_KEY": status.api_key or ""}
    if arguments.json:
        print_json(values)
    else:
        for name, value in values.items():
            print(f"export {name}={shlex.quote(value)}")
    return exit_codes.OK


def _print(status: EndpointStatus, as_json: bool) -> int:
    if as_json:
        print_json(status)
    else:
        print(f"on   {status.base_url}" if status.on else "off")
    return exit_codes.OK

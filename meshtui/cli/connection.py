"""`meshtui connection`: where models may run, and which ones."""

import argparse
import contextlib
import sys

from meshtui.cli import connection_edit, connection_models, exit_codes
from meshtui.cli.command import Noun, print_json
from meshtui.cli.text import table
from meshtui.client import ControllerClient
from meshtui.domain.connection import Connection
from meshtui.domain.controller import Overview
from meshtui.domain.errors import NotFound, Unavailable
from meshtui.domain.text import one_line


def run(words: list[str]) -> int:
    noun = Noun("connection", "Connections: an execution config, a runtime and enabled models.")
    noun.verb("list", _list, "all connections")
    show = noun.verb("show", _show, "one connection and its enabled models")
    show.add_argument("name", metavar="NAME")
    connection_edit.add_verbs(noun)
    connection_models.add_verbs(noun)
    rbac = noun.verb("rbac", _rbac, "print the Role that it needs on its cluster", connect=False)
    rbac.add_argument("name", metavar="NAME", help="a connection, or an execution config")
    whom = rbac.add_mutually_exclusive_group()
    whom.add_argument("--user", help="also bind the Role to this user")
    whom.add_argument("--group", help="also bind the Role to this group")
    whom.add_argument("--service-account", help="also bind the Role to this service account")
    return noun.run(words)


async def _connections(client: ControllerClient) -> tuple[Connection, ...]:
    """All of them; says on stderr which files cannot be read."""
    async with contextlib.aclosing(client.events()) as events:
        async for event in events:
            if isinstance(event, Overview):
                for item in event.broken:
                    print(f"meshtui: broken: {one_line(str(item), 2000)}", file=sys.stderr)
                return event.connections
    raise Unavailable("The controller went away.", hint="Try again.")


async def _list(client: ControllerClient, arguments: argparse.Namespace) -> int:
    connections = await _connections(client)
    if arguments.json:
        print_json(connections)
        return exit_codes.OK
    head = ("NAME", "EXECUTION", "RUNTIME", "ENGINE", "MODELS")
    print(table(head, (_row(connection) for connection in connections)))
    return exit_codes.OK


def _row(connection: Connection) -> tuple[str, ...]:
    return (
        connection.name,
        connection.execution,
        connection.runtime or "auto",
        connection.engine_completion.value,
        str(len(connection.enabled_models)),
    )


async def _show(client: ControllerClient, arguments: argparse.Namespace) -> int:
    for connection in await _connections(client):
        if connection.name == arguments.name:
            break
    else:
        raise NotFound(
            f"There is no connection {arguments.name!r}.", hint="See: meshtui connection list"
        )
    if arguments.json:
        print_json(connection)
        return exit_codes.OK
    for name, value in (
        ("name", connection.name),
        ("execution", connection.execution),
        ("runtime", connection.runtime or "auto"),
        ("access token", connection.access_token or "–"),
        *sorted(connection.properties.items()),
    ):
        print(f"{name:<18} {one_line(value)}")
    head = ("MODEL", "TASK", "ENGINE", "CONTEXT", "IDLE STOP")
    models = connection.enabled_models
    print(
        table(
            head,
            (
                (
                    model.model,
                    model.task.value,
                    (model.engine or connection.engine_completion).value,
                    f"{model.max_tokens:,}" if model.max_tokens else "auto",
                    f"after {model.idle_timeout_s / 60:g} m" if model.idle_timeout_s else "never",
                )
                for model in models
            ),
        )
    )
    return exit_codes.OK


async def _rbac(client: ControllerClient, arguments: argparse.Namespace) -> int:
    from meshtui.cli.kubernetes import rbac  # a tenth of a second that the others save

    return await rbac(client, arguments)

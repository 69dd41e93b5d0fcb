"""`meshtui connection`: making, changing, testing and deleting connections."""

import argparse
from typing import Any

import msgspec

from meshtui.cli import exit_codes
from meshtui.cli.asking import confirm
from meshtui.cli.check_report import SIGNS
from meshtui.cli.command import Noun, print_json
from meshtui.client import ControllerClient
from meshtui.domain.connection import Connection
from meshtui.domain.described import help_of
from meshtui.domain.errors import InvalidInput
from meshtui.domain.finding import Level
from meshtui.domain.task import EngineChoice
from meshtui.domain.text import one_line

# An option's value that takes a setting away.
NONE = "none"


def add_verbs(noun: Noun) -> None:
    """The verbs about a connection as a whole."""
    add = noun.verb("add", _add, "make a connection")
    add.add_argument("name", metavar="NAME")
    _add_options(add)
    edit = noun.verb("edit", _edit, "change a connection: only what is given changes")
    edit.add_argument("name", metavar="NAME")
    edit.add_argument("--rename", metavar="NEW", help="its new name")
    _add_options(edit)
    duplicate = noun.verb("duplicate", _duplicate, "copy a connection under another name")
    duplicate.add_argument("name", metavar="NAME")
    duplicate.add_argument("new", metavar="NEW")
    delete = noun.verb("delete", _delete, "delete a connection; models and histories stay")
    delete.add_argument("name", metavar="NAME")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    test = noun.verb("test", _test, "look whether what it names is there and answers")
    test.add_argument("name", metavar="NAME")
    token = noun.verb("token", _token, "tell whose an access token is; never the token")
    token.add_argument("reference", metavar="REFERENCE", help="env:NAME, hf:default, file:PATH, …")
    token.add_argument("--connection", metavar="NAME", help="ask the Hub of that connection")


def _add_options(parser: argparse.ArgumentParser) -> None:
    says = help_of(Connection)
    add = parser.add_argument
    add("--execution", metavar="NAME", help=says["execution"])
    add("--runtime", metavar="NAME", help=f"{says['runtime']} ({NONE}: by the machine)")
    add("--access-token", metavar="REFERENCE", help=f"{says['access_token']} ({NONE}: none)")
    add("--managed-cache", action=argparse.BooleanOptionalAction, help=says["use_managed_cache"])
    add("--engine", choices=[one.value for one in EngineChoice], help="sets engine.completion")
    add("--property", metavar="NAME=VALUE", action="append", default=[],
        help=f"{says['properties']} Without a value: it is taken away.")  # fmt: skip


def changed(connection: Connection, arguments: argparse.Namespace) -> Connection:
    """The connection with what the options say. Raises `InvalidInput`."""
    fields: dict[str, Any] = {}
    if arguments.execution is not None:
        fields["execution"] = arguments.execution
    for name in ("runtime", "access_token"):
        value = getattr(arguments, name)
        if value is not None:
            fields[name] = None if value == NONE else value
    if arguments.managed_cache is not None:
        fields["use_managed_cache"] = arguments.managed_cache
    properties = dict(connection.properties)
    given = [f"engine.completion={arguments.engine}"] if arguments.engine else []
    for item in (*given, *arguments.property):
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise InvalidInput(f"{item!r} is no property.", hint="Write NAME=VALUE.")
        if value:
            properties[name.strip()] = value
        else:
            properties.pop(name.strip(), None)
    return msgspec.structs.replace(connection, properties=properties, **fields)


async def _add(client: ControllerClient, arguments: argparse.Namespace) -> int:
    wanted = changed(Connection(name=arguments.name), arguments)
    made = await client.create_connection(wanted)
    if arguments.json:
        print_json(made.connection)
        return exit_codes.OK
    name = made.connection.name
    print(f"Made the connection {name}: {made.path}")
    print(f"Next: meshtui connection enable-model {name} ORG/NAME")
    return exit_codes.OK


async def _edit(client: ControllerClient, arguments: argparse.Namespace) -> int:
    seen = await client.editable_connection(arguments.name)
    wanted = changed(seen.connection, arguments)
    if arguments.rename:
        wanted = msgspec.structs.replace(wanted, name=arguments.rename)
    if wanted == seen.connection:
        raise InvalidInput(
            "Nothing was given that would change it.",
            hint=f"See: meshtui connection edit --help. By hand: {seen.path}",
        )
    saved = await client.save_connection(arguments.name, wanted, seen.revision)
    if arguments.json:
        print_json(saved.connection)
    else:
        print(f"Saved the connection {saved.connection.name}: {saved.path}")
    return exit_codes.OK


async def _duplicate(client: ControllerClient, arguments: argparse.Namespace) -> int:
    made = await client.duplicate_connection(arguments.name, arguments.new)
    if arguments.json:
        print_json(made.connection)
    else:
        print(f"Made the connection {made.connection.name}: {made.path}")
    return exit_codes.OK


async def _delete(client: ControllerClient, arguments: argparse.Namespace) -> int:
    seen = await client.editable_connection(arguments.name)
    count = len(seen.connection.enabled_models)
    models = f"{count} model{'' if count == 1 else 's'} enabled"
    await confirm(
        f"Delete the connection {one_line(arguments.name)} ({models})?", yes=arguments.yes
    )
    if seen.revision is None:
        # The controller says why that one stays.
        await client.delete_connection(arguments.name)
    else:
        await client.delete_connection(arguments.name, seen.revision)
    back = " The one that comes with meshtui is back." if seen.shipped else ""
    if arguments.json:
        print_json({"deleted": arguments.name})
    else:
        print(f"Deleted the connection {one_line(arguments.name)}.{back}")
    return exit_codes.OK


async def _test(client: ControllerClient, arguments: argparse.Namespace) -> int:
    connection = (await client.editable_connection(arguments.name)).connection
    findings = await client.test_connection(connection)
    if arguments.json:
        print_json(findings)
    else:
        for finding in findings:
            print(f"{SIGNS[finding.level]} {one_line(finding.message, 2000)}")
            if finding.fix and finding.level is not Level.OK:
                print(f"  → {one_line(finding.fix, 2000)}")
    blocked = any(finding.level is Level.BLOCKER for finding in findings)
    return exit_codes.FAILED if blocked else exit_codes.OK


async def _token(client: ControllerClient, arguments: argparse.Namespace) -> int:
    connection = None
    if arguments.connection:
        connection = (await client.editable_connection(arguments.connection)).connection
    found = await client.token_owner(arguments.reference, connection)
    if arguments.json:
        print_json(found)
        return exit_codes.OK
    for name, value in (
        ("account", f"{found.account} ({found.kind})"),
        ("token", found.token_name or "–"),
        ("role", found.role or "–"),
    ):
        print(f"{name:<10} {one_line(value)}")
    return exit_codes.OK

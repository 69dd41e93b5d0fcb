"""`meshtui server`: running engines, from outside the workstation."""

import argparse
import contextlib
import sys
import time

from meshtui.cli import exit_codes
from meshtui.cli.before_start import add_force, check_before_start
from meshtui.cli.command import Noun, print_json
from meshtui.cli.starting import until_started
from meshtui.cli.text import ago, duration, percent, size, table
from meshtui.client import ControllerClient
from meshtui.domain.errors import Conflict, NotFound
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.server import Phase, ServerStatus
from meshtui.domain.text import one_line

_NAME = "a server's id, or a model as org/name where one server runs it"


def run(words: list[str]) -> int:
    noun = Noun("server", "Running engines: one for each enabled model that was started.")
    noun.verb("list", _list, "all servers")
    show = noun.verb("show", _show, "one server: phases, engine, command line")
    show.add_argument("server", metavar="SERVER", help=_NAME)
    start = noun.verb("start", _start, "start the server of an enabled model")
    start.add_argument("model", metavar="MODEL", help="org/name or org/name@revision")
    start.add_argument("--connection", help="needed where several connections enable the model")
    add_force(start)
    start.add_argument("--wait", action="store_true", help="return when it is ready or has failed")
    stop = noun.verb("stop", _stop, "stop a server")
    stop.add_argument("server", metavar="SERVER", help=_NAME)
    remove = noun.verb("remove", _remove, "forget a stopped server and delete its logs")
    remove.add_argument("server", metavar="SERVER", help=_NAME)
    logs = noun.verb("logs", _logs, "print the engine's log; readable after it stopped, too")
    logs.add_argument("server", metavar="SERVER", help=_NAME)
    logs.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    logs.add_argument("-n", "--tail", type=int, default=1000, metavar="LINES")
    logs.add_argument("--previous", action="store_true", help="the log of the start before")
    manifest = noun.verb(
        "manifest", _manifest, "print a server's objects for a cluster", connect=False
    )
    manifest.add_argument("model", metavar="MODEL", help="org/name or org/name@revision")
    manifest.add_argument("--connection", help="needed where several connections enable the model")
    manifest.add_argument("--execution", help="an execution config other than the connection's")
    manifest.add_argument(
        "--with-secret",
        action="store_true",
        help="print the Secret, too, with a fresh API key and the connection's token",
    )
    manifest.add_argument(
        "--fetch-job",
        action="store_true",
        help="print the Job that fetches the model into the volume instead",
    )
    return noun.run(words)


async def _list(client: ControllerClient, arguments: argparse.Namespace) -> int:
    servers = await client.servers()
    if arguments.json:
        print_json(servers)
    elif not servers:
        print("No server was started yet. meshtui server start MODEL starts one.", file=sys.stderr)
    else:
        head = ("ID", "MODEL", "WHERE", "ENGINE", "PHASE", "PORT", "UP", "MEMORY", "IDLE STOP")
        print(table(head, (_row(server) for server in servers)))
    return exit_codes.OK


def _row(server: ServerStatus) -> tuple[str, ...]:
    progress = server.current.progress if server.current else None
    ready_for_s = time.time() - server.ready_at if server.ready_at else None
    return (
        server.id,
        server.model,
        server.connection,
        _engine(server),
        f"{server.phase.value} {percent(progress) if server.phase.is_starting else ''}",
        str(server.port) if server.port and not server.phase.is_over else "–",
        duration(ready_for_s) if server.phase is Phase.READY else "–",
        size(server.memory_bytes) if not server.phase.is_over else "–",
        f"in {duration(server.stops_at - time.time())}" if server.stops_at else "–",
    )


def _engine(server: ServerStatus) -> str:
    if server.engine is None:
        return "–"
    return f"{server.engine.label} {server.engine_version or ''}".rstrip()


async def _show(client: ControllerClient, arguments: argparse.Namespace) -> int:
    server = await _named(client, arguments.server)
    if arguments.json:
        print_json(server)
        return exit_codes.OK
    facts = [
        ("id", server.id),
        ("model", server.model),
        ("connection", server.connection),
        ("engine", f"{_engine(server)}  {server.engine_reason}"),
        ("phase", server.phase.value),
        ("context", f"{server.context_length:,} tokens" if server.context_length else "–"),
        ("port", str(server.port or "–")),
        ("memory", size(server.memory_bytes)),
        ("last used", ago(server.last_used_at)),
        ("command", " ".join(server.command) or "–"),
        *_place(server),
        *(("note", note) for note in server.notices),
    ]
    if server.explanation:
        facts += [("cause", server.explanation.cause), ("fix", server.explanation.fix)]
    for name, value in facts:
        print(f"{name:<11} {one_line(value, 4000)}")
    for record in server.phases:
        took = duration((record.ended_at or time.time()) - record.started_at)
        print(f"  {took:>8}  {record.phase.value:<16} {one_line(record.message)}".rstrip())
    return exit_codes.OK


def _place(server: ServerStatus) -> list[tuple[str, str]]:
    """Where on a cluster it is, and what others changed of it there."""
    place = server.place
    if place is None:
        return []
    where = f"{place.context}, {place.namespace}" if place.context else place.namespace
    facts = [
        ("cluster", where),
        ("deployment", place.name),
        ("pod", f"{place.pod or '–'}{f' on {place.node}' if place.node else ''}"),
    ]
    if place.restarts:
        facts.append(("restarts", str(place.restarts)))
    facts += [("changed by", change) for change in place.drift]
    if place.trouble:
        facts.append(("not current", place.trouble))
    return facts


async def _start(client: ControllerClient, arguments: argparse.Namespace) -> int:
    model = str(ModelRef.parse(arguments.model))
    if not arguments.force:
        await check_before_start(client, model, arguments.connection)
    server = await client.start_server(model, arguments.connection)
    if arguments.wait:
        server = await until_started(client, server)
    if arguments.json:
        print_json(server)
    else:
        print(f"{server.id}  {server.phase.value}")
    if server.phase is Phase.FAILED and server.explanation:
        print(f"meshtui: {one_line(server.explanation.cause, 2000)}", file=sys.stderr)
        print(f"  {one_line(server.explanation.fix, 2000)}", file=sys.stderr)
    ended_well = server.phase is Phase.READY if arguments.wait else not server.phase.is_over
    return exit_codes.OK if ended_well else exit_codes.FAILED


async def _stop(client: ControllerClient, arguments: argparse.Namespace) -> int:
    server = await _named(client, arguments.server)
    server = await client.stop_server(server.id)
    print_json(server) if arguments.json else print(f"{server.id}  {server.phase.value}")
    return exit_codes.OK


async def _remove(client: ControllerClient, arguments: argparse.Namespace) -> int:
    server = await _named(client, arguments.server)
    await client.remove_server(server.id)
    if not arguments.json:
        print(f"{server.id}  removed")
    return exit_codes.OK


async def _logs(client: ControllerClient, arguments: argparse.Namespace) -> int:
    server = await _named(client, arguments.server)
    lines = client.server_log(
        server.id, tail=arguments.tail, follow=arguments.follow, previous=arguments.previous
    )
    async with contextlib.aclosing(lines):
        async for line in lines:
            print_json({"line": line}) if arguments.json else print(line, flush=arguments.follow)
    return exit_codes.OK


async def _manifest(client: ControllerClient, arguments: argparse.Namespace) -> int:
    from meshtui.cli.kubernetes import manifest  # a tenth of a second that the others save

    return await manifest(client, arguments)


async def _named(client: ControllerClient, name: str) -> ServerStatus:
    """The server of that id, or the only one of that model."""
    servers = await client.servers()
    found = [s for s in servers if s.id == name] or [s for s in servers if s.model == name]
    if len(found) > 1:
        ids = ", ".join(server.id for server in found)
        raise Conflict(f"Several servers run {name}.", hint=f"Name one of them: {ids}.")
    if not found:
        raise NotFound(f"There is no server {name!r}.", hint="See: meshtui server list")
    return found[0]

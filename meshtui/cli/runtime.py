"""`meshtui runtime`: the engine stacks of this machine."""

import argparse
import contextlib
import sys

from meshtui.cli import exit_codes
from meshtui.cli.command import Noun, print_json
from meshtui.cli.narration import Narrator
from meshtui.cli.text import ago, percent, size, table
from meshtui.client import ControllerClient
from meshtui.domain.controller import Overview, RuntimeChanged
from meshtui.domain.errors import Unavailable
from meshtui.domain.runtime import BuildPhase, RuntimeStatus
from meshtui.domain.text import one_line


def run(words: list[str]) -> int:
    noun = Noun("runtime", "Runtimes: pinned engine stacks, built as virtual environments.")
    noun.verb("list", _list, "all runtimes and what is in them")
    show = noun.verb("show", _show, "one runtime and its installed packages")
    show.add_argument("name", metavar="NAME")
    build = noun.verb("build", _build, "build a runtime, or go on with an interrupted build")
    build.add_argument("name", metavar="NAME")
    build.add_argument("--rebuild", action="store_true", help="from nothing, even if it is built")
    build.add_argument("--detach", action="store_true", help="return at once; it goes on")
    delete = noun.verb("delete", _delete, "delete a built runtime")
    delete.add_argument("name", metavar="NAME")
    logs = noun.verb("logs", _logs, "print the log of the build")
    logs.add_argument("name", metavar="NAME")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    logs.add_argument("-n", "--tail", type=int, default=1000, metavar="LINES")
    return noun.run(words)


async def _list(client: ControllerClient, arguments: argparse.Namespace) -> int:
    runtimes = await client.runtimes()
    if arguments.json:
        print_json(runtimes)
        return exit_codes.OK
    head = ("NAME", "STATE", "VLLM", "TRANSFORMERS", "PYTHON", "SIZE", "BUILT", "DESCRIPTION")
    print(table(head, (_row(runtime) for runtime in runtimes)))
    return exit_codes.OK


def _row(runtime: RuntimeStatus) -> tuple[str, ...]:
    building = runtime.phase is BuildPhase.BUILDING
    return (
        runtime.name,
        f"{runtime.phase.value} {percent(runtime.progress) if building else ''}"
        f"{' (outdated)' if runtime.outdated else ''}",
        runtime.vllm_version or "–",
        runtime.version("transformers") or "–",
        runtime.python or "–",
        size(runtime.size_bytes),
        ago(runtime.finished_at),
        runtime.description,
    )


async def _show(client: ControllerClient, arguments: argparse.Namespace) -> int:
    runtime = await client.runtime(arguments.name)
    if arguments.json:
        print_json(runtime)
        return exit_codes.OK
    for name, value in (
        ("name", runtime.name),
        ("description", runtime.description),
        ("state", runtime.phase.value + (" (outdated)" if runtime.outdated else "")),
        ("python", runtime.python or "–"),
        ("path", runtime.path or "–"),
        ("size", size(runtime.size_bytes)),
        *(("note", note) for note in runtime.notices),
    ):
        print(f"{name:<12} {one_line(value, 2000)}")
    if runtime.packages:
        print(table(("PACKAGE", "VERSION"), ((p.name, p.version) for p in runtime.packages)))
    return exit_codes.OK


async def _build(client: ControllerClient, arguments: argparse.Namespace) -> int:
    runtime = await client.build_runtime(arguments.name, rebuild=arguments.rebuild)
    if not arguments.detach:
        runtime = await _wait(client, runtime)
    if arguments.json:
        print_json(runtime)
    else:
        print(f"{runtime.name}  {runtime.phase.value}")
    if runtime.phase is BuildPhase.FAILED and runtime.explanation:
        print(f"meshtui: {one_line(runtime.explanation.cause, 2000)}", file=sys.stderr)
        print(f"  {one_line(runtime.explanation.fix, 2000)}", file=sys.stderr)
    ended_well = runtime.phase is BuildPhase.READY or (
        arguments.detach and runtime.phase is BuildPhase.BUILDING
    )
    return exit_codes.OK if ended_well else exit_codes.FAILED


async def _wait(client: ControllerClient, runtime: RuntimeStatus) -> RuntimeStatus:
    """Follows the build until it ends."""
    narrator = Narrator()
    async with contextlib.aclosing(client.events()) as events:
        async for event in events:
            match event:
                case Overview(runtimes=runtimes):
                    runtime = next((r for r in runtimes if r.name == runtime.name), runtime)
                case RuntimeChanged(changed) if changed.name == runtime.name:
                    runtime = changed
                case _:
                    continue
            if runtime.phase is not BuildPhase.BUILDING:
                narrator.clear()
                return runtime
            narrator.runtime(runtime)
    raise Unavailable("The controller went away.", hint="The build is taken up again with it.")


async def _delete(client: ControllerClient, arguments: argparse.Namespace) -> int:
    await client.delete_runtime(arguments.name)
    if not arguments.json:
        print(f"{arguments.name}  deleted")
    return exit_codes.OK


async def _logs(client: ControllerClient, arguments: argparse.Namespace) -> int:
    lines = client.runtime_log(arguments.name, tail=arguments.tail, follow=arguments.follow)
    async with contextlib.aclosing(lines):
        async for line in lines:
            print_json({"line": line}) if arguments.json else print(line, flush=arguments.follow)
    return exit_codes.OK

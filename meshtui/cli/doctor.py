"""`meshtui doctor`: whether servers of a connection can run on its cluster, and what to do."""

import argparse
import asyncio
import sys

from meshtui.cli import exit_codes
from meshtui.cli.command import print_json, run_action
from meshtui.cli.text import size, table
from meshtui.client import ControllerClient
from meshtui.domain.finding import Level
from meshtui.domain.text import one_line

_MARKS = {Level.OK: "ok", Level.WARNING: "warning", Level.BLOCKER: "BLOCKER"}


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="meshtui doctor",
        description="Looks whether servers can run on a connection's cluster; changes nothing.",
    )
    parser.add_argument(
        "--connection", required=True, metavar="NAME", help="a connection, or an execution config"
    )
    parser.add_argument("--json", action="store_true", help="print JSON to stdout")
    parser.set_defaults(action=_doctor, connect=False, spawn=False)
    return run_action(parser, words)


async def _doctor(client: ControllerClient, arguments: argparse.Namespace) -> int:
    # What talks to clusters takes half a second to import.
    from meshtui.cli.kubernetes import execution_named
    from meshtui.deploy.kubernetes.api import Cluster
    from meshtui.deploy.kubernetes.preflight import preflight

    execution = await asyncio.to_thread(execution_named, arguments.connection)
    proxy = execution.proxy.https if execution.proxy is not None else None
    cluster = await Cluster.connect(execution.context, proxy=proxy)
    try:
        found = await preflight(cluster, execution)
    finally:
        await cluster.close()
    if arguments.json:
        print_json(found)
        return exit_codes.OK if found.is_fine else exit_codes.FAILED
    for finding in found.findings:
        print(f"{_MARKS[finding.level]:<8}  {one_line(finding.message, 2000)}")
        if finding.fix:
            print(f"{'':<8}  {one_line(finding.fix, 2000)}")
    if found.nodes:
        head = ("NODE", "GPUS", "FREE", "PRODUCT", "MEMORY", "CAPABILITY", "DRIVER", "TAINTS")
        rows = (
            (
                node.name,
                str(node.count),
                "?" if node.free is None else str(node.free),
                node.product or "–",
                size(node.memory_bytes),
                str(node.compute_capability or "–"),
                node.driver or "–",
                ", ".join(node.taints) or "–",
            )
            for node in found.nodes
        )
        print()
        print(table(head, rows, right=("GPUS", "FREE")))
    if not found.is_fine:
        print("meshtui: servers cannot run there yet.", file=sys.stderr)
        return exit_codes.FAILED
    return exit_codes.OK

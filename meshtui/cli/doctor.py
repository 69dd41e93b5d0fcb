"""`meshtui doctor`: whether servers can run on this machine, or on a connection's cluster."""

import argparse
import asyncio
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshtui.cli import exit_codes
from meshtui.cli.command import print_json, run_action
from meshtui.cli.text import size, table
from meshtui.client import ControllerClient
from meshtui.deploy.definitions import shipped_definitions
from meshtui.domain.execution import LOCAL, KubernetesExecution
from meshtui.domain.finding import Finding, Level
from meshtui.domain.text import one_line
from meshtui.settings import paths
from meshtui.settings.store import Settings

if TYPE_CHECKING:
    from meshtui.deploy.kubernetes.nodes import GpuNode

_MARKS = {Level.OK: "ok", Level.WARNING: "warning", Level.BLOCKER: "BLOCKER"}


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="meshtui doctor",
        description="Looks whether servers can run, and says what to do where they cannot: on this "
        "machine, or where a connection's models run. Changes nothing.",
    )
    parser.add_argument(
        "--connection", metavar="NAME", help="a connection, or an execution config of a cluster"
    )
    parser.add_argument("--json", action="store_true", help="print JSON to stdout")
    parser.set_defaults(action=_doctor, connect=False, spawn=False)
    return run_action(parser, words)


async def _doctor(client: ControllerClient, arguments: argparse.Namespace) -> int:
    settings = Settings(paths.config_dir(), shipped_definitions())
    await asyncio.to_thread(settings.refresh)
    wanted = arguments.connection or LOCAL
    if connection := settings.connections.all.get(wanted):
        wanted = connection.execution
    if wanted == LOCAL:
        return await _this_machine(settings, arguments)
    return await _cluster(settings.executions.find(wanted), arguments)


async def _this_machine(settings: Settings, arguments: argparse.Namespace) -> int:
    # What judges GPUs and disks is not needed for a cluster.
    from meshtui.cache.store import ModelStore
    from meshtui.deploy.this_machine import judge, look_here

    store = ModelStore(paths.models_dir())
    here = await look_here(settings.runtime_definitions, paths.runtimes_dir(), store)
    findings = judge(here)
    if arguments.json:
        print_json({"findings": findings})
    else:
        _print(findings)
    return _verdict(findings, "here", arguments)


async def _cluster(execution: KubernetesExecution, arguments: argparse.Namespace) -> int:
    # What talks to clusters takes half a second to import.
    from meshtui.deploy.kubernetes.api import Cluster
    from meshtui.deploy.kubernetes.preflight import preflight

    proxy = execution.proxy.https if execution.proxy is not None else None
    cluster = await Cluster.connect(execution.context, proxy=proxy)
    try:
        found = await preflight(cluster, execution)
    finally:
        await cluster.close()
    if arguments.json:
        print_json(found)
    else:
        _print(found.findings)
        if found.nodes:
            print()
            _print_nodes(found.nodes)
    return _verdict(found.findings, "there", arguments)


def _print(findings: Iterable[Finding]) -> None:
    for finding in findings:
        print(f"{_MARKS[finding.level]:<8}  {one_line(finding.message, 2000)}")
        if finding.fix:
            print(f"{'':<8}  {one_line(finding.fix, 2000)}")


def _print_nodes(nodes: Iterable["GpuNode"]) -> None:
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
        for node in nodes
    )
    print(table(head, rows, right=("GPUS", "FREE")))


def _verdict(findings: Iterable[Finding], where: str, arguments: argparse.Namespace) -> int:
    if all(finding.level is not Level.BLOCKER for finding in findings):
        return exit_codes.OK
    if not arguments.json:
        print(f"meshtui: servers cannot run {where} yet.", file=sys.stderr)
    return exit_codes.FAILED

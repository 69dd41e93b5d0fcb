"""`meshtui cache export`: models as archives or folders."""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from meshtui.cli import exit_codes
from meshtui.cli.asking import confirm
from meshtui.cli.cache.working import each, print_findings_of, tell, work
from meshtui.cli.command import print_json
from meshtui.cli.text import size, table
from meshtui.client import ControllerClient
from meshtui.domain.amounts import bytes_of
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import ExportPlan, ExportWishes
from meshtui.domain.model_ref import ModelRef


async def export(client: ControllerClient, arguments: argparse.Namespace) -> int:
    wishes = ExportWishes(
        folder=arguments.to,
        container=arguments.container,
        volume_bytes=bytes_of(arguments.volume_size) if arguments.volume_size else None,
        checksums=arguments.checksums,
        replace=arguments.replace,
    )
    models = list(dict.fromkeys(str(ModelRef.parse(model)) for model in arguments.models))
    plans, refused = await each(client.plan_export(model, wishes) for model in models)
    if arguments.dry_run:
        shown = _show(plans, arguments)
        said = tell(refused)
        return shown or said
    lost = _existing(plans)
    if arguments.replace and lost:
        await confirm(f"Overwrite {', '.join(lost)}?", yes=arguments.yes)
    starts = [functools.partial(client.export, plan.model, wishes) for plan in plans]
    status = await work(client, arguments, starts, refused=refused)
    print_findings_of([(plan.model, _known_before(plan)) for plan in plans])
    if status == exit_codes.OK and not arguments.detach:
        for plan in plans:
            for path in plan.paths:
                print(path, file=sys.stderr)
    return status


def _known_before(plan: ExportPlan) -> list[Finding]:
    """What is worth knowing of the archives, and no reason for which one was not written."""
    return [finding for finding in plan.findings if finding.level is not Level.BLOCKER]


def _existing(plans: Sequence[ExportPlan]) -> list[str]:
    return [path for plan in plans for path in plan.paths if Path(path).exists()]


def _show(plans: Sequence[ExportPlan], arguments: argparse.Namespace) -> int:
    status = exit_codes.OK
    if arguments.json:
        print_json(plans)
    else:
        rows = (
            (plan.model, str(plan.files), size(plan.size_bytes), size(plan.free_bytes), path)
            for plan in plans
            for path in plan.paths
        )
        head = ("MODEL", "FILES", "SIZE", "FREE", "TO")
        print(table(head, rows, right=("FILES", "SIZE", "FREE")))
    print_findings_of([(plan.model, plan.findings) for plan in plans])
    for plan in plans:
        if any(finding.level is Level.BLOCKER for finding in plan.findings):
            status = status or exit_codes.FAILED
    return status

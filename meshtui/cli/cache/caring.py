"""`meshtui cache verify`, `delete` and `prune`."""

import argparse
import functools
import sys
from typing import TextIO

from meshtui.cli import exit_codes
from meshtui.cli.asking import confirm
from meshtui.cli.cache.working import work
from meshtui.cli.command import print_json
from meshtui.cli.text import size, table
from meshtui.client import ControllerClient
from meshtui.domain.amounts import bytes_of, seconds_of
from meshtui.domain.errors import InvalidInput
from meshtui.domain.model_cache import DeletePlan, PrunePlan, PruneWishes
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line


async def verify(client: ControllerClient, arguments: argparse.Namespace) -> int:
    """Ends with `FAILED` where anything is wrong with any of them."""
    if bool(arguments.models) == arguments.all:
        raise InvalidInput("Say which models to verify: MODEL... or --all.")
    models = [str(ModelRef.parse(model)) for model in arguments.models]
    if arguments.all:
        models = [entry.model for entry in await client.cache_entries() if not entry.problem]
    starts = [
        functools.partial(client.verify, model, arguments.hub, arguments.connection)
        for model in dict.fromkeys(models)
    ]
    return await work(client, arguments, starts)


async def delete(client: ControllerClient, arguments: argparse.Namespace) -> int:
    """All of them, or none where one may not be deleted."""
    plans = await client.plan_delete(arguments.models)
    refused = any(plan.refusal for plan in plans)
    if arguments.dry_run or refused:
        return _show_deletes(plans, arguments, "would be deleted")
    freed = size(sum(plan.frees_bytes for plan in plans))
    enabled = [plan.model for plan in plans if plan.enabled_on]
    warning = f" {', '.join(enabled)} would be fetched again at the next start." if enabled else ""
    names = ", ".join(plan.model for plan in plans)
    await confirm(f"Delete {names} and free {freed}?{warning}", yes=arguments.yes)
    return _show_deletes(await client.delete_models(arguments.models), arguments, "deleted")


def _show_deletes(plans: list[DeletePlan], arguments: argparse.Namespace, said: str) -> int:
    if arguments.json:
        print_json(plans)
    else:
        rows = (
            (
                plan.model,
                size(plan.frees_bytes),
                ", ".join(plan.enabled_on) or "–",
                ", ".join(plan.served_by) or "–",
                "refused" if plan.refusal else said,
            )
            for plan in plans
        )
        print(table(("MODEL", "FREES", "ENABLED ON", "SERVED BY", ""), rows, right=("FREES",)))
    status = exit_codes.OK
    for plan in plans:
        if plan.refusal:
            print(f"meshtui: {plan.model}: {one_line(plan.refusal, 2000)}", file=sys.stderr)
            status = exit_codes.CONFLICT
    return status


async def prune(client: ControllerClient, arguments: argparse.Namespace) -> int:
    wishes = PruneWishes(
        unused_s=seconds_of(arguments.unused) if arguments.unused else None,
        budget_bytes=bytes_of(arguments.budget) if arguments.budget else None,
        partials=arguments.partials,
        detached=arguments.detached,
    )
    if wishes == PruneWishes():
        raise InvalidInput(
            "Say what may go: --unused, --budget, --partials or --detached.",
            hint="Look first: add --dry-run.",
        )
    plan = await client.plan_prune(wishes)
    if arguments.dry_run or not plan.items:
        return _show_prune(plan, arguments, "would go")
    count = f"{len(plan.items)} item{'s' if len(plan.items) > 1 else ''}"
    if not arguments.yes:
        _show_items(plan, "would go", file=sys.stderr)
    await confirm(f"Remove {count} and free {size(plan.frees_bytes)}?", yes=arguments.yes)
    return _show_prune(await client.prune(wishes), arguments, "removed")


def _show_prune(plan: PrunePlan, arguments: argparse.Namespace, said: str) -> int:
    if arguments.json:
        print_json(plan)
    elif plan.items or plan.kept:
        _show_items(plan, said, file=sys.stdout)
    if not plan.items:
        print("There is nothing to remove.", file=sys.stderr)
    return exit_codes.OK


def _show_items(plan: PrunePlan, said: str, *, file: TextIO) -> None:
    rows = [
        (item.model, size(item.frees_bytes), what, item.reason)
        for what, items in ((said, plan.items), ("kept", plan.kept))
        for item in items
    ]
    print(table(("MODEL", "FREES", "", "WHY"), rows, right=("FREES",)), file=file)

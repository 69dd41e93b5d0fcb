"""`meshtui cache download`, `import` and `build`."""

import argparse
import functools
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from meshtui.cli import exit_codes
from meshtui.cli.asking import ask, can_ask, confirm
from meshtui.cli.cache.working import each, print_findings, tell, work
from meshtui.cli.command import print_json
from meshtui.cli.text import size, table
from meshtui.client import ControllerClient
from meshtui.domain.errors import InvalidInput, MeshtuiError
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import BuildPlan, BuildWishes, DownloadPlan, ImportPlan
from meshtui.domain.model_ref import ModelRef


async def download(client: ControllerClient, arguments: argparse.Namespace) -> int:
    models = list(dict.fromkeys(str(ModelRef.parse(model)) for model in arguments.models))
    many = len(models) > 1
    chosen: dict[str, list[str] | None] = dict.fromkeys(models)
    refused: list[MeshtuiError] = []
    if arguments.include or arguments.exclude or arguments.dry_run:
        plans, refused = await each(_plan_download(client, model, arguments) for model in models)
        if arguments.dry_run:
            shown = _show_downloads(plans, arguments, many=many)
            said = tell(refused)
            return shown or said
        chosen = {plan.model: [file.path for file in plan.files if file.selected] for plan in plans}
    if arguments.replace:
        there = {entry.model for entry in await client.cache_entries()}
        if lost := [model for model in chosen if model in there]:
            names = ", ".join(lost)
            await confirm(f"Fetch {names} anew and replace what is there?", yes=arguments.yes)
    starts = [
        functools.partial(client.download, model, arguments.connection, files, arguments.replace)
        for model, files in chosen.items()
    ]
    return await work(client, arguments, starts, many=many, refused=refused)


async def _plan_download(
    client: ControllerClient, model: str, arguments: argparse.Namespace
) -> DownloadPlan:
    """With the files that are wished for. Raises `InvalidInput` where none is."""
    plan = await client.plan_download(model, arguments.connection)
    if arguments.include or arguments.exclude:
        plan = _chosen(plan, arguments.include, arguments.exclude)
        if not any(file.selected for file in plan.files):
            raise InvalidInput(f"No file of {model} is left to fetch.", hint="Look with --dry-run.")
    return plan


def _chosen(plan: DownloadPlan, include: Sequence[str], exclude: Sequence[str]) -> DownloadPlan:
    """`include` stands for the usual choice; `exclude` takes out of either."""

    def is_in(path: str, globs: Sequence[str]) -> bool:
        return any(fnmatchcase(path, glob) for glob in globs)

    files = []
    for file in plan.files:
        selected = is_in(file.path, include) if include else file.selected
        reason = file.reason
        if selected and is_in(file.path, exclude):
            selected = False
        if selected is not file.selected:
            reason = "chosen" if selected else "left out"
        files.append(msgspec.structs.replace(file, selected=selected, reason=reason))
    return msgspec.structs.replace(plan, files=tuple(files))


def _show_downloads(
    plans: Sequence[DownloadPlan], arguments: argparse.Namespace, *, many: bool
) -> int:
    if arguments.json and (many or plans):
        print_json(plans if many else plans[0])
    statuses = [_show_download(plan, arguments) for plan in plans]
    return next(filter(None, statuses), exit_codes.OK)


def _show_download(plan: DownloadPlan, arguments: argparse.Namespace) -> int:
    if not arguments.json:
        rows = (
            ("fetch" if file.selected else "leave", size(file.size_bytes), file.path, file.reason)
            for file in plan.files
        )
        print(table(("", "SIZE", "FILE", "WHY"), rows, right=("SIZE",)))
        have = f", {size(plan.have_bytes)} of it there" if plan.have_bytes else ""
        print(
            f"{plan.model} at {plan.commit[:10]}: {size(plan.total_bytes)}{have}; "
            f"{size(plan.free_bytes)} free",
            file=sys.stderr,
        )
    if plan.cached:
        print(f"{plan.model} is in the cache.", file=sys.stderr)
    print_findings(plan.findings, "")
    return exit_codes.FAILED if _blocked(plan.findings) else exit_codes.OK


async def import_(client: ControllerClient, arguments: argparse.Namespace) -> int:
    sources = arguments.paths
    refused: list[MeshtuiError] = []
    # A folder may hold many, and what is replaced has to be known before.
    if arguments.dry_run or arguments.replace or _any_folder(sources):
        found, refused = await each(client.plan_import(path) for path in arguments.paths)
        plans = [plan for several in found for plan in several]
        if arguments.dry_run:
            shown = _show_imports(plans, arguments)
            said = tell(refused)
            return shown or said
        sources = [plan.source for plan in plans]
        lost = [str(plan.model) for plan in plans if plan.replaces]
        if arguments.replace and lost:
            await confirm(f"Replace {', '.join(lost)} in the cache?", yes=arguments.yes)
    starts = [
        functools.partial(client.import_model, source, arguments.replace) for source in sources
    ]
    return await work(client, arguments, starts, refused=refused)


def _any_folder(paths: Sequence[str]) -> bool:
    return any(Path(path).is_dir() for path in paths)


def _show_imports(plans: Sequence[ImportPlan], arguments: argparse.Namespace) -> int:
    status = exit_codes.OK
    if arguments.json:
        print_json(plans)
    else:
        head = ("MODEL", "FILES", "SIZE", "TASK", "REVISION", "CONTAINER", "SOURCE", "")
        rows = (
            (
                plan.model or "–",
                str(plan.files),
                size(plan.size_bytes),
                plan.task or "–",
                (plan.commit or "–")[:10],
                plan.container,
                plan.source,
                "is in the cache" if plan.replaces else "",
            )
            for plan in plans
        )
        print(table(head, rows, right=("FILES", "SIZE")))
    for plan in plans:
        print_findings(plan.findings, plan.model or plan.source)
        if not plan.possible:
            status = status or exit_codes.USAGE
        elif plan.replaces and not arguments.replace:
            status = status or exit_codes.CONFLICT
    return status


async def build(client: ControllerClient, arguments: argparse.Namespace) -> int:
    path = arguments.path
    wishes = BuildWishes(
        model=str(ModelRef.parse(arguments.model)) if arguments.model else None,
        commit=arguments.commit,
        task=arguments.task,
        library=arguments.library,
        languages=None if arguments.language is None else tuple(arguments.language),
        tags=None if arguments.tag is None else tuple(arguments.tag),
    )
    plan = await client.plan_build(path, wishes)
    if not arguments.dry_run and can_ask():
        wishes = await _asked(plan, wishes)
        plan = await client.plan_build(path, wishes)
    if arguments.dry_run:
        return _show_build(plan, arguments)
    if plan.model is None:
        raise InvalidInput(
            "The files do not tell which model they are.", hint="Say it: --model ORG/NAME"
        )
    if arguments.replace and plan.replaces:
        await confirm(f"Replace {plan.model} in the cache?", yes=arguments.yes)
    start = functools.partial(client.build_entry, path, wishes, arguments.replace)
    return await work(client, arguments, [start], many=False)


async def _asked(plan: BuildPlan, wishes: BuildWishes) -> BuildWishes:
    """With what the files do not tell, from a person who may leave all but the name empty."""
    while plan.model is None and wishes.model is None:
        if not (typed := await ask("Which model is it? (org/name)")):
            raise InvalidInput("A model needs a name.", hint="Say it: --model ORG/NAME")
        try:
            wishes = msgspec.structs.replace(wishes, model=str(ModelRef.parse(typed)))
        except InvalidInput as error:
            print(error, file=sys.stderr)
    for field, question in (
        ("task", "What is it for? (text-generation, ...; may be empty)"),
        ("library", "Which library loads it? (transformers, ...; may be empty)"),
    ):
        if getattr(plan, field) is None and getattr(wishes, field) is None:
            wishes = msgspec.structs.replace(wishes, **{field: await ask(question) or None})
    return wishes


def _show_build(plan: BuildPlan, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json(plan)
    else:
        for name, value in (
            ("model", plan.model or "not known: --model ORG/NAME"),
            ("files", f"{plan.files}, {size(plan.size_bytes)}"),
            ("commit", plan.commit or "–"),
            ("task", plan.task or "–"),
            ("library", plan.library or "–"),
            ("languages", ", ".join(plan.languages) or "–"),
            ("tags", ", ".join(plan.tags) or "–"),
            ("how", "linked: no byte is copied" if plan.links else "copied"),
        ):
            print(f"{name:<10} {value}")
    print_findings(plan.findings, plan.model or plan.source)
    if plan.model is None or _blocked(plan.findings):
        return exit_codes.USAGE
    return exit_codes.CONFLICT if plan.replaces and not arguments.replace else exit_codes.OK


def _blocked(findings: Sequence[Finding]) -> bool:
    return any(finding.level is Level.BLOCKER for finding in findings)

"""`meshtui cache adopt`: models of the standard Hugging Face cache."""

import argparse
import functools
import sys
from collections.abc import Sequence

from meshtui.cli import exit_codes
from meshtui.cli.asking import confirm
from meshtui.cli.cache.working import print_findings, work
from meshtui.cli.command import print_json
from meshtui.cli.text import ago, size, table
from meshtui.client import ControllerClient
from meshtui.domain.errors import Conflict, NotFound
from meshtui.domain.finding import Level
from meshtui.domain.model_cache import HubCacheRepo
from meshtui.domain.model_ref import ModelRef

_HOW = {"link": "linked", "reflink": "shared blocks", "copy": "needs --copy"}


async def adopt(client: ControllerClient, arguments: argparse.Namespace) -> int:
    found = await client.hub_cache(arguments.source)
    if not arguments.models and not arguments.all:
        return _show(found, arguments)
    chosen = _all_new(found) if arguments.all else _named(found, arguments.models)
    if arguments.dry_run:
        return _show(chosen, arguments)
    lost = [repo.model for repo in chosen if repo.cached]
    if arguments.replace and lost:
        await confirm(f"Replace {', '.join(lost)} in the cache?", yes=arguments.yes)
    starts = [
        functools.partial(client.adopt, repo.folder, arguments.replace, arguments.copy)
        for repo in chosen
    ]
    return await work(client, arguments, starts)


def _all_new(found: Sequence[HubCacheRepo]) -> list[HubCacheRepo]:
    return [repo for repo in found if not repo.cached and not _problem(repo)]


def _named(found: Sequence[HubCacheRepo], names: Sequence[str]) -> list[HubCacheRepo]:
    chosen = []
    for name in dict.fromkeys(str(ModelRef.parse(name)) for name in names):
        same = [repo for repo in found if repo.model == name]
        if not same:
            raise NotFound(
                f"{name} is not in the Hugging Face cache.", hint="See: meshtui cache adopt"
            )
        if len(same) > 1:
            commits = ", ".join(repo.commit[:10] for repo in same)
            raise Conflict(f"{name} is there several times: {commits}.")
        chosen += same
    return chosen


def _show(repos: Sequence[HubCacheRepo], arguments: argparse.Namespace) -> int:
    status = exit_codes.OK
    if arguments.json:
        print_json(repos)
    elif not repos:
        print("There is nothing to adopt.", file=sys.stderr)
    else:
        head = ("MODEL", "SIZE", "FILES", "REVISION", "CHANGED", "HOW", "STATE")
        print(table(head, map(_row, repos), right=("SIZE", "FILES", "CHANGED")))
    for repo in repos:
        if arguments.models or arguments.all:
            print_findings(repo.findings, repo.model)
            if repo.cached and not arguments.replace:
                status = status or exit_codes.CONFLICT
            elif _problem(repo) or (repo.how == "copy" and not arguments.copy):
                status = status or exit_codes.USAGE
    return status


def _row(repo: HubCacheRepo) -> tuple[str, ...]:
    return (
        repo.model,
        size(repo.size_bytes),
        str(repo.files),
        repo.commit[:10],
        ago(repo.last_modified_at),
        _HOW[repo.how],
        _problem(repo) or ("is in the cache" if repo.cached else "new"),
    )


def _problem(repo: HubCacheRepo) -> str:
    """Why it cannot be adopted; empty where it can."""
    blockers = (f.message for f in repo.findings if f.level is Level.BLOCKER)
    return next(blockers, "")

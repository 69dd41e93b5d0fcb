"""`meshtui cache adopt`: models of the standard Hugging Face cache."""

import argparse
import functools
import sys
from collections.abc import Iterable, Sequence

from meshtui.cli import exit_codes
from meshtui.cli.asking import confirm
from meshtui.cli.cache.working import print_findings, tell, work
from meshtui.cli.command import print_json
from meshtui.cli.text import ago, size, table
from meshtui.client import ControllerClient
from meshtui.domain.errors import Conflict, MeshtuiError, NotFound
from meshtui.domain.finding import Level
from meshtui.domain.model_cache import HubCacheRepo
from meshtui.domain.model_ref import ModelRef

_HOW = {"link": "linked", "reflink": "shared blocks", "copy": "needs --copy"}


async def adopt(client: ControllerClient, arguments: argparse.Namespace) -> int:
    found = await client.hub_cache(arguments.source)
    if not arguments.models and not arguments.all:
        return _show(found, arguments)
    refused: list[MeshtuiError] = []
    if arguments.all:
        chosen = _all_new(found)
    else:
        chosen, refused = _named(found, (str(ModelRef.parse(name)) for name in arguments.models))
    if arguments.dry_run:
        shown = _show(chosen, arguments)
        said = tell(refused)
        return shown or said
    lost = [repo.model for repo in chosen if repo.cached]
    if arguments.replace and lost:
        await confirm(f"Replace {', '.join(lost)} in the cache?", yes=arguments.yes)
    starts = [
        functools.partial(client.adopt, repo.folder, arguments.replace, arguments.copy)
        for repo in chosen
    ]
    return await work(client, arguments, starts, refused=refused)


def _all_new(found: Sequence[HubCacheRepo]) -> list[HubCacheRepo]:
    return [repo for repo in found if not repo.cached and not _problem(repo)]


def _named(
    found: Sequence[HubCacheRepo], names: Iterable[str]
) -> tuple[list[HubCacheRepo], list[MeshtuiError]]:
    """Those that can be meant, and why the others cannot."""
    chosen: list[HubCacheRepo] = []
    refused: list[MeshtuiError] = []
    for name in dict.fromkeys(names):
        same = [repo for repo in found if repo.model == name]
        if not same:
            missing = f"{name} is not in the Hugging Face cache."
            refused.append(NotFound(missing, hint="See: meshtui cache adopt"))
        elif len(same) > 1:
            commits = ", ".join(repo.commit[:10] for repo in same)
            refused.append(Conflict(f"{name} is there several times: {commits}."))
        else:
            chosen += same
    return chosen, refused


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

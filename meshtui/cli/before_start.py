"""What is said before a model is started that would not run."""

import asyncio
import sys

from meshtui.cli.asking import Declined, ask, can_ask
from meshtui.client import ControllerClient
from meshtui.domain.check import CheckReport, CheckWishes, Verdict
from meshtui.domain.errors import Conflict, MeshtuiError
from meshtui.domain.finding import Finding, Level
from meshtui.domain.text import one_line

# The start itself says soon enough what is wrong with the Hub.
_PATIENCE_S = 10.0
_OF_THE_HUB = "access"


async def check_before_start(client: ControllerClient, model: str, connection: str | None) -> None:
    """Returns where the model runs, where it cannot be told, and where the person wants to start it
    all the same. Raises `Conflict` with the blocker where nobody can be asked, and `Declined`."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            report = await client.check(model, CheckWishes(connection=connection))
    except (MeshtuiError, TimeoutError):
        # Whatever is wrong, the start will say so as well.
        return
    blockers = blockers_of(report)
    if not blockers:
        return
    first = blockers[0]
    if not can_ask():
        raise Conflict(
            f"{model} does not run here: {first.message}",
            hint=f"{first.fix} To start it all the same: --force.".strip(),
        )
    for finding in blockers:
        print(f"✗ {one_line(finding.message, 2000)}", file=sys.stderr)
        if finding.fix:
            print(f"  {one_line(finding.fix, 2000)}", file=sys.stderr)
    if (await ask("Start it all the same? [y/N]")).lower() not in ("y", "yes"):
        raise Declined("Nothing was started.")


def blockers_of(report: CheckReport) -> list[Finding]:
    """What speaks against starting it; whether the Hub gives it is found out by fetching it."""
    if report.verdict is not Verdict.BLOCKED:
        return []
    return [
        finding
        for finding in report.findings
        if finding.level is Level.BLOCKER and finding.rule != _OF_THE_HUB
    ]

"""What is said before a model is started that would not run."""

import argparse
import sys

from meshtui.cli.asking import Declined, ask, can_ask
from meshtui.client import ControllerClient
from meshtui.domain.errors import Conflict
from meshtui.domain.text import one_line


def add_force(parser: argparse.ArgumentParser) -> None:
    """The option that starts a model whatever speaks against it."""
    parser.add_argument("--force", action="store_true", help="start it also where it would not run")


async def check_before_start(client: ControllerClient, model: str, connection: str | None) -> None:
    """Returns where nothing speaks against starting the model, and where the person wants to start
    it all the same. Raises `Conflict` with the blocker where nobody can be asked, `Declined`, and
    as `start_blockers`."""
    blockers = await client.start_blockers(model, connection)
    if not blockers:
        return
    if not can_ask():
        first = blockers[0]
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

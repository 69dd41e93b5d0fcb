"""What speaks against starting a server, told in time to ask the person first."""

import asyncio

from meshtui.controller.catalogue import Catalogue
from meshtui.controller.checks import Checks
from meshtui.controller.parts import Servers
from meshtui.domain.check import CheckWishes, Verdict
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.finding import Finding, Level
from meshtui.domain.server import Phase, ServerStatus

# The start itself says soon enough what is wrong with the Hub.
_PATIENCE_S = 5.0
_OF_THE_HUB = "access"


class BeforeStart:
    """Judges enabled models as their servers would be started now."""

    def __init__(self, catalogue: Catalogue, servers: Servers, checks: Checks) -> None:
        self._catalogue = catalogue
        self._servers = servers
        self._checks = checks

    async def blockers(self, model: str, connection: str | None) -> tuple[Finding, ...]:
        """The blockers of the model's verdict. None where its server runs or ran well the last
        time, where it cannot be told within some seconds, and where only the Hub may refuse: what
        is wrong then, the start says. Raises as `Catalogue.find`."""
        choice = self._catalogue.find(model, connection)
        if _runs(self._servers.find(choice.connection.name, choice.enabled.model)):
            return ()
        wishes = CheckWishes(connection=choice.connection.name)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                [report] = await self._checks.check([choice.enabled.model], wishes)
        except (MeshtuiError, TimeoutError):
            return ()
        if report.verdict is not Verdict.BLOCKED:
            return ()
        return tuple(
            finding
            for finding in report.findings
            if finding.level is Level.BLOCKER and finding.rule != _OF_THE_HUB
        )


def _runs(server: ServerStatus | None) -> bool:
    """Whether it runs, or did until it was stopped: no estimate knows better."""
    if server is None:
        return False
    return not server.phase.is_over or (
        server.phase is Phase.STOPPED and server.ready_at is not None
    )

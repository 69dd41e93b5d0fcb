"""Asking before a server is started of which the checker says that it would not run."""

from typing import TYPE_CHECKING

from meshtui.domain.text import one_line

if TYPE_CHECKING:
    from .app import MeshtuiApp

_MOST_BLOCKERS = 4


async def may_start(app: "MeshtuiApp", model: str, connection: str, label: str) -> bool:
    """Whether to go on: nothing speaks against it, or the person wants it all the same. To be
    called from a worker. Raises what `start_blockers` does."""
    server = app.state.server_of(connection, model)
    if server is not None and not server.phase.is_over:
        return True
    blockers = await app.client.start_blockers(model, connection)
    if not blockers:
        return True
    from .widgets.dialogs import StartAnyway

    details = []
    for finding in blockers[:_MOST_BLOCKERS]:
        details.append(f"✗ {one_line(finding.message, 300)}")
        if finding.fix:
            details.append(f"→ {one_line(finding.fix, 300)}")
    question = f"Start {one_line(label, 60)}, although it does not run?"
    chosen = await app.push_screen_wait(StartAnyway(question, details))
    if chosen == StartAnyway.CHECK:
        app.action_check(model)
    return chosen == StartAnyway.START

"""Waiting for a server with its steps on stderr."""

import contextlib

from meshtui.cli.narration import Narrator
from meshtui.client import ControllerClient
from meshtui.domain.controller import Overview, ServerChanged
from meshtui.domain.errors import StartFailed, Unavailable
from meshtui.domain.server import Phase, ServerStatus


async def until_started(client: ControllerClient, server: ServerStatus) -> ServerStatus:
    """Follows the server until it is ready or over."""
    narrator = Narrator()
    async with contextlib.aclosing(client.events()) as events:
        async for event in events:
            match event:
                case Overview(servers=servers):
                    server = next((s for s in servers if s.id == server.id), server)
                case ServerChanged(changed) if changed.id == server.id:
                    server = changed
                case _:
                    continue
            narrator.server(server)
            if server.phase is Phase.READY or server.phase.is_over:
                narrator.clear()
                return server
    raise Unavailable("The controller went away.", hint="Servers go on; try again.")


async def started(client: ControllerClient, model: str, connection: str | None) -> None:
    """Starts the model's server and returns when it is ready; raises `StartFailed` where it does
    not become so, with the reason."""
    server = await client.start_server(model, connection)
    if server.phase is not Phase.READY:
        server = await until_started(client, server)
    if server.phase is Phase.READY:
        return
    why = server.explanation
    raise StartFailed(
        why.cause if why else f"The server of {model} was stopped.",
        hint=why.fix if why else f"Its log: meshtui server logs {server.id}",
    )

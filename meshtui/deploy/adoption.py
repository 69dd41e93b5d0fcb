"""What a new controller does with the servers of the one before it."""

import asyncio
from enum import Enum, auto
from pathlib import Path

from meshtui.deploy.local import EngineProcess, SupervisorRecord, read_record, reap_orphans
from meshtui.deploy.logtail import log_end
from meshtui.deploy.records import load_key
from meshtui.deploy.server import Server
from meshtui.deploy.starting import Explain
from meshtui.domain.server import Explanation, Phase


class Adoption(Enum):
    """What became of a server, and so what is to be done with it."""

    OVER = auto()
    STARTING = auto()
    READY = auto()
    STOPPING = auto()


async def adopt(server: Server, explain: Explain) -> Adoption:
    """Finds the server's supervisor by pid, start time and nonce, and gives the server its
    process and key; or finds out how it ended, kills what is left of it and marks it."""
    nonce = server.record.nonce
    process = await EngineProcess.adopt(server.folder, nonce) if nonce else None
    if process is not None:
        server.process = process
        server.key = await asyncio.to_thread(load_key, server.folder)
        if server.phase is Phase.READY:
            server.rest()
            return Adoption.READY
        return Adoption.STARTING if server.phase.is_starting else Adoption.STOPPING
    record = await asyncio.to_thread(read_record, server.folder)
    if record is not None and record.state != "exited":
        await asyncio.to_thread(reap_orphans, record)
    if not server.phase.is_over:
        ours = record if record is not None and record.nonce == nonce else None
        server.over(await _why(server, ours, explain))
    return Adoption.OVER


async def end_unknown(folder: Path) -> None:
    """Ends what runs in a folder whose record cannot be read (another version wrote it, or the
    disk was full): nobody could see it, use it or stop it, and it would never be idle."""
    record = await asyncio.to_thread(read_record, folder)
    if record is None or record.state == "exited":
        return
    process = await EngineProcess.adopt(folder, record.nonce)
    if process is None:
        await asyncio.to_thread(reap_orphans, record)
    else:
        await process.end(grace_s=None)


async def _why(
    server: Server, record: SupervisorRecord | None, explain: Explain
) -> Explanation | None:
    """Why it is not running any more; None where it was stopped."""
    if server.phase is Phase.STOPPING:
        return None
    if record is None:
        return Explanation(
            cause="The controller ended before the engine was started.",
            fix="Start it again; what was built and fetched until then is kept.",
            failure_id="controller-ended",
        )
    if record.state != "exited":
        return Explanation(
            cause="Its supervisor disappeared while the controller was away.",
            fix="Start it again.",
            failure_id="supervisor-killed",
        )
    if record.was_stopped:
        return None
    log = await asyncio.to_thread(log_end, server.folder)
    return await asyncio.to_thread(explain, record.exit_code, log)

"""What is kept on disk about each server, so that a killed controller loses nothing."""

import asyncio
import logging
from pathlib import Path

import msgspec

from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.server import ServerStatus
from meshtui.domain.task import Engine

RECORD_NAME = "server.json"
KEY_NAME = "key"

_log = logging.getLogger(__name__)


class PodRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of a server on a cluster, where all else about it stands. `is_made`: there is a
    Deployment, so that what the cluster shows of it counts."""

    execution: KubernetesExecution
    is_made: bool = False


class ServerRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A server as it is known to its controller, and to the next one.

    `nonce` names the newest start of an engine and is in its environment. `fallback` is the
    engine to try should the present one not start. `deadline` is when a start is given up, in
    seconds since the epoch. `pod` is there for servers on a cluster only.
    """

    status: ServerStatus
    connection: Connection
    enabled: EnabledModel
    nonce: str = ""
    engine: Engine | None = None
    fallback: Engine | None = None
    model_dir: str = ""
    deadline: float = 0.0
    grace_s: float = 0.0
    pod: PodRecord | None = None


def load_record(folder: Path) -> ServerRecord | None:
    """The record in a server's folder, or None where it cannot be read, or is not of this folder.
    Blocks."""
    try:
        record = msgspec.json.decode((folder / RECORD_NAME).read_bytes(), type=ServerRecord)
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("no server in %s: %s", folder, error)
        return None
    if record.status.id != folder.name or not record.status.phases:
        _log.warning("the record in %s is not that of a server of this name", folder)
        return None
    return record


def load_key(folder: Path) -> str:
    """The API key of the server's newest start; empty where there is none. Blocks."""
    try:
        return (folder / KEY_NAME).read_text()
    except OSError:
        return ""


def write_key(folder: Path, key: str) -> None:
    """Blocks."""
    (folder / KEY_NAME).unlink(missing_ok=True)
    (folder / KEY_NAME).touch(mode=0o600)
    (folder / KEY_NAME).write_text(key)


class RecordSaver:
    """Writes records in the background: only the newest state of each, one after the other.

    No fsync: a record is of use as long as its processes live, and those do not survive what
    makes a completed write disappear.
    """

    def __init__(self) -> None:
        self._pending: dict[Path, ServerRecord] = {}
        self._task: asyncio.Task[None] | None = None

    def save(self, folder: Path, record: ServerRecord) -> None:
        self._pending[folder] = record
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write_all())

    def forget(self, folder: Path) -> None:
        """Does not write this one any more."""
        self._pending.pop(folder, None)

    async def flush(self) -> None:
        """Waits until all that was to be saved is on disk."""
        while self._task is not None and not self._task.done():
            await asyncio.shield(self._task)

    async def _write_all(self) -> None:
        while self._pending:
            folder = next(iter(self._pending))
            record = self._pending.pop(folder)
            try:
                await asyncio.to_thread(_write, folder, record)
            # ValueError: a folder whose name is not UTF-8 has no JSON.
            except (OSError, ValueError) as error:
                _log.error("cannot save the state of %s: %s", record.status.id, error)


def _write(folder: Path, record: ServerRecord) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f"{RECORD_NAME}.tmp"
    temporary.write_bytes(msgspec.json.encode(record))
    temporary.replace(folder / RECORD_NAME)

"""What is known on disk of one runtime: its finished build, one under way, the last failure.

A folder per runtime: `runtime.json` (this record, replaced atomically), `build.log`, and one
environment folder per build, so that building anew leaves the one in use alone until it is done.
"""

from pathlib import Path

import msgspec

from meshtui.cache.files import write_atomically
from meshtui.deploy.installers import environment_python
from meshtui.domain.codec import from_json, to_json
from meshtui.domain.errors import InvalidInput
from meshtui.domain.runtime import BuildPhase, Package, RuntimeDefinition, RuntimeStatus
from meshtui.domain.server import Explanation

RECORD = "runtime.json"
LOG = "build.log"


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A finished build: the environment's folder name and what is in it."""

    folder: str
    fingerprint: str
    python: str
    packages: tuple[Package, ...]
    size_bytes: int
    started_at: float
    finished_at: float
    installer: str
    notices: tuple[str, ...] = ()


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A build that was begun; found on disk later, one that was interrupted."""

    folder: str
    started_at: float


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why the last build ended without a result. Without an explanation it was cancelled."""

    at: float
    started_at: float | None = None
    explanation: Explanation | None = None


class RuntimeRecord(msgspec.Struct, frozen=True, kw_only=True):
    built: Built | None = None
    attempt: Attempt | None = None
    failure: Failure | None = None


def read_record(folder: Path) -> RuntimeRecord:
    """The record of a runtime's folder; an empty one where there is none that can be read, or
    where the environment it tells of is gone."""
    try:
        record = from_json((folder / RECORD).read_bytes(), RuntimeRecord)
    except (OSError, InvalidInput):
        return RuntimeRecord()
    if record.built and not environment_python(folder / record.built.folder).exists():
        return msgspec.structs.replace(record, built=None)
    return record


def write_record(folder: Path, record: RuntimeRecord) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RECORD, to_json(record))


def status_of(
    name: str,
    record: RuntimeRecord,
    definition: RuntimeDefinition | None,
    *,
    shipped: bool,
    fingerprint: str | None,
    folder: Path,
) -> RuntimeStatus:
    """What the record comes to, without the live progress of a build."""
    built, failure = record.built, record.failure
    status = RuntimeStatus(
        name=name,
        description=definition.description if definition else "Its definition is gone.",
        origin="shipped" if shipped else "user",
    )
    if built:
        status = msgspec.structs.replace(
            status,
            phase=BuildPhase.READY,
            started_at=built.started_at,
            finished_at=built.finished_at,
            size_bytes=built.size_bytes,
            python=built.python,
            path=str(folder / built.folder),
            packages=built.packages,
            notices=built.notices,
            outdated=built.fingerprint != fingerprint,
        )
        if failure and failure.explanation:
            cause = failure.explanation.cause
            notice = f"Building it anew failed; the earlier build stays in use. {cause}"
            status = msgspec.structs.replace(
                status, notices=(*built.notices, notice), explanation=failure.explanation
            )
    elif failure and failure.explanation:
        status = msgspec.structs.replace(
            status,
            phase=BuildPhase.FAILED,
            started_at=failure.started_at,
            finished_at=failure.at,
            explanation=failure.explanation,
        )
    elif failure:
        status = msgspec.structs.replace(status, step="Cancelled", finished_at=failure.at)
    return status

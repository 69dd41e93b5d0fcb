"""One transfer of the queue, and how it begins again."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec

from meshtui.controller.gauge import Gauge
from meshtui.controller.transfer_requests import Request
from meshtui.domain.errors import ErrorInfo
from meshtui.domain.finding import Finding
from meshtui.domain.model_cache import Transfer, TransferKind, TransferState


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a transfer that succeeded."""

    model: str | None = None
    findings: tuple[Finding, ...] = ()


# Does what is asked. Cancelled, it cleans up first; a download may go on later from what it left.
Perform = Callable[[Request, Gauge], Awaitable[Outcome]]


class Item:
    """A transfer, and what is needed to run it. `wanted`: a person asked for it; otherwise it
    ends with the last of those who `join` it."""

    def __init__(self, request: Request, transfer: Transfer, *, wanted: bool) -> None:
        self.request = request
        self.transfer = transfer
        self.wanted = wanted
        self.gauge = Gauge()
        self.task: asyncio.Task[None] | None = None
        self.joined: list[Callable[[Transfer], None]] = []
        self.over = asyncio.Event()

    @property
    def is_download(self) -> bool:
        return self.transfer.kind is TransferKind.DOWNLOAD

    @property
    def is_over(self) -> bool:
        return self.transfer.state.is_over

    def read(self) -> Transfer:
        """The transfer with the gauge of now."""
        if self.transfer.state is not TransferState.RUNNING:
            return self.transfer
        reading = self.gauge.read()
        return msgspec.structs.replace(
            self.transfer,
            model=self.gauge.model or self.transfer.model,
            step=reading.step,
            done_bytes=reading.done_bytes,
            total_bytes=reading.total_bytes,
            rate_bytes_s=reading.rate_bytes_s,
        )


def taken_up(transfer: Transfer) -> Transfer:
    """One that was not over when the last controller ended."""
    if transfer.kind is TransferKind.DOWNLOAD:
        return again(transfer)
    return msgspec.structs.replace(
        transfer,
        state=TransferState.FAILED,
        ended_at=time.time(),
        rate_bytes_s=0.0,
        error=ErrorInfo(
            code="interrupted",
            message="It was interrupted: the controller ended meanwhile.",
            hint="Start it again; what was not complete has changed nothing.",
        ),
    )


def again(transfer: Transfer) -> Transfer:
    return msgspec.structs.replace(
        transfer,
        state=TransferState.QUEUED,
        started_at=None,
        ended_at=None,
        rate_bytes_s=0.0,
        error=None,
        findings=(),
    )

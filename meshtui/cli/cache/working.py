"""Starting transfers, watching them to their end, and saying what came of them."""

import argparse
import contextlib
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from meshtui.cli import exit_codes
from meshtui.cli.command import complain, print_json
from meshtui.cli.narration import Narrator
from meshtui.client import ControllerClient
from meshtui.domain.controller import Overview, TransferChanged
from meshtui.domain.errors import MeshtuiError, Unavailable, error_from_info
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import Transfer, TransferState
from meshtui.domain.text import one_line

T = TypeVar("T")
Start = Callable[[], Awaitable[Transfer]]

# The controller does fewer at once, and remembers only so many that are over.
_LIVE_AT_ONCE = 8
# Of more models, a warning that is the same for all names none.
_NAMED = 3


def add_options(parser: argparse.ArgumentParser, *, dry_run: str | None) -> None:
    """`--detach`, and `--dry-run` where there is a plan to print."""
    parser.add_argument(
        "--detach", action="store_true", help="return at once; the controller goes on"
    )
    if dry_run is not None:
        parser.add_argument("--dry-run", action="store_true", help=dry_run)


async def each(calls: Iterable[Awaitable[T]]) -> tuple[list[T], list[MeshtuiError]]:
    """What each of them gives, one after the other, and the errors of those that cannot: one bad
    name among many keeps none of the others. Raises `Unavailable`, since nothing works then."""
    found: list[T] = []
    refused: list[MeshtuiError] = []
    for call in calls:
        try:
            found.append(await call)
        except Unavailable:
            raise
        except MeshtuiError as error:
            refused.append(error)
    return found, refused


async def work(
    client: ControllerClient,
    arguments: argparse.Namespace,
    starts: Sequence[Start],
    *,
    many: bool = True,
    refused: Sequence[MeshtuiError] = (),
) -> int:
    """Starts them all, follows them unless `--detach` was given, and prints what came of them
    (`many` False: JSON is the transfer and no list). `refused` is why some could not even be
    asked for. Ctrl-C cancels what was started here."""
    run = _Run(client, starts)
    run.refused += refused
    try:
        await (run.start_all() if arguments.detach else run.follow())
    except BaseException:
        await run.cancel()
        raise
    if arguments.json:
        print_json(run.ended if many else run.ended[0] if run.ended else None)
    else:
        for transfer in run.ended:
            print(f"{transfer.model or transfer.place}  {transfer.state.value}")
    return _tell_all(run.refused, run.ended, detached=arguments.detach)


class _Run:
    """Those that wait to be started, that run, that are over, and that could not be started."""

    def __init__(self, client: ControllerClient, starts: Sequence[Start]) -> None:
        self._client = client
        self._waiting = deque(starts)
        self._live: dict[str, Transfer] = {}
        self._own: set[str] = set()
        self._narrator = Narrator()
        self._count = len(starts)
        self.ended: list[Transfer] = []
        self.refused: list[MeshtuiError] = []

    async def start_all(self) -> None:
        while self._waiting:
            await self._start()
        self.ended += self._live.values()
        self._live.clear()

    async def follow(self) -> None:
        async with contextlib.aclosing(self._client.events()) as events:
            async for event in events:
                match event:
                    case Overview(transfers=transfers):
                        self._all_are(transfers)
                    case TransferChanged(transfer):
                        self._is(transfer)
                while self._waiting and len(self._live) < _LIVE_AT_ONCE:
                    await self._start()
                if not self._live:
                    self._narrator.clear()
                    return
        raise Unavailable("The controller went away.", hint="Downloads go on with the next one.")

    async def cancel(self) -> None:
        """Ends what would not go on without us."""
        self._narrator.clear()
        for transfer in list(self._live.values()):
            name = one_line(transfer.model or transfer.place or "")
            if transfer.id not in self._own:
                print(f"{name} was under way before; it goes on.", file=sys.stderr)
                continue
            with contextlib.suppress(MeshtuiError):
                await self._client.cancel_transfer(transfer.id)

    async def _start(self) -> None:
        begin = self._waiting.popleft()
        asked_at = time.time()
        try:
            transfer = await begin()
        except Unavailable:
            raise
        except MeshtuiError as error:
            self.refused.append(error)
            return
        self._live[transfer.id] = transfer
        if transfer.created_at >= asked_at:
            self._own.add(transfer.id)
        self._is(transfer)

    def _is(self, transfer: Transfer) -> None:
        before = self._live.get(transfer.id)
        if before is None:
            return
        if transfer.state is TransferState.QUEUED and before.state is TransferState.RUNNING:
            # News from before the answer to its start.
            return
        self._live[transfer.id] = transfer
        self._narrator.transfer(transfer, of=self._count, done=len(self.ended))
        if transfer.state.is_over:
            self.ended.append(self._live.pop(transfer.id))

    def _all_are(self, transfers: Sequence[Transfer]) -> None:
        """Too much happened to be told one by one."""
        for transfer in transfers:
            self._is(transfer)
        known = {transfer.id for transfer in transfers}
        for gone in [one for one in self._live if one not in known]:
            del self._live[gone]
            self.refused.append(Unavailable("A transfer was forgotten before its end was seen."))


def _tell_all(refused: Sequence[MeshtuiError], ended: Sequence[Transfer], *, detached: bool) -> int:
    """Warnings and errors on stderr; the exit status is that of the first thing that failed."""
    status = exit_codes.OK
    errors = list(refused)
    print_findings_of([(one.model or one.place or "", one.findings) for one in ended])
    for transfer in ended:
        if transfer.error is not None:
            errors.append(error_from_info(transfer.error))
        elif transfer.state is not TransferState.DONE and not detached:
            name = transfer.model or one_line(transfer.place or "")
            errors.append(MeshtuiError(f"The {transfer.kind.value} of {name} was cancelled."))
        elif any(finding.level is Level.BLOCKER for finding in transfer.findings):
            status = status or exit_codes.FAILED
    said = tell(errors)
    return status or said


def tell(errors: Sequence[MeshtuiError]) -> int:
    """Says them on stderr; the exit status of the first, `OK` where there is none."""
    for error in errors:
        complain(error)
    return exit_codes.of(errors[0]) if errors else exit_codes.OK


def print_findings_of(found: Sequence[tuple[str, Sequence[Finding]]]) -> None:
    """As `print_findings`, for many: what is said of several alike is said once."""
    about: dict[Finding, list[str]] = {}
    for name, findings in found:
        for finding in findings:
            about.setdefault(finding, []).append(name)
    for finding, names in about.items():
        many = len(names) > _NAMED and finding.level is not Level.BLOCKER
        print_findings((finding,), f"{len(names)} models" if many else ", ".join(names))


def print_findings(findings: Sequence[Finding], about: str) -> None:
    """What is worth a person's eye, on stderr."""
    for finding in findings:
        if finding.level is not Level.OK:
            head = f"{finding.level.value}: {about}: " if about else f"{finding.level.value}: "
            print(one_line(f"{head}{finding.message}", 2000), file=sys.stderr)
            if finding.fix:
                print(f"  {one_line(finding.fix, 2000)}", file=sys.stderr)

"""What goes on with the cache, and what came of what did."""

import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from meshtui.domain.controller import ControllerEvent, TransferChanged
from meshtui.domain.model_cache import Transfer, TransferState
from meshtui.domain.text import one_line

from .. import words
from ..frame import WorkScreen, workstation
from ..state import State
from ..widgets.table import Column, Row, Table
from . import acts, facts
from .rows import fit_name, fit_pieces, short_name, transfer_text

_SHOW_S = 0.1

COLUMNS = (
    Column("", 1),
    Column("WHAT", 8),
    Column("MODEL", 24, most=58, fit=fit_name),
    Column("STATE", 25, most=48, fit=fit_pieces),
    Column("SIZE", 7, right=True, drop=1),
    Column("SINCE", 7, right=True, drop=2),
)


def transfer_rows(state: State) -> list[Row]:
    """Those that go on, in the order of the queue; then those that are over, newest first."""
    live = sorted(state.live_transfers, key=lambda t: (t.started_at is None, t.created_at))
    over = [t for t in state.transfers.values() if t.state.is_over]
    over.sort(key=lambda t: t.ended_at or 0.0, reverse=True)
    return [_row(transfer) for transfer in (*live, *over)]


def _row(transfer: Transfer) -> Row:
    sign, tone = words.transfer_sign(transfer)
    since = transfer.ended_at or transfer.started_at or transfer.created_at
    name = short_name(transfer.model) if transfer.model else one_line(transfer.place or "…")
    wrong = [finding for finding in transfer.findings if finding.level != "ok"]
    text = transfer_text(transfer)
    if transfer.state is TransferState.DONE and wrong:
        sign, tone = words.ATTENTION, "$warning"
        text = f"{text}  {words.plural(len(wrong), 'finding')}"
    return Row(
        transfer.id,
        (
            (sign, tone),
            (transfer.kind.value, ""),
            (name, "$strong"),
            (text, tone),
            (words.size(transfer.total_bytes), ""),
            (words.span(time.time() - since), "$muted"),
        ),
    )


def _key(key: str, action: str, name: str, what: str, identity: str) -> Binding:
    return Binding(key, action, name, tooltip=what, id=f"transfers.{identity}")


class TransfersScreen(WorkScreen):
    """The row with the cursor is explained above the list."""

    AUTO_FOCUS = "#transfers"
    TITLE_OF_HELP = "the transfers"
    NOTES = ("Downloads that are cancelled or break off go on from where they were.",)
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("escape", "back", "Back", "Back to the list of the cache", "back"),
        _key("x", "cancel", "Cancel", "Cancel it", "cancel"),
        _key("r", "retry", "Retry", "Try it again", "retry"),
        _key("f", "forget", "Forget", "Take it off this list", "forget"),
        _key("F", "forget_all", "Forget all", "Take all that are over off this list", "forget_all"),
    ]

    def __init__(self, transfer_id: str | None = None) -> None:
        super().__init__()
        self._first = transfer_id
        self._show_due = False

    def compose_content(self) -> ComposeResult:
        yield Table(COLUMNS, empty="Nothing goes on with the cache.", id="transfers")
        with VerticalScroll(id="facts", can_focus=False):
            yield Static("", id="lines")

    def on_mount(self) -> None:
        super().on_mount()
        if self._first:
            self._table.go_to(self._first)
        self._show()

    @property
    def _table(self) -> Table:
        return self.query_one("#transfers", Table)

    @property
    def _transfer(self) -> Transfer | None:
        return workstation(self).state.transfers.get(self._table.current or "")

    def state_changed(self, event: ControllerEvent | None) -> None:
        if not isinstance(event, TransferChanged):
            self._show()
        elif not self._show_due:
            self._show_due = True
            self.set_timer(_SHOW_S, self._show)

    def _show(self) -> None:
        self._show_due = False
        before = len(self._table.rows)
        self._table.show(transfer_rows(workstation(self).state))
        if len(self._table.rows) != before:
            self._table.refresh(layout=True)
        self._show_facts()

    def _show_facts(self) -> None:
        transfer, width = self._transfer, max(30, min(self.app.size.width - 6, 110))
        lines = [*facts.transfer_lines(transfer, width)] if transfer else []
        self.query_one("#lines", Static).update(Content("\n").join(lines))
        self.refresh_bindings()

    def on_table_moved(self) -> None:
        self._show_facts()

    def on_resize(self) -> None:
        self._show_facts()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        transfer = self._transfer
        over = transfer is not None and transfer.state.is_over
        possible = {
            "cancel": transfer is not None and not over,
            "retry": over and transfer is not None and transfer.state is not TransferState.DONE,
            "forget": over,
            "forget_all": any(t.state.is_over for t in workstation(self).state.transfers.values()),
        }
        return possible.get(action, True)

    def action_cancel(self) -> None:
        if transfer := self._transfer:
            acts.send(self, workstation(self).client.cancel_transfer(transfer.id))

    def action_retry(self) -> None:
        if transfer := self._transfer:
            acts.send(self, workstation(self).client.retry_transfer(transfer.id))

    def action_forget(self) -> None:
        if transfer := self._transfer:
            acts.send(self, workstation(self).client.remove_transfer(transfer.id))

    def action_forget_all(self) -> None:
        client = workstation(self).client
        for transfer in workstation(self).state.transfers.values():
            if transfer.state.is_over:
                acts.send(self, client.remove_transfer(transfer.id))

    def action_back(self) -> None:
        self.app.pop_screen()

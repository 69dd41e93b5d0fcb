"""The list of the cache: entries, what goes on with them, how full the disk is."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from meshtui.domain.controller import (
    CacheEntryChanged,
    CacheEntryRemoved,
    ControllerEvent,
    TransferChanged,
    TransferRemoved,
)
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.model_cache import CacheEntry, Transfer, TransferState
from meshtui.domain.text import one_line

from ..frame import WorkScreen, workstation
from ..state import Link
from ..widgets.fields import Field
from ..widgets.marking import MarkTable
from ..work import start
from . import acts, facts, usage
from .listing import ORDERS, Listing
from .rows import COLUMNS, EntryRow

_TALL_ROWS = 30
_SHOW_S = 0.1
_AGES_S = 30.0
_EMPTY = "The cache is empty:  D downloads   i imports an archive   a adopts Hugging Face's cache"


def _key(key: str, action: str, name: str, what: str, identity: str, show: bool = True) -> Binding:
    return Binding(key, action, name, tooltip=what, show=show, id=f"cache.{identity}")


class CacheScreen(WorkScreen):
    """Keys act on the marked rows; where none is marked, on the row with the cursor."""

    AUTO_FOCUS = "#entries"
    TITLE_OF_HELP = "the Cache"
    NOTES = (
        "Keys act on the marked models, or on the one with the cursor. The filter wants every "
        "word; !word leaves out what has it.",
        "What goes on with the cache goes on when you leave.",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("enter", "details", "Details", "Open files, findings, model card", "details"),
        _key("slash", "filter", "Filter", "Show only what has the words", "filter"),
        _key("space", "mark", "Mark", "Mark the model, or take its mark away", "mark"),
        _key("x", "cancel", "Cancel", "Cancel what goes on with the model", "cancel"),
        _key("r", "retry", "Retry", "Try again what failed or was cancelled", "retry"),
        _key("D", "download", "Download", "Download a model from the Hub", "download"),
        _key("d", "delete", "Delete", "Delete; says first what is freed and who uses it", "delete"),
        _key("v", "verify(False)", "Verify", "Verify files against their checksums", "verify"),
        _key("i", "import", "Import", "Import archives, or a folder of an entry", "import"),
        _key("e", "export", "Export", "Export to archives or folders", "export"),
        _key("t", "transfers", "Transfers", "List what goes on, and what came of it", "transfers"),
        _key("a", "adopt", "Adopt", "Adopt from the Hugging Face cache", "adopt"),
        _key("b", "build", "Build", "Make an entry of a folder or a git clone", "build"),
        _key("P", "prune", "Prune", "Make room: unused, half downloads, detached", "prune"),
        _key("V", "verify(True)", "Verify with Hub", "Verify against the Hub's hashes", "hub"),
        _key("o", "order", "Order", "Sort by the next column", "order"),
        _key("O", "backwards", "Reverse", "Reverse the order", "backwards"),
        _key("ctrl+a,asterisk", "mark_all", "Mark all", "Mark all in sight, or none", "mark_all"),
        _key("c", "check", "Check", "See whether the model runs, and on which GPU", "check"),
        _key("y", "copy", "Copy path", "Copy the path of the model's files", "copy"),
        _key("escape", "clear", "Clear", "Clear the filter, then the marks", "clear", False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._listing = Listing()
        self._show_due = False
        self._problem = ""

    def compose_content(self) -> ComposeResult:
        with Horizontal(id="top"):
            yield Static("", id="usage")
            yield Static("/", id="slash")
            yield Field(placeholder="filter", id="filter")
        yield MarkTable(COLUMNS, empty="reading the cache…", id="entries")
        # What is left of a tall screen shows what is known of the row with the cursor.
        with VerticalScroll(id="preview", can_focus=False):
            yield Static("", id="about")

    def on_mount(self) -> None:
        super().on_mount()
        self._show_order()
        # Only ages tick of themselves.
        self._clock = self.set_interval(_AGES_S, self._table.refresh)

    @property
    def _table(self) -> MarkTable:
        return self.query_one("#entries", MarkTable)

    # What is shown

    def state_changed(self, event: ControllerEvent | None) -> None:
        state = workstation(self).state
        if state.entries_are_old and state.link is Link.CONNECTED:
            start(self, self._load, group="load", latest=True)
        if isinstance(
            event, CacheEntryChanged | CacheEntryRemoved | TransferChanged | TransferRemoved
        ):
            # Many come in a second: they are shown together.
            if not self._show_due:
                self._show_due = True
                self.set_timer(_SHOW_S, self._show)
        else:
            self._show()

    async def _load(self) -> None:
        state = workstation(self).state
        state.await_entries()
        try:
            state.take_entries(await workstation(self).client.cache_entries())
            self._problem = ""
        except MeshtuiError as error:
            self._problem = one_line(str(error))
        self._show()

    def _show(self) -> None:
        self._show_due = False
        state, table = workstation(self).state, self._table
        self._listing.take(state.entries or {}, state.transfers.values())
        table.keep_marks(self._listing)
        if self._listing.query:
            table.empty = "Nothing has that; esc clears the filter."
        elif state.entries is None:
            table.empty = self._problem or "reading the cache…"
        else:
            table.empty = _EMPTY
        table.show(self._listing.shown())
        self._show_usage()
        self._show_preview()
        self.refresh_bindings()

    def _show_usage(self) -> None:
        line = usage.line(
            workstation(self).state,
            self._listing,
            shown=len(self._table.rows),
            marked=self._marked,
            width=self.app.size.width - (28 if self.has_class("-filtering") else 0),
        )
        self.query_one("#usage", Static).update(line, layout=False)

    def _show_preview(self) -> None:
        row, width = self._row, min(self.app.size.width - 6, 120)
        preview = self.query_one("#preview")
        preview.display = self.app.size.height >= _TALL_ROWS and row is not None
        if row is None or not preview.display:
            return
        if row.transfer is not None and (row.entry is None or not row.transfer.state.is_over):
            lines = [*facts.transfer_lines(row.transfer, width)]
        elif row.entry is not None:
            lines = [facts.heading(row), *facts.entry_lines(row.entry, width)]
        else:
            lines = []
        self.query_one("#about", Static).update(Content("\n").join(lines))

    def on_resize(self) -> None:
        self._show_usage()
        self._show_preview()

    def on_table_moved(self) -> None:
        self._show_preview()
        self.refresh_bindings()

    def on_mark_table_marked(self) -> None:
        self._show_usage()

    def on_table_title_clicked(self, message: MarkTable.TitleClicked) -> None:
        name = COLUMNS[message.column].title
        for order in ORDERS:
            if order.column == name:
                again = order is self._listing.order
                self._sort(ORDERS.index(order), again and not self._listing.backwards)

    # What the keys act on

    @property
    def _row(self) -> EntryRow | None:
        return self._listing.get(self._table.current)

    @property
    def _transfer(self) -> Transfer | None:
        row = self._row
        return row.transfer if row else None

    @property
    def _chosen(self) -> list[CacheEntry]:
        """The entries among the chosen rows."""
        rows = [self._listing.get(key) for key in self._table.chosen]
        return [row.entry for row in rows if row is not None and row.entry is not None]

    @property
    def _marked(self) -> list[CacheEntry]:
        return self._chosen if self._table.marks else []

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        row = self._row
        transfer = row.transfer if row else None
        over = transfer is not None and transfer.state.is_over
        # One at a time: each key asks for all of them, and what is chosen may be thousands.
        match action:
            case "details" | "mark" | "mark_all":
                return row is not None
            case "copy":
                return row is not None and row.entry is not None
            case "check":
                return row is not None and row.entry is not None and not row.entry.problem
            case "cancel":
                return transfer is not None and not over
            case "retry":
                return over and transfer is not None and transfer.state is not TransferState.DONE
            case "delete":
                return over or bool(self._chosen)
            case "verify" | "export":
                return any(not entry.problem for entry in self._chosen)
        return True

    # The list

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self._show_usage()
        self.query_one("#filter").focus()

    def on_input_changed(self, message: Input.Changed) -> None:
        self._listing.query = message.value
        self._show()

    def on_input_submitted(self, _message: Input.Submitted) -> None:
        if not self._listing.query.strip():
            self.remove_class("-filtering")
        self._table.focus()

    def action_clear(self) -> None:
        """Takes the filter away; then the marks."""
        if self.has_class("-filtering"):
            self.query_one("#filter", Field).value = ""
            self.remove_class("-filtering")
            self._table.focus()
            self._show()
        else:
            self._table.mark(())

    def action_order(self) -> None:
        """By the next of the columns that there is room for."""
        seen = {COLUMNS[i].title for i in self._table.shown_columns}
        count, number = len(ORDERS), ORDERS.index(self._listing.order)
        steps = (number + step for step in range(1, count + 1))
        self._sort(next(n % count for n in steps if ORDERS[n % count].column in seen), False)

    def action_backwards(self) -> None:
        self._sort(ORDERS.index(self._listing.order), not self._listing.backwards)

    def _sort(self, number: int, backwards: bool) -> None:
        self._listing.sort(ORDERS[number], backwards)
        self._show_order()
        self._show()

    def _show_order(self) -> None:
        order = self._listing.order
        column = next(i for i, column in enumerate(COLUMNS) if column.title == order.column)
        self._table.show_order(column, "▴" if self._listing.backwards else "▾")

    def action_mark(self) -> None:
        self._table.toggle()

    def action_mark_all(self) -> None:
        self._table.toggle_shown()

    # Looking

    def action_details(self) -> None:
        from .details import EntryDetails
        from .transfers import TransfersScreen

        row = self._row
        if row is not None and row.entry is not None:
            self.app.push_screen(EntryDetails(row.entry.model))
        elif row is not None and row.transfer is not None:
            self.app.push_screen(TransfersScreen(row.transfer.id))

    def on_table_opened(self) -> None:
        self.action_details()

    def action_transfers(self) -> None:
        from .transfers import TransfersScreen

        self.app.push_screen(TransfersScreen(self._transfer.id if self._transfer else None))

    def action_copy(self) -> None:
        if (row := self._row) and row.entry is not None:
            acts.copy_path(self, row.entry)

    def action_check(self) -> None:
        if (row := self._row) and row.entry is not None:
            workstation(self).action_check(row.entry.model)

    # Commands

    def action_cancel(self) -> None:
        if (transfer := self._transfer) is not None:
            acts.send(self, workstation(self).client.cancel_transfer(transfer.id))

    def action_retry(self) -> None:
        if (transfer := self._transfer) is not None:
            acts.send(self, workstation(self).client.retry_transfer(transfer.id))

    def action_verify(self, against_hub: bool) -> None:
        usable = [entry.model for entry in self._chosen if not entry.problem]
        acts.verify(self, usable, against_hub=against_hub)

    def action_delete(self) -> None:
        from .delete import DeleteDialog

        if models := [entry.model for entry in self._chosen]:
            self.app.push_screen(DeleteDialog(models))
        elif (transfer := self._transfer) is not None:
            client = workstation(self).client
            acts.send(self, client.remove_transfer(transfer.id), f"Forgot this {transfer.kind}.")

    def action_download(self) -> None:
        from .download import DownloadDialog

        self.app.push_screen(DownloadDialog(), self._go_to)

    def action_import(self) -> None:
        from .bring_in import ImportDialog

        self.app.push_screen(ImportDialog(), self._go_to)

    def action_adopt(self) -> None:
        from .bring_in import AdoptDialog

        self.app.push_screen(AdoptDialog(), self._go_to)

    def action_build(self) -> None:
        from .build import BuildDialog

        self.app.push_screen(BuildDialog(), self._go_to)

    def action_export(self) -> None:
        from .export import ExportDialog

        usable = [entry.model for entry in self._chosen if not entry.problem]
        self.app.push_screen(ExportDialog(usable))

    def action_prune(self) -> None:
        from .prune import PruneDialog

        self.app.push_screen(PruneDialog())

    def _go_to(self, model: str | None) -> None:
        """Puts the cursor on a model's row, as soon as there is one."""
        if model is not None:
            self._table.go_to(model)

"""One entry: what is known of it, its model card, its files with their checksums."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from meshtui.domain.controller import CacheEntryChanged, CacheEntryRemoved, ControllerEvent
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.model_cache import CacheDetails
from meshtui.domain.text import one_line

from .. import words
from ..frame import WorkScreen, workstation
from ..widgets.table import Table
from ..work import start
from . import acts, facts


def _key(key: str, action: str, name: str, what: str, identity: str) -> Binding:
    return Binding(key, action, name, tooltip=what, id=f"entry.{identity}")


class EntryDetails(WorkScreen):
    """Read again when the entry changes."""

    AUTO_FOCUS = "#facts"
    TITLE_OF_HELP = "a model of the cache"
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("escape", "back", "Back", "Back to the list", "back"),
        _key("v", "verify(False)", "Verify", "Verify files against their checksums", "verify"),
        _key("V", "verify(True)", "Verify with Hub", "Verify against the Hub's hashes", "hub"),
        _key("e", "export", "Export", "Export to an archive or a folder", "export"),
        _key("d", "delete", "Delete", "Delete; says first what is freed and who uses it", "delete"),
        _key("c", "check", "Check", "See whether it runs, and on which GPU", "check"),
        _key("y", "copy", "Copy path", "Copy the path of its files", "copy"),
    ]

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model
        self._details: CacheDetails | None = None
        self._said = Content.styled(f"{words.WORKING} reading…", "$muted")

    def compose_content(self) -> ComposeResult:
        with VerticalScroll(id="facts"):
            yield Static("", id="lines")
        yield Table(facts.FILE_COLUMNS, empty="no files", id="files")

    def on_mount(self) -> None:
        super().on_mount()
        self._read()

    def state_changed(self, event: ControllerEvent | None) -> None:
        match event:
            case CacheEntryChanged(entry) if entry.model == self._model:
                self._read()
            case CacheEntryRemoved(self._model):
                self._details = None
                self._said = Content.styled("It was deleted; esc goes back.", "$muted")
                self._show()

    def _read(self) -> None:
        start(self, self._ask, group="read", latest=True)

    async def _ask(self) -> None:
        try:
            self._details = await workstation(self).client.cache_entry(self._model)
        except MeshtuiError as error:
            self._said = Content.styled(f"{words.FAILED} {one_line(str(error))}", "$error")
        self._show()

    def _show(self) -> None:
        details, width = self._details, max(30, min(self.app.size.width - 6, 110))
        lines = [*facts.details_lines(details, width)] if details else [self._said]
        self.query_one("#lines", Static).update(Content("\n").join(lines))
        files = self.query_one("#files", Table)
        files.show(facts.file_rows(details) if details else ())
        files.refresh(layout=True)
        self.refresh_bindings()

    def on_resize(self) -> None:
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("verify", "export", "check") and self.is_mounted:
            return self._details is not None and not self._details.entry.problem
        return self._details is not None or action not in ("delete", "copy")

    def action_verify(self, against_hub: bool) -> None:
        acts.verify(self, [self._model], against_hub=against_hub)

    def action_export(self) -> None:
        from .export import ExportDialog

        self.app.push_screen(ExportDialog([self._model]))

    def action_delete(self) -> None:
        from .delete import DeleteDialog

        self.app.push_screen(DeleteDialog([self._model]))

    def action_check(self) -> None:
        workstation(self).action_check(self._model)

    def action_copy(self) -> None:
        if self._details is not None:
            acts.copy_path(self, self._details.entry)

    def action_back(self) -> None:
        self.app.pop_screen()

"""What a name may become while it is typed: what is known here at once, then what the Hub has."""

import asyncio
from collections.abc import Sequence
from functools import partial

from textual.screen import Screen

from meshtui.domain.errors import MeshtuiError
from meshtui.domain.preset import Preset

from .. import words
from ..frame import workstation
from ..state import Link
from ..work import start
from . import names
from .page import Page

# Who types faster than that has not finished the word.
_PAUSE_S = 0.25
_FEWEST_CHARS = 2
# Rows of the list with what the Hub found.
_MOST_ROWS = 12
_SEARCHES = f"{words.WORKING} searching the Hub…"
_NOTHING = "The Hub has nothing more of that name."


class Suggester:
    """Each key asks anew, and what the one before still waits for is given up. `presets` are
    offered beside what the screens know."""

    def __init__(self, screen: Screen[None], page: Page) -> None:
        self._screen, self._page = screen, page
        self.presets: Sequence[Preset] = ()

    def suggest(self) -> None:
        """Shows what goes with the text in the field as it is now."""
        start(self._screen, self._suggest, group="suggest", latest=True)

    def stop(self) -> None:
        """Nobody types any more."""
        self._screen.workers.cancel_group(self._screen, "suggest")
        self._page.suggestions.show(())

    def known(self, text: str, most: int) -> list[names.Suggestion]:
        """The models that are known here."""
        state, checked = workstation(self._screen).state, self._page.field.checked
        entries = (state.entries or {}).values()
        return names.suggestions(text, checked, state.models, entries, self.presets, most=most)

    async def _suggest(self) -> None:
        field, shown = self._page.field, self._page.suggestions
        text = field.value
        if names.is_path(text):
            found = await names.folders(text)
            if field.has_focus:
                shown.show(found)
            return
        known = self.known(text, names.MOST)
        is_connected = workstation(self._screen).state.link is Link.CONNECTED
        searches = is_connected and len(text.strip()) >= _FEWEST_CHARS
        if field.has_focus:
            shown.show(known, _SEARCHES if searches else "")
        if searches:
            await asyncio.sleep(_PAUSE_S)
            await self._search(text, known)

    async def _search(self, text: str, known: Sequence[names.Suggestion]) -> None:
        search = partial(workstation(self._screen).client.search_models, limit=_MOST_ROWS)
        try:
            found = names.of_hub(await search(text.strip()), known, text)
        except MeshtuiError as error:
            self._page.suggestions.add((), f"The Hub cannot be searched: {error.message}")
            return
        rows = found[: _MOST_ROWS - len(known)]
        self._page.suggestions.add(rows, "" if rows or known else _NOTHING)

"""Choosing a model to enable: presets, what is in the cache, what the Hub finds, or any name."""

import asyncio
from collections.abc import Sequence
from functools import partial

from textual.content import Content
from textual.widgets import Input, Static

from meshtui.domain.connection import EnabledModel
from meshtui.domain.editing import EditableConnection
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.hub_search import FoundModel
from meshtui.domain.model_cache import CacheEntry
from meshtui.domain.preset import Preset
from meshtui.domain.task import Task
from meshtui.domain.text import one_line

from .. import words
from ..check.names import of_hub, suggestions
from ..frame import workstation
from ..widgets.dialogs import Choice, Finder
from ..widgets.fields import Field
from ..work import start

_MOST = 60
# Shorter ones find everything.
_LEAST_CHARS = 3
# Who types faster than that has not finished the word.
_PAUSE_S = 0.25


class ModelFinder(Finder):
    """Gives the model's name; `proposal` is then what is known of its settings."""

    HEADING = "Enable a model"
    PLACEHOLDER = "a part of a name, or org/name"
    EMPTY = "Nothing of that name is known here; enter takes it as org/name."

    def __init__(self, seen: EditableConnection, presets: Sequence[Preset]) -> None:
        super().__init__()
        self._seen = seen
        self._presets = {preset.model: preset for preset in presets}
        self._entries: Sequence[CacheEntry] | None = None
        self._found: dict[str, FoundModel] = {}
        self._answers: dict[str, Sequence[FoundModel]] = {}

    def look_up(self) -> None:
        """What is known here at once; what the Hub finds as soon as it answers."""
        super().look_up()
        query = self.query_one("#query", Field).value.strip()
        is_asked = len(query) >= _LEAST_CHARS
        self._say(f"{words.WORKING} searching the Hub…" if is_asked else self.EMPTY)
        if is_asked:
            start(self, partial(self._search, query), group="hub", latest=True)

    async def _search(self, query: str) -> None:
        await asyncio.sleep(_PAUSE_S)
        try:
            found = await workstation(self).client.search_models(
                query, connection=self._seen.connection.name, limit=30
            )
        except MeshtuiError as error:
            self._say(f"{self.EMPTY} {one_line(error.message, 200)}")
            return
        self._found |= {one.model: one for one in found}
        self._answers[query] = found
        self._say(self.EMPTY)
        super().look_up()

    def _say(self, text: str) -> None:
        """What stands there where the list is empty."""
        self.query_one("#nothing", Static).update(Content(text))

    async def choices(self, query: str) -> Sequence[Choice]:
        app = workstation(self)
        if self._entries is None:
            try:
                self._entries = await app.client.cache_entries()
            except MeshtuiError:
                self._entries = ()
        enabled = {one.model for one in self._seen.connection.enabled_models}
        known = suggestions(query, (), (), self._entries, self._presets.values(), most=_MOST)
        known += of_hub(self._answers.get(query.strip(), ()), known, "")
        return [
            (one.value, _line(one.value, self._note(one.value, one.note)))
            for one in known
            if one.value not in enabled
        ]

    def _note(self, model: str, note: str) -> str:
        """What is known of it, and what matters before it is chosen."""
        parts = [note]
        if preset := self._presets.get(model):
            parts += [preset.purpose.value, preset.licence, "gated" if preset.gated else ""]
        elif found := self._found.get(model):
            parts += [words.task(found.task), found.licence or "", "gated" if found.gated else ""]
        return " · ".join(part for part in parts if part and part != "–")

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """What is marked; where nothing is, what was typed: the form says what is no name."""
        message.prevent_default()
        if chosen := self.highlighted or message.value.strip():
            self.dismiss(chosen)

    def proposal(self, model: str) -> EnabledModel:
        """The model with the settings of its preset, or for the task that the Hub names."""
        default_s = self._seen.default_idle_timeout_s
        if preset := self._presets.get(model):
            enabled = preset.enabled_model()
            return EnabledModel(
                model=enabled.model,
                task=enabled.task,
                display_name=enabled.display_name,
                trust_remote_code=enabled.trust_remote_code,
                idle_timeout_s=default_s,
            )
        found = self._found.get(model)
        task = found.task if found else None
        known = Task(task) if task in [one.value for one in Task] else Task.TEXT_GENERATION
        return EnabledModel(model=model, task=known, idle_timeout_s=default_s)


def _line(model: str, note: str) -> Content:
    return Content.assemble((f"{one_line(model)}\n", "$strong"), (f"  {one_line(note)}", "$muted"))

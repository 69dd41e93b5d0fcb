"""Choosing a model to enable: presets, what is in the cache, what the Hub finds, or any name."""

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Input

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

_MOST = 60
# Shorter ones find everything.
_LEAST_CHARS = 3


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

    async def choices(self, query: str) -> Sequence[Choice]:
        app = workstation(self)
        if self._entries is None:
            try:
                self._entries = await app.client.cache_entries()
            except MeshtuiError:
                self._entries = ()
        enabled = {one.model for one in self._seen.connection.enabled_models}
        known = suggestions(query, (), (), self._entries, self._presets.values(), most=_MOST)
        if len(query.strip()) >= _LEAST_CHARS:
            try:
                found = await app.client.search_models(
                    query, connection=self._seen.connection.name, limit=30
                )
            except MeshtuiError:
                # Offline the Hub finds nothing; what is known here is enough.
                found = []
            self._found |= {one.model: one for one in found}
            known += of_hub(found, known, "")
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

"""Presets: the shipped ones, overlaid by the user's files of the same name."""

from pathlib import Path
from typing import Any

import msgspec

from meshtui.domain.connection import BrokenObject
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.preset import Preset
from meshtui.settings.objects import ObjectFolder
from meshtui.settings.shipped import toml_data
from meshtui.settings.toml_file import KeyPath, Wrong

_MOST_GPUS = 1024


class Presets:
    """Every preset by name. A user's file `presets/NAME.toml` stands for the whole shipped preset
    of that name."""

    def __init__(self, folder: Path) -> None:
        self._own = ObjectFolder(folder, Preset, check=check_preset)

    def refresh(self) -> bool:
        """Reads what changed; True if anything did."""
        return self._own.refresh()

    @property
    def all(self) -> dict[str, Preset]:
        """The shipped ones in the order of their file, then the user's by name."""
        return {**shipped_presets(), **self._own.objects}

    @property
    def broken(self) -> tuple[BrokenObject, ...]:
        return self._own.broken

    def find(self, name: str) -> Preset:
        """The preset of that name, or of the model of that name; raises `NotFound`."""
        presets = self.all
        for preset in (presets.get(name), *presets.values()):
            if preset is not None and name in (preset.name, preset.model):
                return preset
        raise NotFound(f"There is no preset {name!r}.", hint="See: meshtui model presets")

    def save(self, preset: Preset) -> None:
        """Writes the user's file of this preset (see `ObjectFolder.save`)."""
        self._own.save(preset.name, preset)

    def delete(self, name: str) -> None:
        """Deletes the user's file; a shipped preset of that name is back then."""
        self._own.delete(name)


def shipped_presets() -> dict[str, Preset]:
    """Those of `config/presets.toml`, in its order."""
    return presets_of(toml_data("presets.toml"))


def presets_of(data: dict[str, Any]) -> dict[str, Preset]:
    """The presets of a file with a table each. Raises `msgspec.ValidationError` or `Wrong`."""
    found = {}
    for name, table in data.items():
        preset = msgspec.convert({**table, "name": name}, Preset)
        check_preset(preset)
        found[name] = preset
    return found


def check_preset(preset: Preset) -> None:
    """Raises `Wrong` for what the types let pass."""
    try:
        ModelRef.parse(preset.model)
    except InvalidInput as error:
        raise Wrong(str(error), at=("model",)) from error
    for key in ("parameters", "active_parameters"):
        count = getattr(preset, key)
        if count is not None and count < 1:
            raise Wrong("must be at least 1", at=(key,))
    seen: set[int] = set()
    for index, settings in enumerate(preset.settings):
        at: KeyPath = ("settings", index)
        if settings.gpu_gb < 1:
            raise Wrong("must be at least 1", at=(*at, "gpu_gb"))
        if settings.gpu_gb in seen:
            raise Wrong(f"there are two settings for {settings.gpu_gb} GB", at=(*at, "gpu_gb"))
        seen.add(settings.gpu_gb)
        if not 1 <= settings.gpus <= _MOST_GPUS:
            raise Wrong(f"must be from 1 to {_MOST_GPUS}", at=(*at, "gpus"))
        if settings.max_tokens is not None and settings.max_tokens < 1:
            raise Wrong("must be at least 1", at=(*at, "max_tokens"))

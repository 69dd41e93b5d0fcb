"""Names that a person may mean: models that are known here, found on the Hub, and folders."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshtui.domain.controller import ModelOption
from meshtui.domain.hub_search import FoundModel
from meshtui.domain.model_cache import CacheEntry
from meshtui.domain.preset import Preset
from meshtui.domain.text import one_line

from .. import words

MOST = 8
_MOST_FOLDERS = 2000


@dataclass(frozen=True)
class Suggestion:
    """`value` goes into the field; `note` says where it is known from."""

    value: str
    note: str = ""


def is_path(text: str) -> bool:
    """Whether it names a folder and no model of the Hub."""
    return text.startswith(("/", "~", "./", "../")) or text in (".", "..")


def full_name(text: str) -> str:
    """What the controller is asked: folders by their absolute path, for it runs elsewhere."""
    name = text.strip()
    return str(_absolute(name)) if is_path(name) else name


def _absolute(text: str) -> Path:
    """As it is named: where links lead is the controller's to find out."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # no such user
        path = Path(text)
    return path.absolute()


def suggestions(
    text: str,
    checked: Sequence[str],
    models: Sequence[ModelOption],
    entries: Iterable[CacheEntry],
    presets: Iterable[Preset] = (),
    *,
    most: int = MOST,
) -> list[Suggestion]:
    """The known models that have all words of the text in their name (or the preset's label), each
    once; those that begin with it first, then in the order of the sources."""
    notes: dict[str, list[str]] = {name: ["checked before"] for name in checked}
    for option in models:
        where = f"enabled on {one_line(option.connection, 40)}"
        notes.setdefault(option.enabled.model, []).append(where)
    for entry in entries:
        notes.setdefault(entry.model, []).append(f"in the cache, {words.size(entry.size_bytes)}")
    labels: dict[str, str] = {}
    for preset in presets:
        labels.setdefault(preset.model, preset.label)
        size = f", {short_count(preset.parameters)}" if preset.parameters else ""
        notes.setdefault(preset.model, []).append(f"preset{size}")
    typed = text.strip().casefold()
    parts = typed.split()
    called = {name: f"{name} {labels.get(name, '')}".casefold() for name in notes}
    found = [name for name in notes if all(part in called[name] for part in parts)]
    found.sort(key=lambda name: not _begins(name, typed))
    return [Suggestion(name, " · ".join(notes[name])) for name in found if name != text][:most]


def of_hub(found: Iterable[FoundModel], known: Iterable[Suggestion], text: str) -> list[Suggestion]:
    """What the Hub found beside what is known and what is typed already."""
    names = {text.strip(), *(suggestion.value for suggestion in known)}
    return [Suggestion(one.model, _on_hub(one)) for one in found if one.model not in names]


def _on_hub(found: FoundModel) -> str:
    facts = [short_count(found.parameters)] if found.parameters else []
    if found.downloads:
        facts.append(f"↓ {short_count(found.downloads)}")
    return " · ".join(["Hub", *facts])


def short_count(count: int) -> str:
    """`350`, `1.2 k`, `135 M`, `8.0 B`: two digits or three."""
    value, unit = float(count), ""
    for unit in ("", " k", " M", " B"):
        if value < 999.5 or unit == " B":
            break
        value /= 1000
    return f"{value:.1f}{unit}" if unit and value < 99.95 else f"{value:,.0f}{unit}"


def _begins(name: str, typed: str) -> bool:
    folded = name.casefold()
    return folded.startswith(typed) or folded.rpartition("/")[2].startswith(typed)


async def folders(text: str) -> list[Suggestion]:
    """The folders that a path which is being typed may go on to."""
    return await asyncio.to_thread(_folders, text)


def _folders(text: str) -> list[Suggestion]:
    before, _, begun = text.rpartition("/")
    if text in ("~", ".", ".."):
        before, begun = text, ""
    place = _absolute(before + "/")
    found: list[Suggestion] = []
    try:
        with os.scandir(place) as entries:
            for number, entry in enumerate(entries):
                if number >= _MOST_FOLDERS:
                    break
                if not entry.name.startswith(begun) or (entry.name[0] == "." and not begun):
                    continue
                if entry.is_dir() and _can_be_typed(entry.name):
                    holds = Path(entry.path, "config.json").exists()
                    note = "has a config.json" if holds else "folder"
                    found.append(Suggestion(f"{before}/{entry.name}" + "/" * (not holds), note))
    except (OSError, ValueError):
        return []
    found.sort(key=lambda one: (one.note == "folder", one.value))
    return found[:MOST]


def _can_be_typed(name: str) -> bool:
    return one_line(name) == name

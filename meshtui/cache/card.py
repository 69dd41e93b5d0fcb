"""A model card (`README.md`): its front matter and its text, read without trusting it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from meshtui.domain.text import one_line, sanitise

MOST_CARD_BYTES = 1_000_000
_MOST_FRONT_MATTER_CHARS = 200_000
_MOST_NODES = 20_000
_FENCE = "---"


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a card says, sanitised; empty where it says nothing. `base_relation` is
    `base_model_relation`."""

    text: str = ""
    licence: str | None = None
    pipeline: str | None = None
    library: str | None = None
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    base_model: str | None = None
    base_relation: str | None = None


def read_card(path: Path) -> Card:
    """The card in a file; an empty one where there is none that can be read."""
    try:
        with path.open("rb") as file:
            return parse_card(file.read(MOST_CARD_BYTES))
    except OSError:
        return Card()


def parse_card(content: bytes) -> Card:
    """Front matter that is not valid counts as none."""
    text = content.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n")
    front, body = _split(text)
    said = _load(front)
    return Card(
        text=sanitise(body.strip()),
        licence=_licence(said),
        pipeline=_word(said.get("pipeline_tag")),
        library=_word(said.get("library_name")),
        languages=_words(said.get("language")),
        tags=_words(said.get("tags")),
        base_model=next(iter(_words(said.get("base_model"))), None),
        base_relation=_word(said.get("base_model_relation")),
    )


def _split(text: str) -> tuple[str, str]:
    if not text.startswith(_FENCE + "\n"):
        return "", text
    end = text.find(f"\n{_FENCE}", len(_FENCE))
    if end < 0 or end > _MOST_FRONT_MATTER_CHARS:
        return "", text
    _, _, body = text[end + 1 :].partition("\n")
    return text[len(_FENCE) + 1 : end + 1], body


class _Loader(yaml.SafeLoader):
    """Knows no aliases, with which a few lines become gigabytes; counts what it builds."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES or self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases, or too much of it")
        return super().compose_node(parent, index)


def _load(front: str) -> Mapping[str, Any]:
    try:
        said = yaml.load(front, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError):
        return {}
    return (
        {key: value for key, value in said.items() if isinstance(key, str)}
        if isinstance(said, dict)
        else {}
    )


def _licence(said: Mapping[str, Any]) -> str | None:
    name = _word(said.get("license"))
    return _word(said.get("license_name")) or name if name in (None, "other") else name


def _word(value: Any) -> str | None:
    if isinstance(value, list) and value:
        value = value[0]
    return (one_line(value, 100) or None) if isinstance(value, str) else None


def _words(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(word for item in items[:200] if (word := _word(item)))

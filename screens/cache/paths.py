"""Fields for paths on this machine, completed from the folders that are there."""

import asyncio
from pathlib import Path

from textual.suggester import Suggester

from meshtui.domain.text import one_line

from ..widgets.fields import Field

_MOST_LOOKED_AT = 5_000


class PathSuggester(Suggester):
    """The first name that goes on as it was typed; `→` takes it."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        return await asyncio.to_thread(_complete, value) if value else None


def _complete(typed: str) -> str | None:
    folder, slash, start = typed.rpartition("/")
    if not slash or not start:
        return None
    names = []
    try:
        for number, path in enumerate(Path(f"{folder}/").expanduser().iterdir()):
            # A name that could not be shown as it is cannot be typed either.
            if path.name.startswith(start) and one_line(path.name) == path.name:
                names.append(path.name + ("/" if path.is_dir() else ""))
            if number > _MOST_LOOKED_AT:
                break
    except (OSError, RuntimeError):
        return None
    return f"{folder}/{min(names)}" if names else None


class PathField(Field):
    """A path; `~` is the home folder."""

    def __init__(self, value: str = "", *, placeholder: str = "", id: str | None = None) -> None:
        super().__init__(value, placeholder=placeholder, id=id)
        self.suggester = PathSuggester()

    @property
    def path(self) -> str:
        """Absolute, as the controller wants it; empty where nothing was typed."""
        typed = self.value.strip()
        try:
            return str(Path(typed).expanduser().absolute()) if typed else ""
        except RuntimeError:
            return typed

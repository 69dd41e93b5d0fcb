"""The command palette: every action with its key, models to choose, themes."""

from collections.abc import Callable
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from . import actions

Command = tuple[str, str, Callable[[], object]]


class Actions(Provider):
    """What can be done on the screen below the palette, then what can be done everywhere."""

    def _commands(self) -> list[Command]:
        found: list[Command] = []
        for action in [*actions.of_screen(self.screen), *actions.of_app(self.app)]:
            if action.possible and action.action not in ("commands", "back"):
                run = partial(self.app.run_action, action.action, action.node)
                found.append((action.title, action.key, run))
        for name in sorted(self.app.available_themes, key=lambda n: (n[:7] != "meshtui", n)):
            run = partial(self.app.run_action, f"theme('{name}')", self.app)
            found.append((f"Theme: {name}", "", run))
        return found

    async def discover(self) -> Hits:
        for title, key, run in self._commands():
            if not title.startswith("Theme: ") or title.startswith("Theme: meshtui"):
                yield DiscoveryHit(_line(Content(title), key), run, text=title)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for title, key, run in self._commands():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, _line(matcher.highlight(title), key), run, text=title)


def _line(title: Content, key: str) -> Content:
    return Content.assemble((f"{key:>8}  ", "$key"), title)

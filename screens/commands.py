"""The command palette: every action with its key, models to choose, themes."""

from collections.abc import Callable
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from meshtui.domain.text import one_line

from . import actions
from .frame import workstation

# What it does, the word for it in the footer, its key, and the doing.
Command = tuple[str, str, str, Callable[[], object]]

_IMPOSSIBLE = " (not now)"


class Actions(Provider):
    """What can be done on the screen below the palette, then what can be done everywhere; at the
    end what else there is, so that its key can be looked up."""

    def _commands(self) -> list[Command]:
        found: list[Command] = []
        later: list[Command] = []
        for action in [*actions.of_screen(self.screen), *actions.of_app(self.app)]:
            if action.action == "commands":
                continue
            if action.possible:
                run = partial(self.app.run_action, action.action, action.node)
                found.append((action.title, action.name, action.key, run))
            else:
                not_now = partial(self._not_now, action)
                later.append((action.title + _IMPOSSIBLE, action.name, action.key, not_now))
        app = workstation(self.screen)
        for option in app.state.models:
            choose = partial(app.action_prompt, option.connection, option.enabled.model)
            name = f"Model: {one_line(option.label)} on {one_line(option.connection)}"
            found.append((name, "", "", choose))
        for name in sorted(self.app.available_themes, key=lambda n: (n[:7] != "meshtui", n)):
            run = partial(self.app.run_action, f"theme('{name}')", self.app)
            found.append((f"Theme: {name}", "", "", run))
        return found + later

    def _not_now(self, action: actions.Action) -> None:
        workstation(self.screen).say(f"“{action.title}” is not possible just now.", "warning")

    async def discover(self) -> Hits:
        for title, _name, key, run in self._commands():
            many = title.startswith(("Model: ", "Theme: "))
            if not many or title.startswith("Theme: meshtui"):
                shown = Content(title)
                if title.endswith(_IMPOSSIBLE):
                    shown = Content.styled(title, "$muted")
                yield DiscoveryHit(_line(shown, key), run, text=title)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for title, name, key, run in self._commands():
            if (score := max(matcher.match(title), matcher.match(name))) > 0:
                yield Hit(score, _line(matcher.highlight(title), key), run, text=title)


def _line(title: Content, key: str) -> Content:
    return Content.assemble((f"{key:>8}  ", "$key"), title)

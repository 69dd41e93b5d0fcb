"""The screens that have a tab: one line each."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from .frame import WorkScreen


@dataclass(frozen=True)
class Entry:
    """A screen with a tab. `key` opens it; `function_key` does so from inside an editor.
    `place` is `module:class` beside this file, imported when the screen is first opened."""

    name: str
    title: str
    key: str
    function_key: str
    place: str

    def factory(self) -> Callable[[], WorkScreen]:
        def make() -> WorkScreen:
            module, _, kind = self.place.partition(":")
            screen = getattr(import_module(f".{module}", __package__), kind)()
            assert isinstance(screen, WorkScreen)
            return screen

        return make


SCREENS = (
    Entry("studio", "Studio", "1", "f2", "studio.screen:StudioScreen"),
    Entry("servers", "Servers", "2", "f3", "servers.screen:ServersScreen"),
    Entry("cache", "Cache", "3", "f4", "cache.screen:CacheScreen"),
    Entry("check", "Check", "4", "f6", "check.screen:CheckScreen"),
    Entry("connections", "Connections", "5", "f7", "connections.screen:ConnectionsScreen"),
)

"""The app: it holds the state and the way to the controller, and switches screens."""

import asyncio
import contextlib
import gc
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.screen import ModalScreen
from textual.signal import Signal

from meshtui import themes
from meshtui.domain.controller import ControllerEvent, TransferChanged
from meshtui.domain.text import one_line

from . import clipboard, hangup, memory, theming, words
from .registry import SCREENS
from .state import Link, State
from .work import start

if TYPE_CHECKING:
    from meshtui.client import ControllerClient


class MeshtuiApp(App[None]):
    """The workstation."""

    TITLE = "meshtui"
    # Each screen has its sheet beside it; read together, they are parsed once.
    CSS_PATH = ["app.tcss", *(f"{entry.name}/{entry.name}.tcss" for entry in SCREENS)]  # noqa: RUF012
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "ctrl+q",
            "quit",
            "Quit",
            tooltip="Quit; servers go on running",
            show=False,
            priority=True,
            id="app.quit",
        ),
        Binding("ctrl+p", "commands", "Commands", key_display="^p", id="app.commands"),
        Binding("colon", "commands", "Commands", show=False, id="app.commands.colon"),
        Binding("f1", "help", "Help", tooltip="What the keys do here", show=False, id="app.help"),
        Binding("question_mark", "help", "Help", show=False, id="app.help.question"),
        Binding(
            "exclamation_mark,f9",
            "problems",
            "Problems",
            tooltip="List the problems",
            show=False,
            id="app.problems",
        ),
        Binding("ctrl+c", "help_quit", show=False, system=True, id="app.ctrl_c"),
        # A digit is text where one types; editors have function keys of their own, which would
        # come first.
        *(
            Binding(
                key,
                f"go('{entry.name}')",
                f"Go to {entry.title}",
                show=False,
                priority=key == entry.function_key,
                id=f"app.go.{entry.name}{'.function' if key == entry.function_key else ''}",
            )
            for entry in SCREENS
            for key in (entry.key, entry.function_key)
        ),
    ]

    def __init__(self, client: "ControllerClient", *, initial: str | None = None) -> None:
        self.DEFAULT_MODE = initial or SCREENS[0].name  # type: ignore[misc]
        super().__init__()
        self.client = client
        self.state = State()
        self.memory = memory.recall()
        self.changes: Signal[ControllerEvent | None] = Signal(self, "changes")
        self._was_connected = False
        self._is_painted = False
        self._said = ""
        self._to_check: str | None = None
        for entry in SCREENS:
            self.add_mode(entry.name, entry.factory())
        self._take_themes()

    def _take_themes(self) -> None:
        found, self.code_styles, self.state.theme_problems = theming.load()
        for theme in found:
            self.register_theme(theme)
        wanted = self.memory.theme
        # Set without its watcher, which would have the style sheet parsed once more before the
        # first frame.
        self.set_reactive(App.theme, wanted if wanted in self.available_themes else themes.DEFAULT)
        self.stylesheet.set_variables(self.get_css_variables())

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own variables, for themes that do not set them."""
        return {
            "muted": "#808080",
            "faint": "#606060",
            "strong": self.current_theme.foreground or "#c0c0c0",
            "key": self.current_theme.primary,
            "cursor-line": self.current_theme.panel or "#303030",
            # Asked for by the toolkit where a theme leaves the colours to the terminal.
            "ansi-background": "ansi_black" if self.current_theme.dark else "ansi_white",
            "ansi-foreground": "ansi_white" if self.current_theme.dark else "ansi_black",
        }

    @property
    def code_style(self) -> str:
        """The Pygments style that goes with the theme."""
        fallback = "monokai" if self.current_theme.dark else "friendly"
        return self.code_styles.get(self.theme, fallback)

    def on_mount(self) -> None:
        if not self.is_headless:
            hangup.watch(self._leave)
        # Connecting imports the HTTP client and may start the controller: the first frame
        # does not wait for either.
        self.call_after_refresh(self._connect)

    def refresh_css(self, animate: bool = True) -> None:
        """Styles everything anew; before the first frame there is nothing to style again."""
        if self._is_painted:
            super().refresh_css(animate=animate)

    def _connect(self) -> None:
        self._is_painted = True
        if not gc.isenabled():
            # What is there now stays to the end: it need not be looked through again.
            gc.freeze()
            gc.enable()
        from .link import follow

        start(self, partial(follow, self.client, self.state, self._publish), group="link")

    def _publish(self, event: ControllerEvent | None) -> None:
        if event is None:
            if self.state.link is Link.CONNECTED:
                if self._was_connected:
                    self.say("The controller was gone and is back; servers went on running.")
                self._was_connected = True
                self._said = ""
            elif self.state.controller_stays_away and self.state.link_problem != self._said:
                # Each try fails anew; the same words once are enough.
                self._said = self.state.link_problem
                self.say(self._said, "error")
        elif isinstance(event, TransferChanged) and event.transfer.state.is_over:
            from .news import of_transfer

            if news := of_transfer(event.transfer, self.state):
                self.say(*news)
        self.changes.publish(event)

    def say(self, message: str, severity: Any = "information", *, title: str = "") -> None:
        """A toast. Its text may come from outside, so it is never read as markup."""
        self.notify(one_line(message, 600), title=one_line(title), severity=severity, markup=False)

    def copy_to_clipboard(self, text: str) -> None:
        """By OSC 52 always, by tmux too where we are inside it."""
        super().copy_to_clipboard(text)
        start(self, partial(self._to_tmux, text), group="clipboard")

    async def _to_tmux(self, text: str) -> None:
        await clipboard.to_tmux(text)

    def copy(self, text: str, what: str, otherwise: str = "") -> None:
        """Copies and says which way it went. `otherwise` helps where that way is blocked."""
        start(self, partial(self._copy, text, what, otherwise), group="clipboard")

    async def _copy(self, text: str, what: str, otherwise: str) -> None:
        super().copy_to_clipboard(text)
        way = (
            "through tmux (also a tmux buffer) and OSC 52"
            if await clipboard.to_tmux(text)
            else "to your terminal (OSC 52)"
        )
        self.say(f"{what} copied {way}. {otherwise}".rstrip())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # A dialog wants an answer first; the palette has had it.
        is_asked = isinstance(self.screen, ModalScreen)
        return action != "go" or not is_asked or isinstance(self.screen, CommandPalette)

    def action_go(self, name: str) -> None:
        """Opens a screen by its name, at its first page."""
        if name != self.current_mode:
            self.switch_mode(name)

    def action_prompt(self, connection: str, model: str) -> None:
        """Goes to the studio with that model chosen."""
        self.memory.connection, self.memory.model = connection, model
        self.action_go("studio")
        self.changes.publish(None)

    def action_check(self, model: str) -> None:
        """Goes to the checker with that model, or the folder of one."""
        self._to_check = model
        self.action_go("check")
        self.changes.publish(None)

    def take_check(self) -> str | None:
        """The model that the checker was opened for, once."""
        model, self._to_check = self._to_check, None
        return model

    def action_help(self) -> None:
        from .help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_problems(self) -> None:
        from .help import ProblemsScreen

        self.push_screen(ProblemsScreen(self.state))

    def action_commands(self) -> None:
        from .commands import Actions

        if not any(isinstance(screen, CommandPalette) for screen in self.screen_stack):
            self.push_screen(
                CommandPalette(providers=[Actions], placeholder="What do you want to do?")
            )

    def action_theme(self, name: str) -> None:
        """Changes the theme, and remembers it."""
        self.theme = name
        self.memory.theme = name
        self.save_memory()

    def action_help_quit(self) -> None:
        self.say("ctrl+q quits; servers go on running.")

    def save_memory(self) -> None:
        """Writes what is to be remembered, without keeping anyone waiting."""
        start(self, self._remember, group="memory")

    async def _remember(self) -> None:
        try:
            await asyncio.to_thread(memory.remember, self.memory)
        except OSError as error:
            why = error.strerror or type(error).__name__
            self.say(
                f"Your draft cannot be kept in {memory.memory_path()}: {why}. "
                "The studio works, but forgets it when you leave.",
                "warning",
            )

    def _leave(self) -> None:
        start(self, self.action_quit, group="leave")

    async def on_unmount(self) -> None:
        await self.client.close()

    async def action_quit(self) -> None:
        """Ends the app; the controller and its servers go on."""
        with contextlib.suppress(OSError):
            await asyncio.to_thread(memory.remember, self.memory)
        self.exit()


def run(*, socket: Path | None = None, initial: str | None = None) -> int:
    """Opens the workstation and returns the exit status. `initial` names the first screen."""
    from meshtui.client import ControllerClient

    app = MeshtuiApp(ControllerClient(socket), initial=initial)
    app.run()
    alive = app.state.alive
    if alive and app.return_code in (0, None):
        one = len(alive) == 1
        print(
            f"{words.plural(len(alive), 'server')} {'goes' if one else 'go'} on running. "
            "`meshtui server list` shows, `meshtui server stop` stops.",
            file=sys.stderr,
        )
    return app.return_code or 0

"""The smallest Textual program: what the toolkit itself costs."""

from textual.app import App, ComposeResult
from textual.widgets import Static


class Hello(App[None]):
    def compose(self) -> ComposeResult:
        yield Static("Hello world, this is what the toolkit itself costs.")


if __name__ == "__main__":
    Hello().run()

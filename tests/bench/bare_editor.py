"""The smallest Textual program that takes keys: what a key costs in the toolkit itself."""

from textual.app import App, ComposeResult
from textual.widgets import TextArea


class BareEditor(App[None]):
    def compose(self) -> ComposeResult:
        yield TextArea()


if __name__ == "__main__":
    BareEditor().run()

"""A finished answer as lines of styled text, rendered once.

Rich renders it rather than Textual's Markdown widget: the outcome is lines, not a widget for
every paragraph, and neither links nor actions are in it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme
from textual.strip import Strip

# Beyond this an answer stays as it streamed in. Rendering takes 0.4 s a megabyte of prose, but
# up to 14 s a megabyte of short fences and lists (measured): under a second at this size.
LIMIT_CHARS = 60_000


class _Fence(CodeBlock):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        background = console.get_style("code.background").color
        yield Syntax(
            str(self.text).rstrip("\n"),
            self.lexer_name,
            theme=self.theme,
            word_wrap=True,
            background_color=background.name if background else "default",
            padding=(0, 2),
        )


class _Heading(Heading):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self.text.copy()
        text.justify = "left"
        yield text


class _Answer(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "fence": _Fence,
        "code_block": _Fence,
        "heading_open": _Heading,
    }

    def __init__(self, text: str, code_style: str) -> None:
        super().__init__("", code_theme=code_style, hyperlinks=False)
        # HTML is text here: rendered as HTML it would vanish. A single line break is one.
        parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
        self.markup = text
        self.parsed = parser.parse(text)
        _keep_line_breaks(self.parsed)


def _keep_line_breaks(tokens: list[Token]) -> None:
    for token in tokens:
        if token.type == "softbreak":
            token.type = "hardbreak"
        if token.children:
            _keep_line_breaks(token.children)


def render(text: str, width: int, code_style: str, colours: Mapping[str, str]) -> list[Strip]:
    """The lines of a Markdown text, `width` cells wide. `text` must be sanitised.

    `colours` are `strong`, `muted`, `key`, `foreground` and `code` (the background of fences) as
    Rich names or `#rrggbb`. May take
    a second for a long text: call it in a thread.
    """
    styles: dict[str, Any] = {
        "code.background": colours["code"],
        "markdown.h1": f"bold underline {colours['strong']}",
        "markdown.h2": f"bold {colours['strong']}",
        "markdown.h3": f"bold {colours['strong']}",
        "markdown.h4": f"bold {colours['foreground']}",
        "markdown.strong": f"bold {colours['strong']}",
        "markdown.code": colours["key"],
        "markdown.code_block": colours["foreground"],
        "markdown.block_quote": colours["muted"],
        "markdown.hr": colours["muted"],
        "markdown.item.bullet": colours["key"],
        "markdown.item.number": colours["key"],
        "markdown.link": colours["key"],
        "markdown.link_url": colours["muted"],
        "markdown.table.border": colours["muted"],
        "markdown.table.header": f"bold {colours['strong']}",
    }
    console = Console(
        width=width,
        color_system="truecolor",
        force_terminal=True,
        legacy_windows=False,
        theme=Theme(styles),
        highlight=False,
        markup=False,
        emoji=False,
        _environ={},
    )
    lines = console.render_lines(_Answer(text, code_style), pad=False, new_lines=False)
    strips = [Strip(line) for line in lines]
    while strips and not strips[-1].text.strip():
        strips.pop()
    return strips or [Strip(list(Text(text).render(console)))]

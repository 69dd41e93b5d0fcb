"""Pieces of styled text as strips, for widgets that draw their own lines."""

from collections.abc import Iterable

from rich.segment import Segment
from rich.style import Style as RichStyle
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

Part = tuple[str, str]


class Tones:
    """Styles by their name in content markup (`$muted`, `$error bold`), parsed once a theme."""

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._theme = ""
        self._known: dict[str, RichStyle] = {}

    def __getitem__(self, tone: str) -> RichStyle:
        theme = self._widget.app.theme
        if theme != self._theme:
            self._theme, self._known = theme, {}
        style = self._known.get(tone)
        if style is None:
            style = Style.parse(tone).rich_style if tone else RichStyle()
            self._known[tone] = style
        return style

    def colour(self, name: str) -> str:
        """A theme colour as Rich names it."""
        colour = self[f"${name}"].color
        return colour.name if colour and not colour.is_default else "default"

    def strip(self, parts: Iterable[Part], base: RichStyle, width: int | None = None) -> Strip:
        """One line of parts over a base style; filled up or cropped to `width` cells."""
        strip = Strip([Segment(text, base + self[tone]) for text, tone in parts if text])
        return strip if width is None else strip.adjust_cell_length(width, base)

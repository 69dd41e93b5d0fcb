"""A prompt and its answer in the pane: one widget that draws its own lines."""

import asyncio
import time

from rich.segment import Segment
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from meshtui.domain.server import Explanation
from meshtui.domain.text import one_line

from .. import words
from ..frame import workstation
from ..widgets.tones import Part, Tones
from ..widgets.wrapping import WrappedText, fit_cells, wrap
from ..work import start
from . import passages
from .answer import Answer, Standing

_PROMPT_ROWS = 6
# Rows of the screen that are left beside a picture: the frame, and what stands above and below.
_BESIDE_PICTURE_ROWS = 9
_MOST_PICTURE_ROWS = 40
_CURSOR = "▌"

_VERBS = {
    Standing.FAILED: "Failed",
    Standing.INTERRUPTED: "Broken off",
}


class Block(Widget):
    """Text is added at a cost that does not grow with what is there already."""

    class Chosen(Message):
        """The block was clicked."""

        def __init__(self, block: "Block") -> None:
            self.block = block
            super().__init__()

    def __init__(self, answer: Answer, *, raw: bool) -> None:
        super().__init__()
        self.answer = answer
        self.raw = raw
        self._text = WrappedText()
        self._markdown: list[Strip] = []
        self._markdown_for: tuple[int, str] | None = None
        self._pictures: list[Strip] = []
        self._pictures_for: tuple[int, int, tuple[bytes, ...]] | None = None
        self._head: list[Strip] = []
        self._foot: list[Strip] = []
        self._width = 0
        self._tones = Tones(self)
        self._text.feed(answer.take_text())

    # What changes

    def flush(self) -> None:
        """Shows what text has arrived."""
        text = self.answer.take_text()
        if not text or not self._width:
            self._text.feed(text)
            return
        before = len(self._text)
        first = self._text.feed(text)
        head, total = len(self._head), self._height()
        changed = Region(0, head + first, self.outer_size.width, total - head - first)
        self.refresh(changed, layout=len(self._text) != before)

    def tick(self) -> None:
        """Shows how time and counts go on."""
        if self._width:
            before = self._height()
            head = len(self._head)
            self._frame()
            whole = Region(0, 0, self.outer_size.width, len(self._head))
            end = Region(
                0,
                self._height() - len(self._foot),
                self.outer_size.width,
                len(self._foot),
            )
            grown = self._height() != before or len(self._head) != head
            self.refresh(whole, end, layout=grown)

    def update(self) -> None:
        """Shows everything anew: its standing has changed."""
        self._text.feed(self.answer.take_text())
        if self._width:
            self._frame()
        self.refresh(layout=True)
        self._want_markdown()
        self._want_pictures()

    def toggle_raw(self) -> None:
        """Between Markdown and the text as it came."""
        self.raw = not self.raw
        self.update()

    @property
    def shows_markdown(self) -> bool:
        wanted = not self.raw and self.answer.standing.is_over
        return wanted and self._markdown_for == (self._width, self.app.theme)

    # Markdown: rendered in a thread, once for each width

    def _want_markdown(self) -> None:
        if self.raw or not self.answer.standing.is_over or not self._width:
            return
        if self._markdown_for != (self._width, self.app.theme) and self.answer.text.strip():
            start(self, self._render_markdown, latest=True)

    async def _render_markdown(self) -> None:
        width, theme, text = self._width, self.app.theme, self.answer.text
        names = {name: name for name in ("strong", "muted", "key", "foreground")}
        colours = {
            use: self._tones.colour(name) for use, name in {**names, "code": "surface"}.items()
        }
        strips = await asyncio.to_thread(
            _markdown_strips, text, width, workstation(self).code_style, colours
        )
        if strips is not None and width == self._width and theme == self.app.theme:
            self._markdown, self._markdown_for = strips, (width, theme)
            self.refresh(layout=True)

    # Pictures: made into lines in a thread, once for each width

    def _want_pictures(self) -> None:
        wanted = (self._width, self._picture_rows, self.answer.shown)
        if self._width and self.answer.shown and self._pictures_for != wanted:
            start(self, self._render_pictures, latest=True, group="pictures")

    @property
    def _picture_rows(self) -> int:
        return max(4, min(_MOST_PICTURE_ROWS, self.app.size.height - _BESIDE_PICTURE_ROWS))

    async def _render_pictures(self) -> None:
        width, rows, shown = wanted = (self._width, self._picture_rows, self.answer.shown)
        strips = await asyncio.to_thread(_picture_strips, shown, width, rows)
        if width == self._width:
            self._pictures, self._pictures_for = strips, wanted
            self.refresh(layout=True)
            self._want_pictures()

    # How it is drawn

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        if width != self._width:
            self._width = width
            self._text.fit(width)
            self._frame()
            self.call_later(self._want_markdown)
            self.call_later(self._want_pictures)
        return self._height()

    def _body(self) -> int:
        if self.answer.shown:
            return len(self._pictures)
        return len(self._markdown) if self.shows_markdown else len(self._text)

    def _height(self) -> int:
        return len(self._head) + self._body() + len(self._foot)

    def _frame(self) -> None:
        """Lays out what stands above and below the answer."""
        self._head = [self._line(line) for line in self._above()]
        self._foot = [self._line(line) for line in self._below()]

    def _line(self, parts: list[Part]) -> Strip:
        return self._tones.strip(parts, self.rich_style, self._width)

    def _above(self) -> list[list[Part]]:
        answer, width = self.answer, self._width
        when = words.time_of_day(answer.created_at)
        indent = " " * (len(when) + 2)
        rows = [
            row
            for line in answer.prompt.strip().replace("\t", "    ").split("\n")
            for row in wrap(line, max(10, width - len(indent) - 3))
        ]
        if len(rows) > _PROMPT_ROWS:
            rows = [*rows[: _PROMPT_ROWS - 1], f"… {words.plural(len(rows), 'line')}"]
        star = "★" if answer.starred else ""
        first = fit_cells(rows[0] if rows else "", width - len(indent) - 2)
        lines: list[list[Part]] = [
            [(f"{when}  ", "$muted"), (first, "$strong bold"), (f" {star}", "$warning")]
        ]
        lines += [[(indent, ""), (row, "$strong bold")] for row in rows[1:]]
        if answer.standing is Standing.WAITING:
            lines += passages.way_there(
                answer.server,
                answer.label,
                answer.connection,
                time.time(),
                answer.waited_s(),
                width,
            )
        return lines

    def _below(self) -> list[list[Part]]:
        answer, width = self.answer, self._width
        lines: list[list[Part]] = []
        if answer.standing is Standing.WAITING:
            return lines
        if answer.standing in _VERBS:
            explanation = answer.explanation or Explanation(
                cause="The controller went away before the answer was complete.",
                fix="Press r to run it again.",
            )
            verb = _VERBS[answer.standing]
            kept = bool(answer.text) and "kept" not in explanation.cause
            lines += passages.failure(explanation, answer.server, verb, width, kept=kept)
            keys = [("r", "Retry")]
            if answer.server_id:
                keys.append(("l", "Log"))
            keys.append(("y", "Copy the report" if answer.gives_report else "Copy the answer"))
            lines.append(passages.key_line(keys))
        facts = [answer.label, *answer.figures()]
        if answer.standing is Standing.CANCELLED:
            facts.append("cancelled")
        if answer.standing is Standing.DONE and not answer.text and not answer.pictures:
            lines.append([("The model answered with nothing.", "$muted")])
        # Wrapped between facts, not within.
        whole = [fact.replace(" ", "\xa0") for fact in facts]
        for row in wrap("\xa0· ".join(whole), max(10, width)):
            lines.append([(row.replace("\xa0", " "), "$muted")])
        for notice in answer.notices:
            for number, row in enumerate(wrap(notice, max(10, width - 2))):
                lines.append(
                    [(f"{words.ATTENTION} " if not number else "  ", "$warning"), (row, "$muted")]
                )
        return lines

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        head = len(self._head)
        if y < head:
            return self._head[y].adjust_cell_length(width, base)
        y -= head
        body = self._body()
        if y < body:
            if self.answer.shown:
                return self._pictures[y].adjust_cell_length(width, base)
            if self.shows_markdown:
                return self._markdown[y].apply_style(base).adjust_cell_length(width, base)
            parts: list[Part] = [(self._text.rows[y], "")]
            if y == body - 1 and self.answer.standing is Standing.STREAMING:
                parts.append((_CURSOR, "$primary"))
            return self._tones.strip(parts, base, width)
        y -= body
        if y < len(self._foot):
            return self._foot[y].adjust_cell_length(width, base)
        return Strip.blank(width, base)

    def notify_style_update(self) -> None:
        """The theme has changed: what was drawn has the old colours."""
        super().notify_style_update()
        if self._width:
            self._frame()
            self._want_markdown()

    def on_click(self, _event: events.Click) -> None:
        self.post_message(self.Chosen(self))


def _markdown_strips(
    text: str, width: int, code_style: str, colours: dict[str, str]
) -> list[Strip] | None:
    """None for what had better stay as it is. Imports here: the libraries are not small."""
    from ..widgets import markdown

    if len(text) > markdown.LIMIT_CHARS:
        return None
    return markdown.render(text.replace("\t", "    "), width, code_style, colours)


def _picture_strips(shown: tuple[bytes, ...], columns: int, rows: int) -> list[Strip]:
    """One below the other. Imports here, as above."""
    from ..widgets import picture

    found: list[Strip] = []
    for data in shown:
        if found:
            found.append(Strip.blank(0))
        try:
            found += picture.strips(data, columns, rows)
        except ValueError as error:
            said = f"The picture cannot be shown: {one_line(str(error), 200)}. w saves it."
            found.append(Strip([Segment(said)]))
    return found

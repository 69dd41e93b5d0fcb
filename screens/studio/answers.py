"""The pane of answers: blocks, the newest at the bottom, and a cursor on one of them."""

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import Static

from .answer import Answer
from .block import Block

# Older blocks leave the pane (not the history): each costs a little at every layout.
MAX_BLOCKS = 60
_STEP_ROWS = 3


class Answers(VerticalScroll, can_focus=True):
    """Follows the newest answer until the user scrolls away."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", "Previous", show=False, id="answers.up"),
        Binding("down,j", "step(1)", "Next", show=False, id="answers.down"),
        Binding("home", "scroll_home", "First", show=False, id="answers.home"),
        Binding("end", "to_end", "Newest", show=False, id="answers.end"),
    ]

    class Moved(Message):
        """Another block is the current one."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._current: Block | None = None

    def compose(self) -> ComposeResult:
        # At least as high as the pane: an anchored pane would push fewer rows to its bottom.
        with Vertical(id="stack"):
            yield Static("", id="empty")

    def on_mount(self) -> None:
        self.anchor()

    @property
    def blocks(self) -> list[Block]:
        return [child for child in self._stack.children if isinstance(child, Block)]

    @property
    def _stack(self) -> Vertical:
        return self.query_one("#stack", Vertical)

    @property
    def current(self) -> Block | None:
        """The block that the keys act on."""
        return self._current if self._current in self._stack.children else None

    def add(self, answer: Answer, *, raw: bool) -> Block:
        """A new block at the bottom; it becomes the current one."""
        block = Block(answer, raw=raw)
        for old in self.blocks[: max(0, len(self.blocks) + 1 - MAX_BLOCKS)]:
            old.remove()
        self.query_one("#empty").display = False
        self._stack.mount(block)
        self._choose(block, scroll=False)
        self.anchor()
        return block

    def clear(self) -> None:
        """Takes all blocks away; they stay in the history."""
        self._current = None
        self._stack.remove_children(Block)
        self.query_one("#empty").display = True
        self.post_message(self.Moved())

    def say_empty(self, text: str) -> None:
        """What is said while there is no answer."""
        self.query_one("#empty", Static).update(text)

    def _choose(self, block: Block, *, scroll: bool = True) -> None:
        if self._current is not None:
            self._current.remove_class("-current")
        self._current = block
        block.add_class("-current")
        if scroll:
            self.scroll_to_widget(block, animate=False, top=False)
        self.post_message(self.Moved())

    def on_block_chosen(self, message: Block.Chosen) -> None:
        self._choose(message.block, scroll=False)
        self.focus(scroll_visible=False)

    def action_step(self, direction: int) -> None:
        """To the next block; first through the rest of this one where it is longer than the
        pane."""
        blocks, current = self.blocks, self.current
        if current is None:
            return
        top = current.virtual_region.y - round(self.scroll_y)
        bottom = top + current.virtual_region.height
        beyond = bottom > self.size.height if direction > 0 else top < 0
        number = blocks.index(current) + direction
        if beyond or not 0 <= number < len(blocks):
            self.scroll_relative(y=direction * _STEP_ROWS, animate=False)
        else:
            self._choose(blocks[number])

    def action_to_end(self) -> None:
        if self.blocks:
            self._choose(self.blocks[-1], scroll=False)
        self.anchor()

    def on_resize(self, _event: events.Resize) -> None:
        self.refresh(layout=True)

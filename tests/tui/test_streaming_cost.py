"""What a token costs, and that the thirty-two-thousandth costs what the first did."""

import time

from meshtui.screens.studio.answer import Answer
from meshtui.screens.studio.answers import Answers
from meshtui.screens.studio.block import Block
from meshtui.screens.widgets.wrapping import WrappedText, wrap

from meshtui.domain.generation import ChatRequest, RunText
from tests.tui.conftest import AppPilot, opened
from tests.tui.scripted import MODEL, ScriptedClient

TOKENS = 32_000
PER_FLUSH = 20
FLUSHES_PER_STEP = 50  # a thousand tokens
# What the machine does besides makes single figures several times worse: more rounds are made
# until one pair of neighbours shows the bound held. A cost that grows with the answer fails all.
ATTEMPTS = 12
BOUND = 2


async def _thousand(block: Block, pilot: AppPilot, words: list[str]) -> float:
    """Seconds of processor time for a thousand tokens, painting included."""
    started = time.thread_time()
    for _flush in range(FLUSHES_PER_STEP):
        for word in words:
            block.answer.take(RunText(word))
        block.flush()
        await pilot.pause(0)
    return time.thread_time() - started


async def _fresh(pane: Answers, pilot: AppPilot, words: list[str], tokens: int) -> Block:
    """A block alone in the pane that has so many tokens already."""
    pane.clear()
    block = pane.add(Answer(ChatRequest(model=MODEL, messages=()), "model"), raw=True)
    await pilot.pause()
    for number in range(tokens):
        block.answer.take(RunText(words[number % len(words)]))
    block.flush()
    await pilot.pause()
    return block


async def test_the_cost_of_a_token_does_not_grow_with_the_answer() -> None:
    """Short and long answers in turns, so that what else the machine does hits both."""
    for words in (
        ["The ", "capital ", "of ", "France ", "is "] * (PER_FLUSH // 5),
        ["    if ", "value ", "is ", "None", ":\n"] * (PER_FLUSH // 5),
        ["unbroken"] * PER_FLUSH,
    ):
        async with opened(ScriptedClient()) as (app, pilot):
            await pilot.press("ctrl+pagedown")
            pane = app.screen.query_one(Answers)
            ratios: list[float] = []
            while not ratios or (min(ratios) >= BOUND and len(ratios) < ATTEMPTS):
                block = await _fresh(pane, pilot, words, 1000)
                early = await _thousand(block, pilot, words)
                block = await _fresh(pane, pilot, words, TOKENS - 1000)
                late = await _thousand(block, pilot, words)
                assert len(block.answer.text) == len("".join(words)) * TOKENS // len(words)
                ratios.append(late / early)
                print(f"{words[0]!r}: {early * 1000:.0f}, then {late * 1000:.0f} ms a thousand")
            # What grows with the answer would make it up to thirty times as much.
            assert min(ratios) < BOUND


def test_wrapping_as_text_comes_is_wrapping_the_whole() -> None:
    text = "Some wörds, 日本語のテキスト and 👩‍👩‍👧 emoji. " * 20 + "x" * 300 + "\n\nnext " * 5
    for width in (1, 2, 7, 20, 79):
        whole = [row for line in text.split("\n") for row in wrap(line, width)]
        growing = WrappedText()
        growing.fit(width)
        for at in range(0, len(text), 7):
            growing.feed(text[at : at + 7])
        if width > 6:  # a family of emoji may be cut by a piece's border where it barely fits
            assert growing.rows == whole
        growing.fit(width + 1)
        growing.fit(width)
        assert growing.rows == whole

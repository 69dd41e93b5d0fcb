"""The stop text is cut off wherever the pieces of an answer end."""

import itertools
import random

import pytest

from meshtui.engines.stop_text import StopCutter


def run(pieces: list[str], stops: list[str]) -> tuple[str, str | None]:
    cutter = StopCutter(stops)
    text = "".join(cutter.feed(piece) for piece in pieces) + cutter.finish()
    return text, cutter.matched


@pytest.mark.parametrize(
    ("text", "stops", "expected", "matched"),
    [
        ("The capital of France is Paris.", ["is Par"], "The capital of France ", "is Par"),
        ("aab", ["ab"], "a", "ab"),
        ("abcabd", ["abd"], "abc", "abd"),
        ("one\n\ntwo", ["\n\n"], "one", "\n\n"),
        ("STOP here", ["here", "STOP"], "", "STOP"),
        ("almost sto", ["stop"], "almost sto", None),
        ("no stop text at all", [], "no stop text at all", None),
        ("empty ones do not count", ["", ""], "empty ones do not count", None),
        ("aaaaab", ["aaab"], "aa", "aaab"),
    ],
)
def test_any_division_gives_the_same_text(
    text: str, stops: list[str], expected: str, matched: str | None
) -> None:
    chance = random.Random(7)
    assert run([text], stops) == (expected, matched)
    assert run(list(text), stops) == (expected, matched)
    for _ in range(100):
        cuts = [0, *sorted(chance.choices(range(len(text) + 1), k=3)), len(text)]
        pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
        assert run(pieces, stops) == (expected, matched)


def test_text_is_held_back_only_while_it_may_be_a_stop_text() -> None:
    cutter = StopCutter(["</answer>"])
    assert cutter.feed("2 < 3 and 4 <") == "2 < 3 and 4 "
    assert cutter.feed(" 5") == "< 5"


def test_nothing_passes_after_a_match() -> None:
    cutter = StopCutter(["x"])
    assert cutter.feed("abxcd") == "ab"
    assert cutter.feed("more") == ""
    assert cutter.finish() == ""

"""The sanitiser: nothing that a terminal would obey comes through, whole or in pieces."""

import random
import unicodedata

import pytest

from meshtui.client.safe import decode
from meshtui.domain.codec import to_json
from meshtui.domain.text import StreamSanitiser, one_line, sanitise

HOSTILE = [
    "\x1b]0;title\x1b\\after",
    "\x1b]52;c;aGFjaw==\x07after",
    "\x9d52;c;aGFjaw==\x9cafter",
    "\x1b[31mred\x1b[0m",
    "\x9b2Jcleared",
    "\x1bPq#0;2;0;0;0\x1b\\sixel",
    "\x1b_Gkitty\x1b\\",
    "lone \x1b",
    "open \x1b]0;never ends",
    "bell\x07 backspace\x08 del\x7f null\x00",
    "bidi \u202eevil\u202c \u2066isolated\u2069",
    "line\u2028separator",
    "surrogate \ud800",
    "\x1bc reset",
    "\x1b(0line drawing",
    "progress 1%\rprogress 2%\r\ndone",
    "\x1b\x1b]0;x\x07twice",
]


def is_safe(text: str) -> bool:
    return all(
        character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        for character in text
    ) and not any(c in text for c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hostile_comes_through(text: str) -> None:
    assert is_safe(sanitise(text))
    assert is_safe(one_line(text)) and "\n" not in one_line(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hostile_comes_through_in_any_pieces(text: str) -> None:
    chance = random.Random(repr(text))
    for _ in range(200):
        stream, shown, rest = StreamSanitiser(), "", text
        while rest:
            size = chance.randint(1, len(rest))
            shown += stream.feed(rest[:size])
            rest = rest[size:]
        shown += stream.finish()
        assert is_safe(shown)
        assert shown == sanitise(text)


def test_payloads_of_sequences_leave_nothing_behind() -> None:
    assert sanitise("a\x1b]52;c;aGFjaw==\x07b") == "ab"
    assert sanitise("\x1b[1;31mred\x1b[0m") == "red"


def test_ordinary_text_is_untouched() -> None:
    text = "Grüße, 世界 👩‍🚀 [brackets] `code`\n\tindented"
    assert sanitise(text) == text


def test_a_sequence_that_never_ends_is_not_held_for_ever() -> None:
    stream = StreamSanitiser()
    shown = stream.feed("\x1b]0;") + "".join(stream.feed("x" * 1000) for _ in range(10))
    assert len(shown) > 5000


def test_long_names_are_cut_with_a_sign() -> None:
    assert one_line("x" * 500, 10) == "x" * 9 + "…"


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2066, 0x2028])
def test_no_control_character_gets_past_the_client(code: int) -> None:
    """JSON has short escapes for some of them."""
    assert is_safe(decode(to_json(f"a{chr(code)}b"), str))

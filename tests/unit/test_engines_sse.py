"""Event streams are split the same way however they are cut into pieces."""

import itertools
import random

import pytest

from meshtui.engines import sse
from meshtui.engines.sse import EventSplitter, EventTooLong

STREAM = (
    b"\xef\xbb\xbf: a comment\n\n"
    b"data: one\n\n"
    b"data:two\r\n\r\n"
    b"event: message\r\nid: 7\r\ndata: three\r\ndata: and a half\r\n\r\n"
    b": keep-alive\r\r"
    b"data: four\r\r"
    b"data\n\n"
    b"retry: 10\n\n"
    b'data: {"text": "caf\xc3\xa9 \\n"}\n\n'
    b"\n\n\n"
    b"data:  five\n\n"
    b"data: cut o"
)
EVENTS = [
    b"one",
    b"two",
    b"three\nand a half",
    b"four",
    b"",
    b'{"text": "caf\xc3\xa9 \\n"}',
    b" five",
]


def split(pieces: list[bytes]) -> list[bytes]:
    splitter = EventSplitter()
    return [event for piece in pieces for event in splitter.feed(piece)]


def test_the_whole_stream_at_once() -> None:
    assert split([STREAM]) == EVENTS


def test_every_single_border() -> None:
    for at in range(len(STREAM) + 1):
        assert split([STREAM[:at], STREAM[at:]]) == EVENTS


def test_byte_by_byte() -> None:
    assert split([STREAM[at : at + 1] for at in range(len(STREAM))]) == EVENTS


def test_random_borders() -> None:
    chance = random.Random(20261122)
    for _ in range(500):
        borders = sorted(chance.choices(range(len(STREAM) + 1), k=chance.randint(1, 12)))
        cuts = [0, *borders, len(STREAM)]
        pieces = [STREAM[a:b] for a, b in itertools.pairwise(cuts)]
        assert split(pieces) == EVENTS


def test_an_event_that_the_end_cut_off_can_be_asked_for() -> None:
    splitter = EventSplitter()
    splitter.feed(STREAM)
    assert splitter.rest() == b"cut o"
    assert splitter.rest() == b""


def test_what_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_MAX_EVENT_BYTES", 1000)
    splitter = EventSplitter()
    with pytest.raises(EventTooLong):
        for _ in range(100):
            splitter.feed(b"data: " + b"x" * 50)

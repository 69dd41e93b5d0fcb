"""Logs are streamed from their last lines on, also where those are many."""

import random
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from meshtui.controller import logs


async def tail(path: Path, lines: int) -> bytes:
    pieces = logs.log_bytes(path, tail=lines, follow=False, is_over=lambda: True)
    async with aclosing(pieces):
        return b"".join([piece async for piece in pieces])


async def test_the_last_lines_are_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_BLOCK_BYTES", 7)
    chance = random.Random(1)
    log = tmp_path / "log"
    for _ in range(300):
        data = bytes(chance.choice(b"ab\n") for _ in range(chance.randint(0, 40)))
        log.write_bytes(data)
        count = chance.randint(0, 12)
        lines = data.splitlines(keepends=True)
        wanted = b"".join(lines[max(0, len(lines) - count) :])
        assert await tail(log, count) == wanted, (data, count)


async def test_finding_many_lines_takes_no_time(tmp_path: Path) -> None:
    """The interpreter's lock is held meanwhile, so all streams would wait for it."""
    log = tmp_path / "log"
    log.write_bytes((b"x" * 99 + b"\n") * 320_000)
    times = []
    for _ in range(3):
        begun = time.thread_time()
        with log.open("rb") as file:
            assert logs._tail_offset(file, 100_000) == 22_000_000
        times.append(time.thread_time() - begun)
    assert min(times) < 0.2

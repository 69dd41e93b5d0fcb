"""The history keeps every run, whatever ends it, and never stops a prompt."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from meshtui.controller.notices import Notices
from meshtui.domain.errors import NotFound
from meshtui.domain.generation import ChatMessage, Run, Usage
from meshtui.domain.server import Explanation
from meshtui.domain.task import Engine
from meshtui.studio.history import History, new_run_id
from meshtui.studio.history_file import HistoryFile


def run(
    text: str = "What is the capital of France?", answer: str = "Paris.", **more: object
) -> Run:
    fields = {
        "id": new_run_id(),
        "created_at": time.time(),
        "model": "a/b",
        "connection": "local",
        "messages": (ChatMessage("system", "Be brief."), ChatMessage("user", text)),
        "status": "done",
        "answer": answer,
        **more,
    }
    return msgspec.convert(fields, Run)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite3"


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
async def history(path: Path, notices: list[str]) -> AsyncIterator[History]:
    history = History(path, notices.append)
    await history.open()
    yield history
    await history.close()


async def again(path: Path, notices: list[str]) -> History:
    history = History(path, notices.append)
    await history.open()
    return history


async def test_a_run_comes_back_as_it_was(history: History, path: Path) -> None:
    kept = run(
        engine=Engine.VLLM,
        usage=Usage(3, 5),
        ttft_s=0.25,
        error=Explanation(cause="c", fix="f"),
        finish_reason="stop",
    )
    history.put(kept)
    assert await history.get(kept.id) == kept
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_newest_come_first_page_by_page(history: History) -> None:
    runs = [run(id=f"{number:03}") for number in range(25)]
    for one in runs:
        history.put(one)
    ids = [one.id for one in reversed(runs)]
    first = await history.newest(limit=10)
    assert [r.id for r in first] == ids[:10]
    second = await history.newest(limit=10, before=first[-1].id)
    assert [r.id for r in second] == ids[10:20]
    assert len(await history.newest(limit=0)) == 1
    assert len(await history.newest(limit=10**9)) == 25


def test_ids_sort_by_time() -> None:
    first = new_run_id()
    while (second := new_run_id())[:12] == first[:12]:
        pass
    assert first < second


async def test_search_finds_beginnings_of_words_everywhere(history: History) -> None:
    france, spain = run(), run("And of Spain?", "Madrid, \u00e9videmment 100%_sure.")
    for one in (france, spain):
        history.put(one)

    async def found(words: str) -> set[str]:
        return {r.id for r in await history.newest(search=words)}

    assert await found("pari") == {france.id}
    assert await found("capital FRANCE") == {france.id}
    assert await found("evid") == {spain.id}
    assert await found("a/b") == {france.id, spain.id}
    assert await found("nothing of that") == set()
    assert await found("?") == {france.id, spain.id}
    assert await found("%_") == {spain.id}
    for syntax in ('"', "*", "AND", "NEAR(", "answer:x", "'; DROP TABLE runs; --", "-"):
        await found(syntax)
    assert await found("   ") == {france.id, spain.id}


async def test_search_works_without_the_full_text_module(
    path: Path, notices: list[str], history: History
) -> None:
    history.put(kept := run())
    await history.settle()
    db = sqlite3.connect(path)
    db.execute("DROP TABLE runs_text")
    db.commit()
    db.close()
    other = await again(path, notices)
    assert [r.id for r in await other.newest(search="capital")] == [kept.id]
    await other.close()


async def test_stars_and_deletions(history: History) -> None:
    kept, gone = run(), run()
    history.put(kept)
    history.put(gone)
    assert (await history.star(kept.id, True)).starred
    assert (await history.get(kept.id)).starred
    assert not (await history.star(kept.id, False)).starred
    await history.delete(gone.id)
    assert [r.id for r in await history.newest(search="Paris")] == [kept.id]
    for missing in (history.get("x"), history.star("x", True), history.delete("x")):
        with pytest.raises(NotFound):
            await missing


async def test_a_run_that_a_dead_controller_left_is_interrupted_with_what_had_arrived(
    path: Path, notices: list[str]
) -> None:
    first = await again(path, notices)
    left = run(answer="", status="running")
    first.put(left)
    first.put_answer(left.id, "The capital of Fra")
    await first.settle()
    second = await again(path, notices)  # the first one was killed: it never closed
    found = await second.get(left.id)
    assert (found.status, found.answer) == ("interrupted", "The capital of Fra")
    assert [r.id for r in await second.newest(search="capital")] == [left.id]
    assert notices == []
    await second.close()
    await first.close()


async def test_late_pieces_do_not_change_a_finished_run(history: History) -> None:
    history.put(done := run())
    history.put_answer(done.id, "late")
    assert (await history.get(done.id)).answer == "Paris."


async def test_every_text_can_be_kept(history: History) -> None:
    odd = run("\x00\x1b]0;x\x07[bold]\u202e", "half \ud83d and \x00 nul")
    history.put(odd)
    found = await history.get(odd.id)
    assert found.messages == odd.messages
    assert found.answer == "half ? and \x00 nul"


async def test_a_run_that_cannot_be_read_does_not_take_the_others_with_it(
    history: History, path: Path, notices: list[str]
) -> None:
    lost, kept = run(status="running"), run()
    history.put(lost)
    history.put(kept)
    await history.settle()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE runs SET record=? WHERE id=?", (b'{"status": "dreaming"}', lost.id))
    assert await history.newest() == [kept]
    with pytest.raises(NotFound):
        await history.get(lost.id)
    other = await again(path, notices)
    assert await other.newest() == [kept]
    await other.close()
    assert notices == []


async def test_a_page_of_huge_runs_ends_early(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshtui.studio.history_file.MAX_PAGE_BYTES", 3500)
    runs = [run("x" * 1000, id=f"{number}") for number in range(4)]
    for one in runs:
        history.put(one)
    first = await history.newest()
    assert [one.id for one in first] == ["3", "2"]
    assert len(await history.newest(before=first[-1].id)) == 2
    history.put(run("x" * 5000, id="4"))
    assert len(await history.newest()) == 1


@pytest.mark.parametrize(
    "content", [b"this is no database" * 100, b"SQLite format 3\x00" + b"x" * 5000]
)
async def test_a_damaged_file_is_moved_aside(
    path: Path, notices: list[str], content: bytes
) -> None:
    path.write_bytes(content)
    history = await again(path, notices)
    history.put(kept := run())
    assert await history.get(kept.id) == kept
    await history.close()
    (aside,) = path.parent.glob("*.damaged-*")
    assert aside.read_bytes() == content
    assert "damaged" in notices[0] and str(aside) in notices[0]


async def test_a_file_of_a_newer_version_is_left_alone(path: Path, notices: list[str]) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=999")
    db.close()
    before = path.read_bytes()
    history = await again(path, notices)
    history.put(kept := run())
    assert await history.get(kept.id) == kept
    await history.close()
    assert path.read_bytes() == before
    assert "newer meshtui" in notices[0]


async def test_without_a_place_to_write_it_lives_in_memory(
    tmp_path: Path, notices: list[str]
) -> None:
    history = await again(tmp_path / "absent" / "history.sqlite3", notices)
    history.put(kept := run())
    assert await history.get(kept.id) == kept
    await history.close()
    assert len(notices) == 1 and "cannot be used" in notices[0]


async def test_a_full_disk_is_told_once_and_stops_nothing(
    history: History, notices: list[str]
) -> None:
    history.put(before := run())
    await history.settle()
    file = history._file
    assert isinstance(file, HistoryFile)
    (pages,) = file._db.execute("PRAGMA page_count").fetchone()
    file._db.execute(f"PRAGMA max_page_count={pages}")
    for _ in range(20):
        history.put(run(answer="long " * 5000))
    await history.settle()
    await asyncio.sleep(0)
    assert len(notices) == 1 and "full" in notices[0]
    assert history.trouble == notices[0]
    assert await history.get(before.id) == before
    file._db.execute("PRAGMA max_page_count=1000000")
    history.put(after := run())
    assert await history.get(after.id) == after
    await asyncio.sleep(0)
    assert history.trouble is None


async def test_a_notice_goes_when_there_is_room_again(path: Path) -> None:
    notices = Notices()
    history = History(path, notices.add, notices.remove)
    await history.open()
    file = history._file
    assert isinstance(file, HistoryFile)
    for _ in range(2):
        (pages,) = file._db.execute("PRAGMA page_count").fetchone()
        file._db.execute(f"PRAGMA max_page_count={pages}")
        history.put(run(answer="long " * 50_000))
        await history.settle()
        await asyncio.sleep(0)
        assert "full" in notices.all[0]
        file._db.execute("PRAGMA max_page_count=1000000")
        history.put(run())
        await history.settle()
        await asyncio.sleep(0)
        assert notices.all == ()
    await history.close()


async def test_the_loop_goes_on_while_another_process_holds_the_file(
    history: History, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    begun = time.monotonic()
    history.put(kept := run())
    assert time.monotonic() - begun < 1  # SQLite would wait for five
    other.execute("ROLLBACK")
    other.close()
    assert await history.get(kept.id) == kept


def test_the_schema_version_is_written(path: Path) -> None:
    file, notice = HistoryFile.open(path)
    assert notice is None
    assert file._db.execute("PRAGMA user_version").fetchone() == (1,)
    file.close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]

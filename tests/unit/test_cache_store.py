"""Entries appear in one step, or not at all, whatever dies and whoever else is there."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from meshtui.cache.metadata import new_metadata
from meshtui.cache.store import ModelStore
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.model_ref import ModelRef

REF = ModelRef("org/name")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def put(store: ModelStore, content: str, ref: ModelRef = REF) -> None:
    stage = store.stage(ref)
    stage.model_dir.mkdir()
    (stage.model_dir / "config.json").write_text(content)
    stage.commit(new_metadata(ref), {"config.json": "0" * 64})
    store.abandon(stage)


def test_a_committed_model_is_found_with_its_size(store: ModelStore) -> None:
    put(store, "12345")
    entry = store.get(REF)
    assert entry.metadata.size_in_bytes == 5
    assert (entry.model_dir / "config.json").read_text() == "12345"
    assert entry.folder.name == "org_2fname"
    assert [found.ref for found in store.list()] == [REF]


def test_revisions_are_entries_of_their_own(store: ModelStore) -> None:
    put(store, "a")
    put(store, "b", ModelRef("org/name", "v1"))
    assert {str(entry.ref) for entry in store.list()} == {"org/name", "org/name@v1"}


def test_what_is_staged_is_not_listed(store: ModelStore) -> None:
    stage = store.stage(REF)
    stage.model_dir.mkdir()
    assert store.find(REF) is None
    assert store.list() == []
    store.abandon(stage)
    assert not stage.folder.exists()


def test_nothing_cannot_be_committed(store: ModelStore) -> None:
    stage = store.stage(REF)
    with pytest.raises(InvalidInput):
        stage.commit(new_metadata(REF))


def test_a_newer_entry_replaces_an_older_one(store: ModelStore) -> None:
    put(store, "old")
    put(store, "new")
    assert (store.get(REF).model_dir / "config.json").read_text() == "new"
    assert {path.name for path in store.root.iterdir()} == {"org_2fname", ".staging", ".locks"}
    assert list((store.root / ".staging").iterdir()) == []


def test_a_resumed_stage_holds_what_was_there(store: ModelStore) -> None:
    first = store.stage(REF, resume=True)
    (first.folder / "parts").mkdir()
    (first.folder / "parts" / "x").write_text("half")
    store.sweep()
    again = store.stage(REF, resume=True)
    assert (again.folder / "parts" / "x").read_text() == "half"
    again.model_dir.mkdir()
    (again.model_dir / "x").write_text("whole")
    again.commit(new_metadata(REF))
    assert {path.name for path in store.get(REF).folder.iterdir()} == {
        "model",
        "model_metadata.json",
    }


def test_deleting_removes_it_and_says_when_there_is_nothing(store: ModelStore) -> None:
    put(store, "x")
    store.delete(REF)
    assert store.find(REF) is None
    with pytest.raises(NotFound):
        store.delete(REF)


def test_use_is_recorded_and_unknown_fields_stay(store: ModelStore) -> None:
    put(store, "x")
    before = time.time() * 1000
    store.record_use(REF, "someone")
    metadata = store.get(REF).metadata
    assert metadata.last_used_by == "someone"
    assert metadata.last_dss_usage is not None
    assert metadata.last_dss_usage >= int(before)


def test_recording_use_needs_no_right_to_write(store: ModelStore) -> None:
    put(store, "x")
    folder = store.get(REF).folder
    folder.chmod(0o555)
    try:
        store.record_use(REF)
    finally:
        folder.chmod(0o755)
    store.record_use(ModelRef("not/there"))


def test_broken_entries_are_said_and_not_listed(store: ModelStore) -> None:
    put(store, "x")
    (store.get(REF).folder / "model_metadata.json").write_text("{")
    assert store.list() == []
    with pytest.raises(InvalidInput):
        store.get(REF)


WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from meshtui.cache.metadata import new_metadata
    from meshtui.cache.store import ModelStore
    from meshtui.domain.model_ref import ModelRef
    ref = ModelRef("org/name")
    store = ModelStore(Path(sys.argv[1]))
    print("ready", flush=True)
    number = 0
    while True:
        number += 1
        stage = store.stage(ref)
        stage.model_dir.mkdir()
        for name in "abc":
            (stage.model_dir / name).write_text(str(number) * 20000)
        stage.commit(new_metadata(ref))
        store.abandon(stage)
""")


def test_killed_at_any_moment_leaves_a_whole_entry(store: ModelStore) -> None:
    """Always one entry with equal files, never half of one; its debris is swept."""
    chance = random.Random(7)
    put(store, "first")
    for _ in range(25):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.root)], stdout=subprocess.PIPE
        )
        try:
            assert writer.stdout
            writer.stdout.readline()
            # Not to wait for anything: the moment of the kill is what varies.
            time.sleep(chance.uniform(0, 0.03))
        finally:
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
        entry = store.get(REF)
        contents = {path.read_text() for path in entry.model_dir.iterdir()}
        assert len(contents) == 1
        assert [found.ref for found in store.list()] == [REF]
    store.sweep()
    assert list((store.root / ".staging").iterdir()) == []
    assert {path.name for path in store.root.iterdir()} == {".staging", ".locks", "org_2fname"}


async def test_only_one_holds_the_lock_of_a_model(store: ModelStore) -> None:
    order: list[str] = []
    waited = asyncio.Event()
    inside = asyncio.Event()

    async def first() -> None:
        async with store.lock(REF):
            inside.set()
            await waited.wait()
            order.append("first")

    async def second() -> None:
        await inside.wait()
        async with store.lock(REF, waited.set):
            order.append("second")

    async with asyncio.timeout(10):
        await asyncio.gather(first(), second())
    assert order == ["first", "second"]


async def test_the_lock_of_a_killed_process_is_free(store: ModelStore) -> None:
    code = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from meshtui.cache.store import ModelStore
        from meshtui.domain.model_ref import ModelRef
        async def main():
            async with ModelStore(Path(sys.argv[1])).lock(ModelRef("org/name")):
                print("held", flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
    """)
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(store.root), stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout
    await holder.stdout.readline()
    waiting = asyncio.Event()

    async def take() -> None:
        async with store.lock(REF, waiting.set):
            pass

    task = asyncio.create_task(take())
    async with asyncio.timeout(10):
        await waiting.wait()
        holder.kill()
        await holder.wait()
        await task

"""Deleting is one step, whoever dies or deletes beside it, and says beforehand what it frees."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from meshtui.cache.index import CacheIndex
from meshtui.cache.removal import delete, plan_delete
from meshtui.cache.store import METADATA, ModelStore
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.model_ref import ModelRef
from tests.support.models import files, put, write

REF = ModelRef("org/name")
LARGE = files() | {"model.safetensors": bytes(1_000_000)}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def test_a_plan_says_what_is_freed_and_changes_nothing(store: ModelStore) -> None:
    put(store, "org/name", LARGE)
    [plan] = plan_delete(store, ["org/name", " org/name "])
    assert plan.model == "org/name" and plan.refusal is None
    assert plan.size_bytes == sum(map(len, LARGE.values()))
    assert plan.frees_bytes >= 1_000_000
    assert store.find(REF)
    delete(store, "org/name")
    assert store.find(REF) is None and not list(store.root.rglob("*.safetensors"))
    for step in (lambda: plan_delete(store, ["org/name"]), lambda: delete(store, "org/name")):
        with pytest.raises(NotFound):
            step()


def test_hard_links_free_nothing_until_the_last_goes(store: ModelStore, tmp_path: Path) -> None:
    one, two = put(store, "org/one", LARGE), put(store, "org/two", LARGE)
    for entry in (one, two):
        (entry.model_dir / "model.safetensors").unlink()
    weights = write(tmp_path / "hub", {"blob": bytes(1_000_000)}) / "blob"
    for entry in (one, two):
        os.link(weights, entry.model_dir / "model.safetensors")
    assert all(plan.frees_bytes < 1_000_000 for plan in plan_delete(store, ["org/one", "org/two"]))
    weights.unlink()
    first, second = plan_delete(store, ["org/one", "org/two"])
    assert first.frees_bytes < 1_000_000 <= second.frees_bytes
    delete(store, "org/one")
    assert plan_delete(store, ["org/two"])[0].frees_bytes >= 1_000_000


def test_a_broken_entry_can_be_deleted(store: ModelStore) -> None:
    entry = put(store, "org/name")
    (entry.folder / METADATA).write_text("{")
    with pytest.raises(InvalidInput):
        store.get(REF)
    assert plan_delete(store, ["org/name"])[0].frees_bytes > 0
    delete(store, "org/name")
    assert not entry.folder.exists()


def test_an_entry_that_is_a_link_is_taken_out_and_its_target_stays(
    store: ModelStore, tmp_path: Path
) -> None:
    entry = put(store, "org/name")
    entry.folder.rename(tmp_path / "elsewhere")
    entry.folder.symlink_to(tmp_path / "elsewhere")
    delete(store, "org/name")
    assert not os.path.lexists(entry.folder)
    assert (tmp_path / "elsewhere" / METADATA).exists()


def test_links_inside_an_entry_are_not_followed(store: ModelStore, tmp_path: Path) -> None:
    entry = put(store, "org/name")
    kept = write(tmp_path / "kept", {"x": b"x"})
    (entry.model_dir / "out").symlink_to(kept)
    (entry.model_dir / "gone").symlink_to(tmp_path / "nothing")
    delete(store, "org/name")
    assert (kept / "x").read_bytes() == b"x"


OTHER_USER = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from meshtui.cache.removal import delete, plan_delete
    from meshtui.cache.store import ModelStore
    from meshtui.domain.errors import MeshtuiError
    from meshtui.domain.model_ref import ModelRef
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    store = ModelStore(Path(sys.argv[1]))
    print(plan_delete(store, ["org/name"])[0].refusal)
    try:
        delete(store, "org/name")
        print("deleted")
    except MeshtuiError as error:
        print(error.code)
""")


def as_nobody(store: ModelStore) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", OTHER_USER, str(store.root)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_delete_is_told_whose_it_is(store: ModelStore, tmp_path: Path) -> None:
    entry = put(store, "org/name")
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    assert as_nobody(store) == [
        "The cache belongs to root, and you may not change it.", "unavailable",
    ]  # fmt: skip
    # The name could be taken out of the root now, but the files would stay on the disk.
    store.root.chmod(0o777)
    refusal, code = as_nobody(store)
    assert str(entry.folder) in refusal and code == "unavailable"
    assert store.get(REF) == entry
    for folder in (entry.folder, entry.model_dir):
        os.chown(folder, 65534, -1)
    store.root.chmod(0o1777)
    os.chown(entry.folder, 0, -1)
    assert as_nobody(store)[1] == "unavailable"
    os.chown(entry.folder, 65534, -1)
    (store.root / ".locks").chmod(0o777)
    for path in (store.root / ".locks").iterdir():
        path.chmod(0o666)
    assert as_nobody(store) == ["None", "deleted"]
    assert not list(store.root.glob(".trash-*"))


DELETER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from meshtui.cache.removal import delete
    from meshtui.cache.store import ModelStore
    from meshtui.domain.model_ref import ModelRef
    store = ModelStore(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(sys.argv[2])):
        try:
            delete(store, f"org/m{number}")
            print(number, flush=True)
        except Exception as error:
            print(type(error).__name__, error, file=sys.stderr)
""")


def deleter(store: ModelStore, count: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", DELETER, str(store.root), str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    return process


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_killed_at_any_moment_leaves_entries_whole_or_gone(store: ModelStore) -> None:
    """Whatever is still listed has all of its files; debris goes with the next sweep."""
    chance = random.Random(11)
    content = files() | {f"sub/{number}.json": b"{}" for number in range(12)}
    count, gone = 12, 0
    for _ in range(12):
        for number in range(count):
            if not store.find(ModelRef(f"org/m{number}")):
                put(store, f"org/m{number}", content)
        process = deleter(store, count)
        start(process)
        # Not to wait for anything: the moment of the kill is what varies.
        time.sleep(chance.uniform(0, 0.03))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        listed = CacheIndex(store).list()
        gone += count - len(listed)
        for entry in listed:
            assert entry.problem is None
            found = store.get(ModelRef.parse(entry.model))
            for path, data in content.items():
                assert (found.model_dir / path).read_bytes() == data
    assert 0 < gone < 12 * count
    store.sweep()
    assert not list(store.root.glob(".trash-*"))


def test_two_processes_delete_at_once_and_each_entry_goes_once(store: ModelStore) -> None:
    count = 60
    for number in range(count):
        put(store, f"org/m{number}", {"config.json": b"{}"})
    both = [deleter(store, count) for _ in range(2)]
    for process in both:
        start(process)
    deleted: list[str] = []
    for process in both:
        said, errors = process.communicate(timeout=60)
        deleted += said.split()
        assert all(line.startswith("NotFound") for line in errors.splitlines()), errors
    assert sorted(map(int, deleted)) == list(range(count))
    assert store.list() == [] and not list(store.root.glob(".trash-*"))

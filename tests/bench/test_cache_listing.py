"""Listing, reading, adopting and verifying models, beside the least that such a step must do."""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshtui.cache.hub_cache import adopt, plan_adopt, scan, snapshot
from meshtui.cache.index import CacheIndex
from meshtui.cache.metadata import new_metadata
from meshtui.cache.removal import delete
from meshtui.cache.store import METADATA, MODEL, ModelStore
from meshtui.cache.verify import add_checksums, verify
from meshtui.cache.work import Work
from meshtui.domain.model_ref import ModelRef
from tests.bench.measure import Row, in_turn, median, require
from tests.support.synthetic_shelf import fill_cache, fill_hub_cache, fill_hub_repo

ENTRIES = 5_000
REPOS = 2_000
WARM_MS = 50.0
ADOPT_MS = 50.0
LARGE_BYTES = 3_000_000_000
SHARDS = 4
VERIFY_BYTES = 300_000_000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shelf")
    yield folder
    shutil.rmtree(folder)


def milliseconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - began)


def walk(folder: str) -> int:
    """One walk over all folders and files, with the `stat` of each."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += walk(entry.path)
            else:
                total += entry.stat(follow_symlinks=False).st_size
    return total


def test_five_thousand_entries_are_listed_at_once(place: Path) -> None:
    store = ModelStore(place / "models")
    refs = fill_cache(store.root, ENTRIES)
    file = place / "index"
    first = CacheIndex(store, file)
    first.list()
    while first.refine(10.0):
        pass
    first.save()
    known = CacheIndex(store, file)
    known.list()

    def from_file() -> None:
        assert len(CacheIndex(store, file).list()) == ENTRIES

    def read_all() -> None:
        for ref in refs:
            json.loads((store.folder(ref) / METADATA).read_bytes())

    def attempt() -> list[Row]:
        walked, cold, warm, opened, read = in_turn(
            7,
            lambda: milliseconds(lambda: walk(str(store.root))),
            lambda: milliseconds(lambda: CacheIndex(store).list()),
            lambda: milliseconds(known.list),
            lambda: milliseconds(from_file),
            lambda: milliseconds(read_all),
        )
        return [
            Row("no index, against one walk", median(cold), median(walked), 3.0, "ms"),
            Row("again, in one process, best (50 ms)", min(warm), WARM_MS, 1.0, "ms"),
            Row("again, against reading all metadata", median(warm), median(read), 0.5, "ms"),
            Row("first in a process, from the index", median(opened), median(walked), 1.5, "ms"),
        ]

    require(f"Listing {ENTRIES:,} entries", attempt)


def test_the_list_is_right_after_each_change(place: Path) -> None:
    """The same shelf, changed behind the index's back: every change is in the next list."""
    store = ModelStore(place / "changing")
    refs = fill_cache(store.root, ENTRIES)
    index = CacheIndex(store)
    took = [milliseconds(index.list)]

    def listed() -> dict[str, object]:
        began = time.perf_counter()
        entries = index.list()
        took.append(1000 * (time.perf_counter() - began))
        return {entry.model: entry for entry in entries}

    added = ModelStore(place / "other")
    stage = added.stage(ModelRef("new/model"))
    stage.model_dir.mkdir()
    (stage.model_dir / "config.json").write_text("{}")
    stage.commit(new_metadata(stage.ref))
    added.folder(stage.ref).rename(store.folder(stage.ref))
    assert "new/model" in listed()
    delete(store, str(refs[0]))
    assert str(refs[0]) not in listed()
    said = json.loads((store.folder(refs[1]) / METADATA).read_bytes())
    (store.folder(refs[1]) / METADATA).write_text(json.dumps(said | {"lastUsedBy": "eva"}))
    assert getattr(listed()[str(refs[1])], "last_used_by") == "eva"  # noqa: B009
    (store.folder(refs[2]) / MODEL / "modeling.py").write_text("")
    assert getattr(listed()[str(refs[2])], "unsafe") == ("modeling.py",)  # noqa: B009
    one, other = store.folder(refs[3]), store.folder(refs[4])
    one.rename(place / "aside")
    other.rename(one)
    (place / "aside").rename(other)
    problems = [getattr(listed()[str(ref)], "problem") for ref in refs[3:5]]  # noqa: B009
    assert problems == [f"Its metadata is that of {ref}." for ref in (refs[4], refs[3])]
    require(
        "A list after a change, against the first",
        lambda: [Row("list", median(took[1:]), took[0], 0.5, "ms")],
    )


def test_a_hugging_face_cache_is_read_faster_than_by_its_own_client(place: Path) -> None:
    from huggingface_hub import scan_cache_dir

    root = place / "hub"
    fill_hub_cache(root, REPOS)
    store = ModelStore(place / "none")
    assert len(scan_cache_dir(root).repos) == len(scan(root)) == REPOS
    assert all(not repo.findings for repo in scan(root))

    def attempt() -> list[Row]:
        theirs, ours, planned = in_turn(
            3,
            lambda: milliseconds(lambda: scan_cache_dir(root)),
            lambda: milliseconds(lambda: scan(root)),
            lambda: milliseconds(lambda: plan_adopt(store, scan(root))),
            warm_up=0,
        )
        return [
            Row("scan, against scan_cache_dir", median(ours), median(theirs), 0.25, "ms"),
            Row("with what adopting costs", median(planned), median(theirs), 0.25, "ms"),
        ]

    require(f"Reading a Hugging Face cache of {REPOS:,} repositories", attempt)


def large_snapshot(root: Path, size_bytes: int) -> Path:
    """Weights that are holes: their size counts, not their content."""
    tensors = size_bytes // SHARDS
    content = {"config.json": b'{"model_type": "llama"}', "tokenizer.json": bytes(2_000_000)}
    header = {"w": {"dtype": "U8", "shape": [tensors], "data_offsets": [0, tensors]}}
    text = json.dumps(header).encode()
    names = [f"model-{n + 1:05}-of-{SHARDS:05}.safetensors" for n in range(SHARDS)]
    weights = {name: len(text).to_bytes(8, "little") + text + name.encode() for name in names}
    folder = fill_hub_repo(root, "acme/large", content | weights)
    for name in names:
        data = (folder / name).resolve()
        os.truncate(data, 8 + len(text) + tensors)
    return folder


def test_adopting_takes_no_time_whatever_the_size(place: Path) -> None:
    small, large = (
        large_snapshot(place / f"adopt-{size}", size) for size in (4_000_000, LARGE_BYTES)
    )
    store = ModelStore(place / "adopted")
    number = 0

    def adopted_ms(folder: Path) -> float:
        repo = snapshot(folder)
        took_ms = milliseconds(lambda: adopt(repo, store, Work(), replace=False, allow_copy=False))
        delete(store, "acme/large")
        return took_ms

    def linked_ms() -> float:
        nonlocal number
        number += 1
        return milliseconds(
            lambda: subprocess.run(
                ["cp", "-alL", str(large), str(place / f"linked-{number}")], check=True
            )
        )

    def attempt() -> list[Row]:
        few, many, beside = in_turn(
            7, lambda: adopted_ms(small), lambda: adopted_ms(large), linked_ms
        )
        return [
            Row("3 GB by hard link, best (50 ms)", min(many), ADOPT_MS, 1.0, "ms"),
            Row("3 GB against 4 MB", median(many), median(few), 1.5, "ms"),
            Row("3 GB with checks, against cp -al", median(many), median(beside), 30.0, "ms"),
        ]

    require("Adopting a snapshot by hard link", attempt)


def test_verifying_hashes_as_fast_as_a_worker_can(place: Path) -> None:
    store = ModelStore(place / "verified")
    ref = ModelRef("acme/one")
    stage = store.stage(ref)
    stage.model_dir.mkdir()
    weights = stage.model_dir / "weights.gguf"
    with weights.open("wb") as file:
        block = os.urandom(1_000_000)
        for _ in range(VERIFY_BYTES // len(block)):
            file.write(block)
    stage.commit(new_metadata(ref))
    store.abandon(stage)
    add_checksums(ref, store, Work())
    weights = store.get(ref).model_dir / "weights.gguf"

    def verified() -> None:
        assert verify(ref, store, Work()).ok

    def hashed() -> None:
        buffer = memoryview(bytearray(1 << 20))
        digest = hashlib.sha256()
        with weights.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])

    def attempt() -> list[Row]:
        ours, beside = in_turn(5, lambda: milliseconds(verified), lambda: milliseconds(hashed))
        return [Row("one file, against hashlib", median(ours), median(beside), 1 / 0.9, "ms")]

    require(f"Verifying {VERIFY_BYTES / 1e6:.0f} MB", attempt)

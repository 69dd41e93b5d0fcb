"""The list is what the disk has now, whoever changed it."""

import json
import os
import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from meshtui.cache.checksums import write_checksums
from meshtui.cache.details import details
from meshtui.cache.index import CacheIndex
from meshtui.cache.store import CHECKSUMS, METADATA, ModelStore
from meshtui.cache.usage import usage
from meshtui.domain.errors import NotFound
from meshtui.domain.model_cache import CacheEntry, Verification, WeightsFormat
from meshtui.domain.model_ref import ModelRef
from tests.support.models import files, put, write


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def index(store: ModelStore, tmp_path: Path) -> CacheIndex:
    return CacheIndex(store, tmp_path / "state" / "index")


def listed(index: CacheIndex) -> list[str]:
    return [entry.model for entry in index.list()]


def test_entries_come_with_what_metadata_and_names_tell(
    store: ModelStore, index: CacheIndex
) -> None:
    put(store, "org/b", pipeline_name="text-generation", tags=("license:mit", "x"),
        download_date=1_700_000_000_000, downloaded_by="ana", commit_hash="c" * 40)  # fmt: skip
    put(store, "org/a@v1", checksums={})
    first, second = index.list()
    assert (first.model, second.model) == ("org/a@v1", "org/b")
    assert second.task == "text-generation" and second.licence == "mit"
    assert second.downloaded_at == 1_700_000_000 and second.downloaded_by == "ana"
    assert second.size_bytes == sum(map(len, files().values()))
    assert second.weights.format is WeightsFormat.SAFETENSORS
    assert first.has_checksums and not second.has_checksums


def test_an_empty_or_missing_cache_has_no_entries(store: ModelStore, index: CacheIndex) -> None:
    assert index.list() == []
    store.root.mkdir()
    assert index.list() == []


def test_looking_into_files_is_done_bit_by_bit_and_kept(
    store: ModelStore, index: CacheIndex, tmp_path: Path
) -> None:
    put(store, "org/a")
    put(store, "org/b")
    assert index.list()[0].weights.dtype is None
    while index.refine(0):
        pass
    assert [entry.weights.dtype for entry in index.list()] == ["BF16", "BF16"]
    index.save()
    again = CacheIndex(store, tmp_path / "state" / "index")
    assert [entry.weights.dtype for entry in again.list()] == ["BF16", "BF16"]
    assert not again.refine()


def test_changes_from_outside_are_seen_at_once(store: ModelStore, index: CacheIndex) -> None:
    entry = put(store, "org/a")
    put(store, "org/b")
    assert listed(index) == ["org/a", "org/b"]

    # A file is rewritten in place, another is put in its place.
    path = entry.folder / METADATA
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"lastUsedBy": "bob"}))
    assert index.list()[0].last_used_by == "bob"
    replacement = path.with_name("new")
    replacement.write_text(json.dumps(said | {"lastUsedBy": "eva"}))
    replacement.replace(path)
    assert index.list()[0].last_used_by == "eva"

    (entry.model_dir / "modeling.py").write_text("")
    assert index.list()[0].unsafe == ("modeling.py",)
    (entry.model_dir / "modeling.py").unlink()
    assert index.list()[0].unsafe == ()

    shutil.rmtree(store.folder(ModelRef("org/b")))
    put(store, "org/c")
    assert listed(index) == ["org/a", "org/c"]
    store.folder(ModelRef("org/c")).rename(store.root / "org_2fd")
    assert index.list()[1].problem == "Its metadata is that of org/c."


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("org_2fx", {}, "model_metadata.json is missing"),
        ("org_2fx", {METADATA: b"{"}, "The metadata is not"),
        ("org_2fx", {METADATA: b'{"version": 7}'}, "version is 7"),
        ("not a name", {METADATA: b"{}"}, "no model's name"),
    ],
)
def test_a_broken_entry_says_why_and_hides_no_other(
    store: ModelStore, index: CacheIndex, name: str, content: dict[str, bytes], says: str
) -> None:
    put(store, "org/good")
    write(store.root / name, content)
    (store.root / name).mkdir(exist_ok=True)
    broken = [entry for entry in index.list() if entry.problem]
    assert len(broken) == 1 and says in str(broken[0].problem)
    assert "org/good" in listed(index)


def test_names_that_are_no_text_hide_no_entry(store: ModelStore, index: CacheIndex) -> None:
    put(store, "org/good")
    for name in (b"bad\xff", b"esc\x1b[31m", "é".encode()):
        (store.root / os.fsdecode(name)).mkdir()
    listed_now = index.list()
    assert len({entry.model for entry in listed_now}) == 4
    assert msgspec.json.decode(msgspec.json.encode(listed_now), type=list[CacheEntry]) == listed_now
    index.save()
    again = CacheIndex(store, index_file := store.root.parent / "state" / "index")
    assert index_file.exists() and again.list() == listed_now


def test_an_entry_without_files_is_broken(store: ModelStore, index: CacheIndex) -> None:
    entry = put(store, "org/a")
    shutil.rmtree(entry.model_dir)
    assert "model is missing" in str(index.list()[0].problem)
    entry.model_dir.mkdir()
    assert "empty" in str(index.list()[0].problem)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"rubbish", b"\xdf\xff\xff\xff\xff"])
def test_an_index_file_that_is_none_is_passed_over(
    store: ModelStore, tmp_path: Path, content: bytes
) -> None:
    put(store, "org/a")
    (tmp_path / "index").write_bytes(content)
    assert listed(CacheIndex(store, tmp_path / "index")) == ["org/a"]


def test_an_index_of_another_cache_is_passed_over(store: ModelStore, tmp_path: Path) -> None:
    put(store, "org/a")
    other = CacheIndex(ModelStore(tmp_path / "other"), tmp_path / "index")
    other.list()
    other.save()
    assert listed(CacheIndex(store, tmp_path / "index")) == ["org/a"]


def test_a_check_is_remembered_until_the_entry_changes(
    store: ModelStore, index: CacheIndex
) -> None:
    entry = put(store, "org/a")
    index.list()
    found = Verification(at=1.0, against="checksums")
    index.note_verification(entry.ref, found)
    store.record_use(entry.ref)
    index.refine()
    assert index.list()[0].verification in (found, None)
    index.note_verification(entry.ref, found)
    assert index.list()[0].verification == found
    sums = entry.folder / CHECKSUMS
    sums.write_bytes(write_checksums({"config.json": "0" * 64}))
    assert index.list()[0].has_checksums and index.list()[0].verification is None
    index.note_verification(entry.ref, found)
    # In place, and as long as before.
    sums.write_bytes(write_checksums({"config.json": "1" * 64}))
    assert index.list()[0].verification is None
    index.note_verification(entry.ref, found)
    (entry.model_dir / "config.json").unlink()
    assert index.list()[0].verification is None
    sums.unlink()
    assert not index.list()[0].has_checksums


def test_one_entry_can_be_asked_for(store: ModelStore, index: CacheIndex) -> None:
    put(store, "org/a")
    assert index.get(ModelRef("org/a")).weights.dtype == "BF16"
    with pytest.raises(NotFound):
        index.get(ModelRef("org/b"))


def test_many_threads_may_list_while_entries_come_and_go(
    store: ModelStore, index: CacheIndex
) -> None:
    problems: list[object] = []

    def look() -> None:
        for _ in range(60):
            problems.extend(
                entry for entry in index.list() if entry.problem and "missing" not in entry.problem
            )
            index.refine(0)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(30):
        put(store, f"org/m{number}")
        if number % 3 == 0:
            store.delete(ModelRef(f"org/m{number}"))
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(index.list()) == 20


def test_details_hold_files_card_and_what_to_know(store: ModelStore) -> None:
    content = files(
        README__md=b"---\nlicense: mit\n---\nHello \x1b[31mred", pytorch_model__bin=b"x"
    )
    entry = put(store, "org/a", content, checksums={"config.json": "0" * 64})
    found = details(store, entry.ref)
    assert [file.path for file in found.files] == sorted(content)
    assert found.files[1].sha256 == "0" * 64
    assert found.card == "Hello red" and found.entry.licence == "mit"
    assert found.architectures == ("LlamaForCausalLM",) and found.context_length == 2048
    assert found.frees_bytes > 0 and found.findings == ()


def test_details_warn_of_pickles_and_code(store: ModelStore) -> None:
    content = {"config.json": b'{"auto_map": {"AutoModel": "m.M"}}', "pytorch_model.bin": b"junk",
               "m.py": b""}  # fmt: skip
    found = details(store, put(store, "org/a", content).ref)
    assert {finding.rule for finding in found.findings} == {"custom-code", "pickle"}


def test_deleting_what_is_linked_elsewhere_frees_nothing(store: ModelStore, tmp_path: Path) -> None:
    entry = put(store, "org/a", {"model.safetensors": bytes(1_000_000)})
    before = details(store, entry.ref).frees_bytes
    os.link(entry.model_dir / "model.safetensors", tmp_path / "kept")
    assert before - details(store, entry.ref).frees_bytes >= 1_000_000


def test_usage_counts_half_downloads_and_names_what_forbids_writing(store: ModelStore) -> None:
    put(store, "org/a")
    stage = store.stage(ModelRef("org/b"), resume=True)
    write(stage.folder, {"parts/x.part": bytes(1000)})
    found = usage(store)
    assert found.partials == 1 and found.partial_bytes >= 1000
    assert found.disk_total_bytes > found.disk_free_bytes > 0 and found.problem is None

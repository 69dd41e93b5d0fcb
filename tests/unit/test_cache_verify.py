"""Verify finds every byte that changed, without the network, and with the Hub's hashes."""

import hashlib
import pickle
import threading
from pathlib import Path

import pytest

from meshtui.cache.checksums import read_checksums
from meshtui.cache.store import CHECKSUMS, Entry, ModelStore
from meshtui.cache.verify import add_checksums, verify
from meshtui.cache.work import Cancelled, Work
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.finding import Level
from meshtui.domain.model_cache import Verification
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.model_files import HubFile
from tests.hub_server import git_sha1
from tests.support.models import files, put

SUMS = {path: hashlib.sha256(data).hexdigest() for path, data in files().items()}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def entry(store: ModelStore) -> Entry:
    return put(store, "org/a", checksums=SUMS)


def rules(found: Verification) -> dict[str, Level]:
    return {finding.rule: finding.level for finding in found.findings}


def test_an_untouched_entry_is_well(store: ModelStore, entry: Entry) -> None:
    work = Work()
    found = verify(entry.ref, store, work)
    assert found.ok and found.against == "checksums" and rules(found) == {"verified": Level.OK}


def test_every_kind_of_change_is_found(store: ModelStore, entry: Entry) -> None:
    data = bytearray((entry.model_dir / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (entry.model_dir / "model.safetensors").write_bytes(data)
    (entry.model_dir / "tokenizer.json").unlink()
    (entry.model_dir / "new.json").write_text("{}")
    found = verify(entry.ref, store, Work())
    assert not found.ok
    assert rules(found) == {
        "changed": Level.BLOCKER, "missing": Level.BLOCKER, "extra": Level.WARNING,
    }  # fmt: skip
    assert "model.safetensors has changed" in str(found.findings)


def test_a_header_that_cannot_be_true_is_found_without_checksums(store: ModelStore) -> None:
    entry = put(store, "org/a", files(model__safetensors=b"\x08\0\0\0\0\0\0\0notjson!"))
    found = verify(entry.ref, store, Work())
    assert rules(found) == {"header": Level.BLOCKER, "no-checksums": Level.WARNING}


def test_shards_that_the_index_names_must_be_there(store: ModelStore) -> None:
    index = b'{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'
    entry = put(store, "org/a", files(**{"model__safetensors__index__json": index}))
    assert rules(verify(entry.ref, store, Work()))["shard"] is Level.BLOCKER


def test_pickles_that_would_run_code_are_named(store: ModelStore) -> None:
    content = {"config.json": b"{}", "pytorch_model.bin": pickle.dumps(print)}
    found = verify(put(store, "org/a", content).ref, store, Work())
    assert rules(found)["pickle"] is Level.WARNING and "builtins.print" in str(found.findings)


def test_the_hubs_hashes_find_what_our_own_cannot(store: ModelStore, entry: Entry) -> None:
    hub = {
        path: HubFile(path=path, size_bytes=len(data), sha256=SUMS[path])
        if path.endswith("safetensors")
        else HubFile(path=path, size_bytes=len(data), git_sha1=git_sha1(data))
        for path, data in files(more__bin=b"never fetched").items()
    }
    found = verify(entry.ref, store, Work(), hub=hub)
    assert found.ok and found.against == "hub" and rules(found) == {"verified": Level.OK}
    (entry.model_dir / "config.json").write_text("{ }")
    add_checksums(entry.ref, store, Work())
    assert verify(entry.ref, store, Work()).ok
    assert rules(verify(entry.ref, store, Work(), hub=hub)) == {"changed": Level.BLOCKER}


def test_checksums_can_be_made_afterwards(store: ModelStore) -> None:
    entry = put(store, "org/a")
    assert add_checksums(entry.ref, store, Work()) == 3
    assert read_checksums(entry.folder / CHECKSUMS) == SUMS
    assert verify(entry.ref, store, Work()).ok


def test_broken_checksums_are_an_error_that_says_so(store: ModelStore, entry: Entry) -> None:
    (entry.folder / CHECKSUMS).write_text('{"algorithm": "md5", "files": 3}')
    with pytest.raises(InvalidInput, match="checksums"):
        verify(entry.ref, store, Work())


def test_a_model_that_is_not_there_cannot_be_verified(store: ModelStore) -> None:
    with pytest.raises(NotFound):
        verify(ModelRef("org/none"), store, Work())


def test_it_ends_when_it_is_cancelled(store: ModelStore) -> None:
    entry = put(store, "org/a", {"model.safetensors": bytes(300_000_000)})
    work = Work()
    ended: list[BaseException] = []

    def run() -> None:
        try:
            verify(entry.ref, store, work)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while work.done_bytes == 0:
        thread.join(0.001)
    work.cancel()
    thread.join(5)
    assert not thread.is_alive() and isinstance(ended[0], Cancelled)
    assert work.done_bytes < 300_000_000

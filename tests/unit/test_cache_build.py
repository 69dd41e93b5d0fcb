"""Entries from folders and clones: what the files tell, what is asked, what is refused."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from meshtui.cache.build import build_entry, plan_build
from meshtui.cache.checksums import read_checksums
from meshtui.cache.store import CHECKSUMS, ModelStore
from meshtui.cache.work import Cancelled, Work
from meshtui.domain.errors import Conflict, InvalidInput, NotFound
from meshtui.domain.model_cache import BuildWishes
from meshtui.domain.model_ref import ModelRef
from tests.support.models import files, write

CARD = b"---\nlicense: mit\nlanguage: en\npipeline_tag: text-generation\n---\nHi"
NAMED = BuildWishes(model="org/a")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source", files(README__md=CARD, sub__json=b"[]"))


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_folder_becomes_an_entry_with_checksums(store: ModelStore, source: Path) -> None:
    plan = plan_build(source, store, BuildWishes(), Work())
    assert plan.model is None and plan.task == "text-generation" and plan.languages == ("en",)
    assert plan.library == "transformers" and "license:mit" in plan.tags
    with pytest.raises(InvalidInput, match="cannot be read from the files"):
        build_entry(source, store, BuildWishes(), Work())
    ref = build_entry(source, store, NAMED, Work())
    entry = store.get(ref)
    assert entry.metadata.pipeline_name == "text-generation"
    sums = read_checksums(entry.folder / CHECKSUMS) or {}
    for path in source.iterdir():
        data = path.read_bytes()
        assert (entry.model_dir / path.name).read_bytes() == data
        assert sums[path.name] == hashlib.sha256(data).hexdigest()
    # A copy: a change of the source does not change the entry.
    (source / "config.json").write_text("changed")
    assert (entry.model_dir / "config.json").read_text() != "changed"


def test_a_clone_tells_its_name_and_commit(store: ModelStore, source: Path) -> None:
    git(source, "init", "-q", "-b", "main")
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "x")
    git(source, "remote", "add", "origin", "https://hub.example/acme/tiny")
    head = git(source, "rev-parse", "HEAD")
    plan = plan_build(source, store, BuildWishes(), Work())
    assert (plan.model, plan.commit) == ("acme/tiny", head)
    git(source, "pack-refs", "--all")
    assert plan_build(source, store, BuildWishes(), Work()).commit == head
    git(source, "checkout", "-q", "--detach")
    assert plan_build(source, store, BuildWishes(), Work()).commit == head
    ref = build_entry(source, store, BuildWishes(), Work())
    assert not (store.get(ref).model_dir / ".git").exists()
    assert plan_build(source, store, BuildWishes(model="b/c"), Work()).model == "b/c"


def test_files_that_git_did_not_fetch_are_refused(store: ModelStore, source: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    write(source, {"model.safetensors": pointer})
    with pytest.raises(InvalidInput, match="only a pointer") as caught:
        build_entry(source, store, NAMED, Work())
    assert "git lfs pull" in str(caught.value.hint)


def test_links_are_followed_inside_and_refused_outside(
    store: ModelStore, source: Path, tmp_path: Path
) -> None:
    (source / "again.json").symlink_to("config.json")
    assert build_entry(source, store, NAMED, Work())
    assert not (store.get(ModelRef("org/a")).model_dir / "again.json").is_symlink()
    (tmp_path / "secret").write_text("x")
    (source / "leak.json").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidInput, match="out of the folder"):
        build_entry(source, store, BuildWishes(model="org/b"), Work())


def test_a_pipe_is_no_file_of_a_model(store: ModelStore, source: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(InvalidInput, match="no regular file"):
        build_entry(source, store, NAMED, Work())


def test_what_is_there_is_replaced_only_on_demand(store: ModelStore, source: Path) -> None:
    build_entry(source, store, NAMED, Work())
    assert plan_build(source, store, NAMED, Work()).replaces
    with pytest.raises(Conflict):
        build_entry(source, store, NAMED, Work())
    (source / "config.json").write_text("{}")
    build_entry(source, store, NAMED, Work(), replace=True)
    assert (store.get(ModelRef("org/a")).model_dir / "config.json").read_text() == "{}"


def test_nothing_is_left_of_a_build_that_was_cancelled(store: ModelStore, source: Path) -> None:
    work = Work()
    work.cancel()
    with pytest.raises(Cancelled):
        build_entry(source, store, NAMED, work)
    assert store.find(ModelRef("org/a")) is None


@pytest.mark.parametrize("name", ["no/such", "config.json"])
def test_only_folders_can_be_built_from(store: ModelStore, source: Path, name: str) -> None:
    with pytest.raises(NotFound):
        plan_build(source / name, store, NAMED, Work())


def test_an_empty_folder_is_refused(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="holds no files"):
        build_entry(tmp_path / "empty", store, NAMED, Work())


def test_a_name_that_is_none_is_refused(store: ModelStore, source: Path) -> None:
    with pytest.raises(InvalidInput):
        plan_build(source, store, BuildWishes(model="../x"), Work())

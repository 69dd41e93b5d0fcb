"""A real repository comes into the cache the ways that one without the Hub has: as a clone, as an
archive that another tool made of one, and out of the Hub's own cache."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from meshtui.cache.store import METADATA, ModelStore
from meshtui.cache.verify import verify
from meshtui.cache.work import Work
from meshtui.domain.model_ref import ModelRef
from meshtui.model_provider import get_model_from_cache
from meshtui.settings import paths
from tests.conftest import TEST_CACHE
from tests.controller_support import controller_process
from tests.support.archives import tree
from tests.support.minilm import MINILM, minilm
from tests.support.synthetic_shelf import fill_hub_repo

MESHTUI = str(Path(sys.executable).parent / "meshtui")
REF = ModelRef.parse(MINILM)
# As Dataiku's own example of an archive names it.
FOLDER = "sentence-transformers_2fall-MiniLM-L6-v2"


@pytest.fixture(scope="session")
def repository() -> Path:
    return minilm(TEST_CACHE)


def cache(*words: str) -> str:
    done = subprocess.run(
        [MESHTUI, "cache", *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cloned(repository: Path, target: Path) -> str:
    """A clone of it with a history of one commit; which one."""
    shutil.copytree(repository, target)
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    for words in (
        ("init", "-q"),
        ("remote", "add", "origin", f"https://hub.example/{MINILM}"),
        ("add", "-A"),
        (*identity, "commit", "-q", "-m", "Everything"),
    ):
        subprocess.run(["git", *words], cwd=target, check=True)
    told = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=target, text=True)
    return told.strip()


async def test_a_real_clone_becomes_an_entry_and_an_archive_of_it_comes_in(
    repository: Path, tmp_path: Path
) -> None:
    commit = cloned(repository, tmp_path / "clone")
    with controller_process({}):
        await asyncio.to_thread(cache, "build", str(tmp_path / "clone"))
        store = ModelStore(paths.models_dir())
        entry = store.get(REF)
        assert entry.folder.name == FOLDER
        assert tree(entry.model_dir) == tree(repository)
        shown = json.loads(await asyncio.to_thread(cache, "show", MINILM, "--json"))
        told = shown["entry"]
        assert (told["commit"], told["library"]) == (commit, "sentence-transformers")
        assert (told["task"], told["licence"]) == ("sentence-similarity", "apache-2.0")
        assert told["weights"]["dtype"] == "F32" and told["languages"] == ["en"]
        assert "sentence-similarity" in told["tags"] and not told["unsafe"]
        assert "semantic search" in shown["card"]
        assert get_model_from_cache(MINILM) == str(entry.model_dir)

        # What somebody else would pack of a clone: git's own files and all.
        packed = tmp_path / "any-name"
        packed.mkdir()
        (tmp_path / "clone").rename(packed / "model")
        shutil.copy(entry.folder / METADATA, packed)
        subprocess.run(["zip", "-q", "-0", "-r", "a.zip", packed.name], cwd=tmp_path, check=True)
        await asyncio.to_thread(cache, "delete", MINILM, "--yes")
        assert store.find(REF) is None
        await asyncio.to_thread(cache, "import", str(tmp_path / "a.zip"))
        again = store.get(REF)
        assert tree(again.model_dir) == tree(repository)
        assert again.metadata.commit_hash == commit
        assert verify(REF, store, Work()).ok


async def test_a_real_snapshot_of_the_hubs_cache_is_adopted_without_a_copy(
    repository: Path, tmp_path: Path
) -> None:
    fill_hub_repo(tmp_path / "hub", MINILM, tree(repository), commit="c" * 40)
    with controller_process({}):
        await asyncio.to_thread(cache, "adopt", MINILM, "--from", str(tmp_path / "hub"))
        entry = ModelStore(paths.models_dir()).get(REF)
        assert tree(entry.model_dir) == tree(repository)
        assert (entry.model_dir / "model.safetensors").stat().st_nlink == 2
        assert entry.metadata.commit_hash == "c" * 40

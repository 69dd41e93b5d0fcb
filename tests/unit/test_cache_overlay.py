"""A cache that came with a container's image: its folders cannot be moved, only removed."""

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshtui.cache.index import CacheIndex
from meshtui.cache.removal import delete
from meshtui.cache.replacing import GOING
from meshtui.cache.store import METADATA, ModelStore
from meshtui.domain.model_ref import ModelRef
from tests.support.models import files, put
from tests.support.mounts import needs_mounts, overlay

pytestmark = needs_mounts

REF = ModelRef("org/name")
KILLED_IN_REMOVAL = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from meshtui.cache import replacing
    from meshtui.cache.store import ModelStore
    from meshtui.domain.model_ref import ModelRef

    def killed(path):
        (path / "model" / "config.json").unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    replacing.remove = killed
    ModelStore(Path(sys.argv[1])).delete(ModelRef("org/name"))
""")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ModelStore]:
    image = ModelStore(tmp_path / "image" / "models")
    put(image, "org/name")
    put(image, "org/other")
    with overlay(tmp_path / "image", tmp_path / "work") as place:
        yield ModelStore(place / "models")


def names(store: ModelStore) -> set[str]:
    return {path.name for path in store.root.iterdir()} - {".locks", ".staging"}


def test_an_entry_of_the_image_goes_and_another_takes_its_place(store: ModelStore) -> None:
    delete(store, "org/name")
    assert names(store) == {"org_2fother"}
    changed = files(new__json=b"[]")
    put(store, "org/name", changed)
    put(store, "org/other", changed)
    assert all((entry.model_dir / "new.json").exists() for entry in store.list())
    assert names(store) == {"org_2fname", "org_2fother"}


def test_what_a_kill_leaves_of_an_entry_goes_with_the_next_start(store: ModelStore) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_IN_REMOVAL, str(store.root)], timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert store.find(REF) is None and store.folder(REF).exists()
    store.sweep()
    assert names(store) == {"org_2fother"}
    assert [entry.model for entry in CacheIndex(store).list()] == ["org/other"]


def test_what_has_come_since_a_kill_stays(store: ModelStore) -> None:
    subprocess.run(
        [sys.executable, "-c", KILLED_IN_REMOVAL, str(store.root)], timeout=60, check=False
    )
    put(store, "org/name")
    store.sweep()
    assert store.get(REF) and names(store) == {"org_2fname", "org_2fother"}


def test_an_entry_of_which_nothing_was_removed_yet_stays(store: ModelStore) -> None:
    (store.root / GOING).mkdir()
    (store.root / GOING / "org_2fother").touch()
    store.sweep()
    assert (store.folder(ModelRef("org/other")) / METADATA).exists()
    assert names(store) == {"org_2fname", "org_2fother"}

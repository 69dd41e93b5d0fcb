"""Killed at any moment, or on a full disk: the old state or the new one, never a third."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from meshtui.cache.archive.exporting import export_model
from meshtui.cache.archive.importing import import_model
from meshtui.cache.checksums import read_checksums
from meshtui.cache.store import CHECKSUMS, ModelStore
from meshtui.cache.work import Work
from meshtui.domain.errors import NoRoom
from meshtui.domain.model_cache import Container, ExportWishes
from meshtui.domain.model_ref import ModelRef
from tests.support.archives import entry, tar_file, tree, zip_file
from tests.support.models import files, put, safetensors

REF = ModelRef("acme/x")
KILLS = 20
WEIGHTS = {n: safetensors({"w": ("U8", (n * 100_000,), os.urandom(n * 100_000))}) for n in (5, 6)}

IMPORTER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from meshtui.cache.archive.importing import import_model
    from meshtui.cache.store import ModelStore
    from meshtui.cache.work import Work
    store = ModelStore(Path(sys.argv[1]))
    print("ready", flush=True)
    while True:
        for archive in sys.argv[2:]:
            import_model(Path(archive), store, Work(), replace=True)
""")

EXPORTER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from meshtui.cache.archive.exporting import export_model
    from meshtui.cache.store import ModelStore
    from meshtui.cache.work import Work
    from meshtui.domain.model_cache import ExportWishes
    from meshtui.domain.model_ref import ModelRef
    root, folder, container, volume = sys.argv[1:]
    wishes = ExportWishes(
        folder=folder, container=container, volume_bytes=int(volume) or None, replace=True
    )
    print("ready", flush=True)
    while True:
        export_model(ModelRef("acme/x"), ModelStore(Path(root)), wishes, Work())
""")


def killed_after(chance: random.Random, program: str, *words: object) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        # Not to wait for anything: the moment of the kill is what varies.
        time.sleep(chance.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_killed_imports_leave_the_old_or_the_new_entry(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    versions = [files(model__safetensors=WEIGHTS[5]), files(model__safetensors=WEIGHTS[6])]
    archives = [
        zip_file(tmp_path / "a.zip", entry(model__safetensors=WEIGHTS[5])),
        tar_file(tmp_path / "b.tgz", entry(model__safetensors=WEIGHTS[6]), "w:gz"),
    ]
    chance = random.Random(11)
    seen = 0
    for _ in range(KILLS):
        killed_after(chance, IMPORTER, store.root, *archives)
        if found := store.find(REF):
            seen += 1
            content = tree(found.model_dir)
            assert content in versions
            sums = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
            assert read_checksums(found.folder / CHECKSUMS) == sums
        store.sweep()
        assert list(store.staging.folder.iterdir()) == []
        assert len(store.list()) == len([p for p in store.root.iterdir() if p.name[0] != "."])
    assert seen > KILLS // 4


@pytest.mark.parametrize(
    ("container", "volume_bytes"), [("zip", 0), ("tar", 100_000), ("tar.zst", 0), ("folder", 0)]
)
def test_killed_exports_leave_nothing_half_and_go_on(
    tmp_path: Path, container: Container, volume_bytes: int
) -> None:
    store = ModelStore(tmp_path / "models")
    put(store, "acme/x", files(model__safetensors=WEIGHTS[5]))
    wishes = ExportWishes(
        folder=str(tmp_path / "right"), container=container, volume_bytes=volume_bytes or None
    )
    export_model(REF, store, wishes, Work())
    right = tree(tmp_path / "right")
    out = tmp_path / "out"
    out.mkdir()
    chance = random.Random(12)
    for _ in range(KILLS // 2):
        killed_after(chance, EXPORTER, store.root, out, container, volume_bytes)
        named = {n: d for n, d in tree(out).items() if not n.startswith(".") and "/." not in n}
        # What is there is right, and the part by which it is imported comes last.
        assert named.items() <= right.items()
        first = next((n for n in named if n.endswith((".zip", ".001", ".zst"))), None)
        assert first is None or {n for n in right if "sha256" not in n} <= named.keys()
    wishes = ExportWishes(
        folder=str(out), container=container, volume_bytes=volume_bytes or None, replace=True
    )
    export_model(REF, store, wishes, Work())
    assert tree(out) == right


LIMITED = textwrap.dedent("""
    import resource, sys
    from pathlib import Path
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    from meshtui.cache.archive.exporting import export_model
    from meshtui.cache.archive.importing import import_model
    from meshtui.cache.store import ModelStore
    from meshtui.cache.work import Work
    from meshtui.domain.errors import NoRoom
    from meshtui.domain.model_cache import ExportWishes
    from meshtui.domain.model_ref import ModelRef
    store = ModelStore(Path(sys.argv[1]))
    try:
        if sys.argv[2] == "import":
            import_model(Path(sys.argv[3]), store, Work(), replace=True)
        else:
            wishes = ExportWishes(folder=sys.argv[3], container=sys.argv[2])
            export_model(ModelRef("acme/x"), store, wishes, Work())
    except NoRoom as error:
        print(error)
        sys.exit(9)
""")


def limited(*words: object) -> str:
    """In a process that may not write files of more than 300,000 bytes: the same as a full disk
    to a program, and to be had everywhere."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 9, done.stderr
    return done.stdout


def test_no_room_in_the_middle_leaves_the_old_entry(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    put(store, "acme/x", files())
    members = entry(model__safetensors=WEIGHTS[5])
    archives = [
        zip_file(tmp_path / "a.zip", members),
        tar_file(tmp_path / "a.tgz", members, "w:gz"),
    ]
    for archive in archives:
        assert "acme/x cannot be stored" in limited(store.root, "import", archive)
        assert tree(store.get(REF).model_dir) == files()
        assert list(store.staging.folder.iterdir()) == []
    import_model(archives[0], store, Work(), replace=True)


@pytest.mark.parametrize("container", ["zip", "tar", "tar.zst", "folder"])
def test_no_room_in_the_middle_leaves_no_archive(tmp_path: Path, container: str) -> None:
    store = ModelStore(tmp_path / "models")
    put(store, "acme/x", files(model__safetensors=WEIGHTS[5]))
    (tmp_path / "out").mkdir()
    said = limited(store.root, container, tmp_path / "out")
    assert "acme/x cannot be exported" in said and "another disk" in said
    assert list((tmp_path / "out").iterdir()) == []


def test_too_little_room_is_said_before(tmp_path: Path) -> None:
    """A file with a hole, so that it seems larger than any disk."""
    store = ModelStore(tmp_path / "models")
    found = put(store, "acme/x", files())
    free = os.statvfs(tmp_path)
    os.truncate(found.model_dir / "tokenizer.json", free.f_bavail * free.f_frsize + 10**9)
    for container in ("zip", "folder"):
        wishes = ExportWishes(folder=str(tmp_path / "out"), container=container)  # type: ignore[arg-type]
        with pytest.raises(NoRoom, match="there are"):
            export_model(REF, store, wishes, Work())
    assert not (tmp_path / "out").exists()

"""Archives of models, beside `zip`, `unzip` and the hash that a core can make."""

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from meshtui.cache.archive.exporting import export_model
from meshtui.cache.archive.importing import import_model
from meshtui.cache.store import Entry, ModelStore
from meshtui.cache.work import Work
from meshtui.domain.model_cache import ExportWishes
from tests.bench.measure import Row, in_turn, median, require
from tests.support.models import files, put, safetensors

ROUNDS = 5
SHARDS, SHARD_BYTES = 3, 150_000_000
TOTAL_MB = SHARDS * SHARD_BYTES / 1e6
MOST_RSS_MB = 100.0


@pytest.fixture
def shelf(tmp_path: Path) -> tuple[ModelStore, Entry]:
    """A model of three shards that nothing can compress."""
    store = ModelStore(tmp_path / "models")
    entry = put(store, "acme/x", files())
    for number in range(1, SHARDS + 1):
        tensors = {"w": ("U8", (SHARD_BYTES,), os.urandom(SHARD_BYTES))}
        name = f"model-{number:05}-of-{SHARDS:05}.safetensors"
        (entry.model_dir / name).write_bytes(safetensors(tensors))
    return store, entry


def seconds(step: Callable[[], object], before: Callable[[], object]) -> Callable[[], float]:
    """`before` takes away what the last round made, so that each finds the same memory free."""

    def measure() -> float:
        before()
        begun = time.perf_counter()
        step()
        return time.perf_counter() - begun

    return measure


def test_export_and_import(shelf: tuple[ModelStore, Entry], tmp_path: Path) -> None:
    store, entry = shelf
    other = ModelStore(tmp_path / "other")
    out, zipped, unzipped = tmp_path / "out", tmp_path / "z.zip", tmp_path / "unzipped"
    archive = out / f"{entry.folder.name}.zip"

    def hash_all() -> None:
        buffer = memoryview(bytearray(1 << 20))
        for path in entry.model_dir.iterdir():
            digest = hashlib.sha256()
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    digest.update(buffer[:count])

    def zip_all() -> None:
        command = ["zip", "-q", "-0", "-r", zipped, entry.folder.name]
        subprocess.run(command, cwd=store.root, check=True)

    def unzip_all() -> None:
        subprocess.run(["unzip", "-q", archive, "-d", unzipped], check=True)

    measures = (
        seconds(hash_all, lambda: None),
        seconds(zip_all, lambda: zipped.unlink(missing_ok=True)),
        seconds(
            lambda: export_model(entry.ref, store, ExportWishes(folder=str(out)), Work()),
            lambda: shutil.rmtree(out, ignore_errors=True),
        ),
        seconds(unzip_all, lambda: shutil.rmtree(unzipped, ignore_errors=True)),
        seconds(
            lambda: import_model(archive, other, Work(), replace=False),
            lambda: shutil.rmtree(other.root, ignore_errors=True),
        ),
    )

    def attempt() -> Sequence[Row]:
        hashed, zip_s, export_s, unzip_s, import_s = map(median, in_turn(ROUNDS, *measures))
        return (
            Row("export with checksums / zip -0", export_s, zip_s, 1 / 3, "s"),
            Row("export with checksums / SHA-256 alone", export_s, hashed, 1 / 0.6, "s"),
            Row("import with all checks / unzip", import_s, unzip_s, 1 / 4, "s"),
        )

    require(f"Archives of {TOTAL_MB:.0f} MB", attempt)


MEASURED = textwrap.dedent("""
    import sys
    from pathlib import Path
    from meshtui.cache.archive.exporting import export_model
    from meshtui.cache.archive.importing import import_model
    from meshtui.cache.archive.reading import plan_import
    from meshtui.cache.store import ModelStore
    from meshtui.cache.work import Work
    from meshtui.domain.model_cache import ExportWishes
    from meshtui.domain.model_ref import ModelRef
    root, out, container, other = sys.argv[1:]
    wishes = ExportWishes(folder=out, container=container)
    done = export_model(ModelRef("acme/x"), ModelStore(Path(root)), wishes, Work())
    plan_import(Path(done.paths[0]), ModelStore(Path(other)), Work())
    import_model(Path(done.paths[0]), ModelStore(Path(other)), Work(), replace=False)
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
""")


def test_memory_does_not_grow_with_the_archive(
    shelf: tuple[ModelStore, Entry], tmp_path: Path
) -> None:
    store, _ = shelf

    def peak_mb(container: str) -> float:
        out, other = tmp_path / f"out-{container}", tmp_path / f"other-{container}"
        words = (str(store.root), str(out), container, str(other))
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *words], capture_output=True, text=True, check=True
        )
        shutil.rmtree(out)
        shutil.rmtree(other)
        return int(done.stdout) * 1024 / 1e6

    def attempt() -> Sequence[Row]:
        return [
            Row(f"peak memory, {container}", peak_mb(container), MOST_RSS_MB, 1.0, "MB")
            for container in ("zip", "tar", "tar.zst", "folder")
        ]

    require(f"Memory of a process that exports and imports {TOTAL_MB:.0f} MB", attempt)

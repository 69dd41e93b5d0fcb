"""Archives are held against checksums, and what was broken off is gone on with or gone."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from meshtui.cache.archive.exporting import export_model
from meshtui.cache.archive.importing import import_model
from meshtui.cache.archive.reading import plan_import
from meshtui.cache.checksums import read_checksums
from meshtui.cache.store import CHECKSUMS, METADATA, ModelStore
from meshtui.cache.work import Cancelled, Work
from meshtui.domain.errors import Conflict, InvalidInput
from meshtui.domain.model_cache import Container, ExportWishes
from tests.support.archives import ROOT, entry, metadata, tar_file, tree, unpacked, zip_file
from tests.support.exports import LARGE, REF, VOLUME_BYTES, exported, imported, put_with_sums, rules
from tests.support.models import files


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def other(tmp_path: Path) -> ModelStore:
    """The cache of another machine."""
    return ModelStore(tmp_path / "other" / "models")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize("container", ["zip", "tar", "tar.zst", "folder"])
@pytest.mark.parametrize("where", ["beside", "inside"])
def test_wrong_checksums_are_refused(
    store: ModelStore, other: ModelStore, out: Path, container: Container, where: str
) -> None:
    """The file is whole, and is not what it was."""
    entry_here = put_with_sums(store, files())
    wrong = dict(read_checksums(entry_here.folder / CHECKSUMS) or {})
    path = exported(store, out, container=container, checksums=where)[0]
    members = entry("acme_2fx") if container != "folder" else entry("")
    members[next(n for n in members if n.endswith(METADATA))] = metadata()
    name = next(n for n in members if n.endswith("tokenizer.json"))
    members[name] = b"[]"
    if where == "inside":
        prefix = "" if container == "folder" else "acme_2fx/"
        members[f"{prefix}{CHECKSUMS}"] = json.dumps(
            {"algorithm": "sha256", "files": wrong}
        ).encode()
    match container:
        case "zip":
            zip_file(path, members)
        case "tar":
            tar_file(path, members)
        case "folder":
            unpacked(path, members)
        case _:
            tar_file(out / "plain", members)
            path.unlink()
            subprocess.run(["zstd", "-q", out / "plain", "-o", path], check=True)
            (out / "plain").unlink()
    with pytest.raises(InvalidInput, match=r"tokenizer\.json is not what its checksum says"):
        import_model(path, other, Work(), replace=False)
    nothing_is_left(other)


def test_a_file_that_only_the_checksums_know_is_missed(store: ModelStore, tmp_path: Path) -> None:
    path = zip_file(tmp_path / "a.zip", entry())
    sums = {f"{ROOT}/model/{name}": data for name, data in files(gone__txt=b"x").items()}
    lines = [f"{hashlib.sha256(data).hexdigest()} *{name}" for name, data in sums.items()]
    (tmp_path / "a.zip.sha256").write_text("\n".join(lines))
    assert "missing" in rules(plan_import(path, store, Work()))
    with pytest.raises(InvalidInput, match=r"gone\.txt is missing"):
        import_model(path, store, Work(), replace=False)
    (tmp_path / "a.zip.sha256").write_text("\n".join(lines[:-2]))
    assert rules(plan_import(path, store, Work())) == {"extra"}


def test_the_usual_checksum_of_the_archive_itself_counts(store: ModelStore, tmp_path: Path) -> None:
    path = zip_file(tmp_path / "a.zip", entry())
    sums = tmp_path / "a.zip.sha256"
    sums.write_text(f"{'0' * 64}  a.zip\n")
    with pytest.raises(InvalidInput, match=r"a\.zip is not what its checksum says"):
        import_model(path, store, Work(), replace=False)
    sums.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  a.zip\n")
    assert imported(path, store)


def test_checksums_that_cannot_be_read_are_refused(store: ModelStore, tmp_path: Path) -> None:
    path = zip_file(tmp_path / "a.zip", entry())
    (tmp_path / "a.zip.sha256").write_text("nonsense\n")
    assert rules(plan_import(path, store, Work())) == {"checksums"}
    with pytest.raises(InvalidInput, match="is no checksum"):
        import_model(path, store, Work(), replace=False)


def test_a_damaged_entry_is_not_exported(store: ModelStore, out: Path) -> None:
    here = put_with_sums(store, files())
    (here.model_dir / "tokenizer.json").write_bytes(b"[]")
    for container in ("zip", "tar", "folder"):
        with pytest.raises(InvalidInput, match=r"tokenizer\.json is not what it was"):
            exported(store, out, container=container)
        assert list(out.iterdir()) == []


def test_names_that_no_import_takes_are_not_exported(store: ModelStore, out: Path) -> None:
    put_with_sums(store, files() | {"a\x1b[2J": b"x"})
    with pytest.raises(InvalidInput, match="cannot be seen"):
        exported(store, out)


# --- ended before the end


def nothing_is_left(store: ModelStore) -> None:
    assert store.list() == []
    if store.staging.folder.is_dir():
        assert list(store.staging.folder.iterdir()) == []


class _Stops(Work):
    """Ends after so many bytes."""

    def __init__(self, after_bytes: int) -> None:
        super().__init__()
        self._after_bytes = after_bytes

    def advance(self, count_bytes: int = 0) -> None:
        super().advance(count_bytes)
        if self.done_bytes >= self._after_bytes:
            self.cancel()


@pytest.mark.parametrize("container", ["zip", "tar", "tar.zst", "folder"])
def test_nothing_is_left_of_what_was_cancelled(
    store: ModelStore, other: ModelStore, out: Path, container: Container
) -> None:
    put_with_sums(store, files() | LARGE)
    wishes = ExportWishes(folder=str(out), container=container)
    with pytest.raises(Cancelled):
        export_model(REF, store, wishes, _Stops(1))
    assert list(out.iterdir()) == []
    path = exported(store, out, container=container)[0]
    with pytest.raises(Cancelled):
        import_model(path, other, _Stops(1), replace=False)
    nothing_is_left(other)


@pytest.mark.parametrize("volume_bytes", [None, VOLUME_BYTES])
@pytest.mark.parametrize("container", ["zip", "tar", "tar.zst"])
def test_what_an_attempt_left_is_completed_and_checked(
    store: ModelStore, out: Path, container: Container, volume_bytes: int | None
) -> None:
    """Half of it there, a part of that wrong, or more of it than there should be."""
    put_with_sums(store, files() | LARGE)
    wishes = {"container": container, "volume_bytes": volume_bytes}
    *paths, _ = exported(store, out / "right", **wishes)
    for spoil in (lambda d: d[: len(d) // 2], lambda d: d[:9] + b"?" * 9 + d[18:], lambda d: d * 2):
        place = out / "again"
        place.mkdir()
        for path in paths[:2]:
            (place / f".{path.name}.part").write_bytes(spoil(path.read_bytes()))
        exported(store, place, **wishes)
        assert tree(place) == tree(out / "right")
        for path in place.iterdir():
            path.unlink()
        place.rmdir()


def test_files_of_a_folder_that_are_right_are_not_written_again(
    store: ModelStore, out: Path
) -> None:
    put_with_sums(store, files() | LARGE)
    [folder, _] = exported(store, out, container="folder")
    (folder / "model" / "tokenizer.json").write_bytes(b"half")
    folder.rename(out / f".{folder.name}.part")
    large = out / f".{folder.name}.part" / "model" / "big.safetensors"
    os.utime(large, (1, 1))
    exported(store, out, container="folder", replace=True)
    assert (folder / "model" / "big.safetensors").stat().st_mtime == 1
    assert tree(folder / "model") == files() | LARGE


def test_two_exports_of_one_archive_do_not_mix(store: ModelStore, out: Path) -> None:
    put_with_sums(store, files() | LARGE)

    class Second(Work):
        def advance(self, count_bytes: int = 0) -> None:
            if count_bytes:
                with pytest.raises(Conflict, match="Another export"):
                    exported(store, out)
                seen.append(count_bytes)

    seen: list[int] = []
    export_model(REF, store, ExportWishes(folder=str(out)), Second())
    assert seen

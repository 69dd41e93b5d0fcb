"""Entries go out as archives and come back the same; what others packed comes in as well."""

import hashlib
import json
import os
import subprocess
import unicodedata
import zipfile
from pathlib import Path

import pytest

from meshtui.cache.archive.exporting import plan_export
from meshtui.cache.archive.importing import find_importable, import_model
from meshtui.cache.archive.reading import plan_import
from meshtui.cache.checksums import read_checksums
from meshtui.cache.store import CHECKSUMS, METADATA, ModelStore
from meshtui.cache.work import Work
from meshtui.domain.errors import Conflict, InvalidInput, NotFound
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


@pytest.mark.parametrize("sums", ["beside", "inside", "none"])
@pytest.mark.parametrize("volume_bytes", [None, VOLUME_BYTES])
@pytest.mark.parametrize("container", ["zip", "tar", "tar.zst", "folder"])
def test_an_entry_comes_back_byte_for_byte(
    store: ModelStore,
    other: ModelStore,
    out: Path,
    container: Container,
    volume_bytes: int | None,
    sums: str,
) -> None:
    content = files(sub__json=b"[]") | LARGE | {"deep/er/é.txt": b"", "empty": b""}
    before = put_with_sums(store, content)
    wishes = {"container": container, "volume_bytes": volume_bytes, "checksums": sums}
    plan = plan_export(REF, store, ExportWishes(folder=str(out), **wishes))  # type: ignore[arg-type]
    assert not out.exists()
    paths = exported(store, out, **wishes)
    if container != "tar.zst":
        assert plan.paths == tuple(map(str, paths))
    assert set(out.iterdir()) == set(paths)
    assert len(paths) > 3 or volume_bytes is None or container == "folder"
    assert find_importable(out) == [paths[0]]
    after = imported(paths[0], other)
    assert tree(after.model_dir) == content
    assert (after.folder / METADATA).read_bytes() == (before.folder / METADATA).read_bytes()
    assert read_checksums(after.folder / CHECKSUMS) == read_checksums(before.folder / CHECKSUMS)


@pytest.mark.parametrize("container", ["zip", "tar", "tar.zst"])
def test_an_archive_is_the_same_on_every_machine(
    store: ModelStore, other: ModelStore, out: Path, container: Container
) -> None:
    put_with_sums(store, files() | LARGE)
    first = exported(store, out, container=container)
    imported(first[0], other)
    second = exported(other, out / "again", container=container)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_standard_tools_read_what_is_exported(store: ModelStore, out: Path, tmp_path: Path) -> None:
    content = files() | LARGE
    put_with_sums(store, content)
    zipped = exported(store, out)[0]
    tarred = exported(store, out, container="tar")[0]
    packed = exported(store, out, container="tar.zst")[0]
    for number, command in enumerate(
        (("unzip", "-q", zipped), ("tar", "-xf", tarred), ("tar", "--zstd", "-xf", packed))
    ):
        place = tmp_path / str(number)
        place.mkdir()
        subprocess.run(command, cwd=place, check=True)
        assert tree(place / "acme_2fx" / "model") == content
        sums = Path(f"{command[-1]}.sha256")
        subprocess.run(["sha256sum", "-c", "--quiet", sums], cwd=place, check=True)
    with zipfile.ZipFile(zipped) as archive:
        assert archive.testzip() is None


def test_parts_joined_by_cat_are_the_archive(store: ModelStore, out: Path, tmp_path: Path) -> None:
    put_with_sums(store, files() | LARGE)
    whole = exported(store, out)[0].read_bytes()
    parts = exported(store, out / "parts", volume_bytes=VOLUME_BYTES, checksums="none")
    assert b"".join(path.read_bytes() for path in parts) == whole
    assert {path.stat().st_size for path in parts[:-1]} == {VOLUME_BYTES}


def test_unknown_fields_of_the_metadata_go_along(
    store: ModelStore, other: ModelStore, out: Path, tmp_path: Path
) -> None:
    strange = metadata(new={"deep": [1, 2.50]}, modelDefinition={"key": "hf@acme/x", "more": "é"})
    members = entry() | {f"{ROOT}/{METADATA}": strange}
    imported(zip_file(tmp_path / "a.zip", members), store)
    entry_there = imported(exported(store, out)[0], other)
    said = json.loads((entry_there.folder / METADATA).read_bytes())
    assert said["new"] == {"deep": [1, 2.5]} and said["modelDefinition"]["more"] == "é"


# --- from others


@pytest.mark.parametrize("root", [ROOT, "model", "x y é", ""])
def test_the_root_folder_may_have_any_name_or_none(
    store: ModelStore, tmp_path: Path, root: str
) -> None:
    for number, path in enumerate(
        (
            zip_file(tmp_path / "a", entry(root)),
            zip_file(tmp_path / "b", entry(root), zipfile.ZIP_DEFLATED),
            tar_file(tmp_path / "c", entry(root)),
            tar_file(tmp_path / "d", entry(root), "w:gz"),
            unpacked(tmp_path / "e" / (root or "r"), entry("")),
        )
    ):
        assert tree(imported(path, store, replace=number > 0).model_dir) == files()


@pytest.mark.parametrize(
    "command",
    [
        ("zip", "-q", "-r", "a.x", "root"),
        ("zip", "-q", "-0", "-r", "a.x", "root"),
        ("zip", "-q", "-fz", "-r", "a.x", "root"),
        ("tar", "-cf", "a.x", "root"),
        ("tar", "-cf", "a.x", "./root"),
        ("tar", "-cf", "a.x", "--format=ustar", "root"),
        ("tar", "-cf", "a.x", "--format=posix", "root"),
        ("tar", "-cf", "a.x", "--format=gnu", "root"),
        ("tar", "-czf", "a.x", "root"),
        ("tar", "-c", "--zstd", "-f", "a.x", "root"),
        ("tar", "-c", "--use-compress-program=zstd -19 --long=27", "-f", "a.x", "root"),
    ],
)
def test_archives_of_other_tools_come_in(
    store: ModelStore, tmp_path: Path, command: tuple[str, ...]
) -> None:
    # Longer than a header of tar has room for, and than ASCII.
    content = files() | {f"{'long' * 15}/{'long' * 15}/{'é' * 20}.json": b"{}"}
    unpacked(tmp_path / "root", {METADATA: metadata()})
    unpacked(tmp_path / "root" / "model", content)
    subprocess.run(command, cwd=tmp_path, check=True)
    assert tree(imported(tmp_path / "a.x", store).model_dir) == content


def test_the_layout_of_dataikus_example_comes_in(store: ModelStore, tmp_path: Path) -> None:
    key = "hf@sentence-transformers/all-MiniLM-L6-v2"
    described = json.dumps(
        {
            "commitHash": "7dbbc90392e2f80f3d3c277d6e90027e55de9125",
            "downloadDate": 1698300636139,
            "downloadedBy": "admin",
            "lastDssUsage": 1698307870020,
            "lastModified": "2022-11-07T08:44:33.000Z",
            "lastUsedBy": "admin",
            "libraryName": "sentence-transformers",
            "modelDefinition": {"key": key},
            "pipelineName": "sentence-similarity",
            "sizeInBytes": 0,
            "taggedLanguages": ["en"],
            "tags": ["sentence-transformers", "pytorch", "tf", "rust"],
            "url": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/tree/main",
            "version": 0,
        }
    ).encode()
    model = {
        "1_Pooling/config.json": b"{}",
        "config.json": b"{}",
        "config_sentence_transformers.json": b"{}",
        "modules.json": b"[]",
        "pytorch_model.bin": b"\x80\x02}q\x00.",
        "README.md": b"# all-MiniLM",
        "sentence_bert_config.json": b"{}",
        "special_tokens_map.json": b"{}",
        "tokenizer.json": b"{}",
        "vocab.txt": b"[PAD]",
        ".git/HEAD": b"ref: refs/heads/main",
        ".git/lfs/objects/ab": b"x" * 1000,
    }
    members = {METADATA: described, **{f"model/{name}": data for name, data in model.items()}}
    root = "sentence-transformers_2fall-MiniLM-L6-v2"
    path = zip_file(tmp_path / "a.zip", {f"{root}/{name}": data for name, data in members.items()})
    plan = plan_import(path, store, Work())
    assert (plan.model, plan.task) == (key.removeprefix("hf@"), "sentence-similarity")
    assert plan.commit == "7dbbc90392e2f80f3d3c277d6e90027e55de9125"
    assert rules(plan) == {"unsafe", "size"}
    found = imported(path, store)
    assert found.folder.name == root
    assert set(tree(found.model_dir)) == {name for name in model if not name.startswith(".git")}
    assert found.metadata.last_used_by == "admin"


def test_names_are_composed_and_sums_follow(store: ModelStore, tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "é.txt")
    members = entry() | {f"{ROOT}/model/{name}": b"x"}
    path = zip_file(tmp_path / "a.zip", members)
    sums = [f"{hashlib.sha256(data).hexdigest()}  {n}" for n, data in members.items()]
    (tmp_path / "a.zip.sha256").write_text("\n".join(sums))
    assert unicodedata.normalize("NFC", name) in tree(imported(path, store).model_dir)


def test_what_macs_add_is_left_out(store: ModelStore, tmp_path: Path) -> None:
    members = entry() | {f"__MACOSX/{ROOT}/._model": b"x", f"{ROOT}/notes.txt": b"x"}
    path = zip_file(tmp_path / "a.zip", members)
    assert "other" in rules(plan_import(path, store, Work()))
    assert tree(imported(path, store).model_dir) == files()


# --- found in a folder


def test_archives_and_entries_are_found_by_content(tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    zip_file(folder / "a.bin", entry())
    tar_file(folder / "b.data", entry(), "w:gz")
    unpacked(folder / "c", entry(""))
    zip_file(folder / "book.docx", {"word/document.xml": b"x"})
    (folder / "notes.zip").write_text("not a zip")
    (folder / "log.gz").write_bytes(b"\x1f\x8b\x08nonsense")
    (folder / ".a.zip.part").write_bytes((folder / "a.bin").read_bytes())
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe")
    names = [path.name for path in find_importable(folder)]
    assert names == ["a.bin", "b.data", "c", "log.gz"]
    assert find_importable(folder / "c") == [folder / "c"]
    assert find_importable(folder / "empty") == []


def test_of_a_split_archive_the_first_part_is_named(
    store: ModelStore, other: ModelStore, out: Path
) -> None:
    put_with_sums(store, files() | LARGE)
    parts = exported(store, out, volume_bytes=VOLUME_BYTES, checksums="none")
    with pytest.raises(InvalidInput, match="part of a split archive") as caught:
        plan_import(parts[1], other, Work())
    assert str(parts[0]) in str(caught.value.hint)
    parts[-1].unlink()
    assert rules(plan_import(parts[0], other, Work())) == {"damaged"}
    with pytest.raises(InvalidInput, match="cut off"):
        import_model(parts[0], other, Work(), replace=False)


# --- what is in the way


def test_what_is_there_is_replaced_only_on_demand(store: ModelStore, tmp_path: Path) -> None:
    path = zip_file(tmp_path / "a.zip", entry())
    import_model(path, store, Work(), replace=False)
    assert plan_import(path, store, Work()).replaces
    with pytest.raises(Conflict):
        import_model(path, store, Work(), replace=False)
    zip_file(path, entry(more__txt=b"new"))
    import_model(path, store, Work(), replace=True)
    assert (store.get(REF).model_dir / "more.txt").read_bytes() == b"new"


def test_an_archive_is_overwritten_only_on_demand(store: ModelStore, out: Path) -> None:
    put_with_sums(store, files() | LARGE)
    for container in ("zip", "folder"):
        first = exported(store, out, container=container)
        before = tree(out)
        with pytest.raises(Conflict, match="is there already"):
            exported(store, out, container=container)
        assert tree(out) == before
        assert exported(store, out, container=container, replace=True) == first
        assert tree(out) == before


def test_parts_of_an_older_and_larger_archive_go(
    store: ModelStore, other: ModelStore, out: Path
) -> None:
    put_with_sums(store, files() | LARGE)
    many = exported(store, out, volume_bytes=VOLUME_BYTES)
    put_with_sums(store, files())
    [only, sums] = exported(store, out, volume_bytes=VOLUME_BYTES, replace=True)
    assert only == many[0] and sorted(out.iterdir()) == [only, sums]
    assert tree(imported(only, other).model_dir) == files()


def test_a_replaced_folder_holds_nothing_else(store: ModelStore, out: Path) -> None:
    put_with_sums(store, files())
    [folder, _] = exported(store, out, container="folder")
    (folder / "model" / "stray").write_text("x")
    (folder / "model" / "config.json").unlink()
    (folder / "model" / "config.json").symlink_to(out / "elsewhere")
    (out / "elsewhere").write_text("mine")
    exported(store, out, container="folder", replace=True)
    assert tree(folder / "model") == files()
    assert (out / "elsewhere").read_text() == "mine"


def test_what_is_missing_or_no_archive_is_said(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"missing\.zip"):
        plan_import(tmp_path / "missing.zip", store, Work())
    (tmp_path / "text.zip").write_text("hello")
    for step in (plan_import, lambda *words: import_model(*words, replace=False)):
        with pytest.raises(InvalidInput, match="is no archive"):
            step(tmp_path / "text.zip", store, Work())
    with pytest.raises(NotFound):
        exported(store, tmp_path)


def test_what_a_container_is_to_dataiku_is_said_to_be_unknown(store: ModelStore, out: Path) -> None:
    put_with_sums(store, files())
    for container, said in (("zip", True), ("tar", True), ("folder", False)):
        wishes = ExportWishes(folder=str(out), container=container)  # type: ignore[arg-type]
        assert ("container" in rules(plan_export(REF, store, wishes))) is said

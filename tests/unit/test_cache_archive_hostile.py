"""Archives that do harm, are damaged, or are no model: they are refused, and nothing is left."""

import json
import os
import stat
import struct
import subprocess
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from meshtui.cache.archive.importing import import_model
from meshtui.cache.archive.reading import plan_import
from meshtui.cache.store import METADATA, ModelStore
from meshtui.cache.work import Work
from meshtui.domain.errors import InvalidInput, NoRoom, Unavailable
from meshtui.domain.finding import Level
from tests.support.archives import ROOT, entry, link, metadata, tar_file, tree, unpacked, zip_file
from tests.support.models import files, put, safetensors

MODEL = f"{ROOT}/model"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """With an older entry of the same model, which has to stay."""
    store = ModelStore(tmp_path / "models")
    put(store, "acme/x", {"config.json": b"old"})
    return store


def refused(path: Path, store: ModelStore, rule: str, match: str | None = None) -> None:
    """The plan says it, the import says it, and nothing on the disk has changed."""
    before = without_locks(path.parent)
    plan = plan_import(path, store, Work())
    found = {f.rule: f.message for f in plan.findings if f.level is Level.BLOCKER}
    assert rule in found, plan.findings
    assert all(line.isprintable() for line in found.values())
    with pytest.raises(InvalidInput, match=match) as caught:
        import_model(path, store, Work(), replace=True)
    assert caught.value.message.isprintable()
    assert without_locks(path.parent) == before
    assert list(store.staging.folder.iterdir()) == []


def without_locks(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(folder).items() if "/.locks/" not in name}


# --- names

HOSTILE_NAMES = [
    "../outside",
    f"{ROOT}/../../outside",
    f"{MODEL}/../../../outside",
    f"{MODEL}/./x",
    f"{MODEL}//x",
    "/tmp/absolute",
    f"/{MODEL}/x",
    f"{ROOT}\\model\\x",
    f"{MODEL}/..\\..\\x",
    "C:/x",
    "c:x",
    "./C:/x",
    ".//etc/x",
    f"{MODEL}/x\x1b]52;c;eA==\x07",
    f"{MODEL}/a\nb",
    f"{MODEL}/a\rb",
    f"{MODEL}/txt\u202egpj.exe",
    f"{MODEL}/zero\u200bwidth",
    f"{MODEL}/line\u2028end",
    f"{MODEL}/\x7f",
    f"{MODEL}/{'x' * 256}",
    f"{MODEL}/{'é' * 128}",
    f"{MODEL}/{'/'.join(['x' * 200] * 6)}",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_hostile_names(store: ModelStore, tmp_path: Path, name: str) -> None:
    members = {**entry(), name: b"x"}
    for first in (False, True):
        both = {name: b"x", **entry()} if first else members
        refused(zip_file(tmp_path / "a.zip", both), store, "name")
        refused(tar_file(tmp_path / "a.tar", both), store, "name")
        refused(tar_file(tmp_path / "a.tgz", both, "w:gz"), store, "name")


def test_names_that_are_no_text(store: ModelStore, tmp_path: Path) -> None:
    members = {**entry(), f"{MODEL}/\udcff": b"x"}
    refused(tar_file(tmp_path / "a.tar", members), store, "name")


def test_a_name_that_is_cut_by_a_zero(store: ModelStore, tmp_path: Path) -> None:
    path = zip_file(tmp_path / "a.zip", {**entry(), f"{MODEL}/a!b": b"x"})
    path.write_bytes(path.read_bytes().replace(b"model/a!b", b"model/a\0b"))
    refused(path, store, "name")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "A"),
        ("é", unicodedata.normalize("NFD", "É")),
        ("straße", "STRASSE"),
        ("sub/a", "Sub/b"),
        ("x", "x/y"),
        ("x/y", "x"),
    ],
)
def test_names_that_collide(store: ModelStore, tmp_path: Path, one: str, other: str) -> None:
    members = {**entry(), f"{MODEL}/{one}": b"1", f"{MODEL}/{other}": b"2"}
    refused(zip_file(tmp_path / "a.zip", members), store, "duplicate")
    refused(tar_file(tmp_path / "a.tar", members), store, "duplicate")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice(store: ModelStore, tmp_path: Path) -> None:
    members = [*entry().items(), (f"{MODEL}/config.json", b"other")]
    refused(zip_file(tmp_path / "a.zip", members), store, "duplicate", "twice")
    refused(tar_file(tmp_path / "a.tar", members), store, "duplicate", "twice")


# --- what is neither file nor folder


@pytest.mark.parametrize(
    ("info", "rule"),
    [
        (link(f"{MODEL}/l", "/etc/passwd"), "link"),
        (link(f"{MODEL}/l", "config.json"), "link"),
        (link(MODEL, "/tmp"), "link"),
        (link(f"{MODEL}/l", f"{MODEL}/config.json", tarfile.LNKTYPE), "link"),
        (link(f"{MODEL}/l", "", tarfile.FIFOTYPE), "special"),
        (link(f"{MODEL}/l", "", tarfile.CHRTYPE), "special"),
        (link(f"{MODEL}/l", "", tarfile.BLKTYPE), "special"),
        (link(f"{MODEL}/l", "", tarfile.GNUTYPE_SPARSE), "special"),
        (link(f"{MODEL}/l", "", b"Z"), "special"),
    ],
)
def test_links_and_devices(
    store: ModelStore, tmp_path: Path, info: tarfile.TarInfo, rule: str
) -> None:
    refused(tar_file(tmp_path / "a.tar", [*entry().items(), (info, b"")]), store, rule)
    refused(tar_file(tmp_path / "b.tar", [(info, b""), *entry().items()]), store, rule)
    refused(tar_file(tmp_path / "a.tgz", [*entry().items(), (info, b"")], "w:gz"), store, rule)


def test_a_write_through_a_link_goes_nowhere(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    members = [(link(f"{MODEL}/sub", str(tmp_path / "victim")), b""), (f"{MODEL}/sub/x", b"x")]
    refused(tar_file(tmp_path / "a.tar", [*entry().items(), *members]), store, "link")
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize(("kind", "rule"), [(stat.S_IFLNK, "link"), (stat.S_IFIFO, "special")])
def test_links_in_zip_files(store: ModelStore, tmp_path: Path, kind: int, rule: str) -> None:
    info = zipfile.ZipInfo(f"{MODEL}/l")
    info.external_attr = (kind | 0o777) << 16
    refused(zip_file(tmp_path / "a", [*entry().items(), (info, b"/etc/passwd")]), store, rule)


def test_links_in_folders(store: ModelStore, tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "in" / "e", entry(""))
    (tmp_path / "secret").write_text("secret")
    (folder / "model" / "l").symlink_to(tmp_path / "secret")
    refused(folder, store, "link")
    (folder / "model" / "l").unlink()
    os.mkfifo(folder / "model" / "pipe")
    with pytest.raises(InvalidInput, match="neither a file nor a folder"):
        import_model(folder, store, Work(), replace=True)


def test_sparse_files_of_pax(store: ModelStore, tmp_path: Path) -> None:
    info = tarfile.TarInfo(f"{MODEL}/s")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    refused(tar_file(tmp_path / "a", [*entry().items(), (info, b"x" * 600)]), store, "special")


# --- more than it seems


def test_a_bomb_by_the_list(store: ModelStore, tmp_path: Path) -> None:
    members = {**entry(), f"{MODEL}/zeros": bytes(200_000_000)}
    refused(zip_file(tmp_path / "a.zip", members, zipfile.ZIP_DEFLATED), store, "bomb")


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_a_bomb_in_a_stream(store: ModelStore, tmp_path: Path, packer: str) -> None:
    members = {**entry(), f"{MODEL}/zeros": bytes(200_000_000)}
    path = tar_file(tmp_path / "a.tar", members)
    subprocess.run([packer, "-q", "-f", path], check=True)
    packed = next(p for p in tmp_path.iterdir() if p.name.startswith("a.tar."))
    path.unlink(missing_ok=True)
    refused(packed, store, "bomb")


def test_a_bomb_behind_the_end(store: ModelStore, tmp_path: Path) -> None:
    path = tar_file(tmp_path / "a.tar", entry())
    path.write_bytes(path.read_bytes() + bytes(200_000_000))
    subprocess.run(["gzip", path], check=True)
    refused(tmp_path / "a.tar.gz", store, "bomb")


def test_more_files_than_any_model_has(store: ModelStore, tmp_path: Path) -> None:
    members = {**entry(), **{f"{MODEL}/{number:05}": b"" for number in range(20_001)}}
    refused(zip_file(tmp_path / "a.zip", members), store, "count")
    refused(tar_file(tmp_path / "a.tar", members), store, "count")


@pytest.mark.parametrize("claimed", [5, 500])
def test_a_size_that_is_a_lie(store: ModelStore, tmp_path: Path, claimed: int) -> None:
    """Of a member with 50 bytes, in both places where it stands."""
    path = zip_file(tmp_path / "a", {**entry(), f"{MODEL}/l": b"x" * 50}, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{MODEL}/l")
    old = struct.pack("<III", info.CRC, info.compress_size, 50)
    data = path.read_bytes()
    assert data.count(old) == 2
    path.write_bytes(data.replace(old, struct.pack("<III", info.CRC, info.compress_size, claimed)))
    with pytest.raises(InvalidInput, match=r"damaged|cut off|not as large"):
        import_model(path, store, Work(), replace=True)
    assert list(store.staging.folder.iterdir()) == []


def test_more_than_the_disk_holds(store: ModelStore, tmp_path: Path) -> None:
    """Said before a byte is written: the file has a hole where the data would be."""
    path = tmp_path / "a.tar"
    info = tarfile.TarInfo(f"{MODEL}/l")
    info.size = 1 << 50
    data = tar_file(path, entry()).read_bytes().rstrip(b"\0")
    data += bytes(-len(data) % 512) + info.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(data)
    refused(path, store, "damaged", "cut off")
    with path.open("r+b") as file:
        try:
            file.truncate(len(data) + (1 << 40))
        except OSError:
            return
    info.size = (1 << 40) - 1024
    with path.open("r+b") as file:
        file.seek(len(data) - 512)
        file.write(info.tobuf(tarfile.GNU_FORMAT))
    plan = plan_import(path, store, Work())
    assert "space" in {f.rule for f in plan.findings if f.level is Level.BLOCKER}
    with pytest.raises(NoRoom):
        import_model(path, store, Work(), replace=True)


def test_headers_of_a_huge_length(store: ModelStore, tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 300_000_000
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    os.truncate(path, 400_000_000)
    refused(path, store, "name", "header of")


def test_a_list_of_a_huge_length(store: ModelStore, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate(500_000_000)
        file.seek(0, os.SEEK_END)
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, 499_999_000, 1000, 0))
    with pytest.raises(InvalidInput, match="longer than that of any model"):
        import_model(path, store, Work(), replace=True)


# --- zip files that mean two things


def test_overlapping_members(store: ModelStore, tmp_path: Path) -> None:
    """A member's data counted twice: what quoted-overlap bombs live on."""
    path = zip_file(tmp_path / "a.zip", {**entry(), f"{MODEL}/one": b"x", f"{MODEL}/two": b"x"})
    with zipfile.ZipFile(path) as archive:
        offsets = [archive.getinfo(f"{MODEL}/{name}").header_offset for name in ("one", "two")]
    data = bytearray(path.read_bytes())
    at = data.rindex(struct.pack("<I", offsets[1]), 0, data.rindex(f"{MODEL}/two".encode()))
    data[at : at + 4] = struct.pack("<I", offsets[0])
    path.write_bytes(data)
    refused(path, store, "overlap")


def test_another_name_in_the_header_than_in_the_list(store: ModelStore, tmp_path: Path) -> None:
    path = zip_file(tmp_path / "a.zip", entry())
    path.write_bytes(path.read_bytes().replace(b"tokenizer.json", b"../../../../x2", 1))
    with pytest.raises(InvalidInput, match="something else to other programs"):
        import_model(path, store, Work(), replace=True)
    assert list(store.staging.folder.iterdir()) == []


def test_encrypted_members(store: ModelStore, tmp_path: Path) -> None:
    unpacked(tmp_path / "in", entry())
    subprocess.run(
        ["zip", "-q", "-r", "-P", "x", "../a.zip", ROOT], cwd=tmp_path / "in", check=True
    )
    refused(tmp_path / "a.zip", store, "encrypted")


def test_zip_files_on_several_disks(store: ModelStore, tmp_path: Path) -> None:
    unpacked(tmp_path / "in", entry(noise__bin=os.urandom(300_000)))
    subprocess.run(
        ["zip", "-q", "-0", "-s", "64k", "-r", "../a.zip", ROOT], cwd=tmp_path / "in", check=True
    )
    assert (tmp_path / "a.z01").exists()
    with pytest.raises(InvalidInput):
        import_model(tmp_path / "a.zip", store, Work(), replace=True)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_to_pack(store: ModelStore, tmp_path: Path, method: int) -> None:
    refused(zip_file(tmp_path / "a.zip", entry(), method), store, "method")


# --- damaged


@pytest.mark.parametrize("kind", ["zip", "deflated", "tar", "gz", "zst"])
def test_cut_off_anywhere(store: ModelStore, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    members = entry(noise__txt=os.urandom(20_000))
    match kind:
        case "zip":
            zip_file(path, members)
        case "deflated":
            zip_file(path, members, zipfile.ZIP_DEFLATED)
        case "gz":
            tar_file(path, members, "w:gz")
        case _:
            tar_file(path, members)
    if kind == "zst":
        subprocess.run(["zstd", "-q", path, "-o", tmp_path / "b"], check=True)
        (tmp_path / "b").rename(path)
    whole = path.read_bytes()
    # What ends a tar file is zeros: a part of them may be missing.
    least = len(whole.rstrip(b"\0")) if kind == "tar" else len(whole)
    for share in range(20):
        path.write_bytes(whole[: least * share // 20])
        with pytest.raises(InvalidInput):
            import_model(path, store, Work(), replace=True)
        assert list(store.staging.folder.iterdir()) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_byte_that_has_changed(store: ModelStore, tmp_path: Path, method: int) -> None:
    noise = os.urandom(5000)
    path = zip_file(tmp_path / "a.zip", {**entry(), f"{MODEL}/noise": noise}, method)
    data = path.read_bytes()
    at = data.index(noise[:32]) + 2500 if method == zipfile.ZIP_STORED else data.index(b"noise")
    at += 0 if method == zipfile.ZIP_STORED else 2500
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(InvalidInput, match="damaged"):
        import_model(path, store, Work(), replace=True)
    assert list(store.staging.folder.iterdir()) == []


# --- no model, or none that can be true


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (metadata(version=1), "version is 1"),
        (metadata(version="0"), "version is"),
        (metadata(version=None), "version is missing"),
        (metadata(modelDefinition=None), "does not name its model"),
        (metadata(modelDefinition={"key": "hf@../../x"}), "not a model name"),
        (metadata(modelDefinition={"key": "../../x"}), "not a model's key"),
        (metadata(modelDefinition={"key": "hf@acme/x\x1b[2J"}), "not a model name"),
        (b" " * 1_000_001, "larger than"),
    ],
)
def test_metadata_that_cannot_be_used(
    store: ModelStore, tmp_path: Path, content: bytes, match: str
) -> None:
    members = entry() | {f"{ROOT}/{METADATA}": content}
    refused(zip_file(tmp_path / "a.zip", members), store, "metadata", match)
    refused(tar_file(tmp_path / "a.tgz", members, "w:gz"), store, "metadata", match)


def test_what_is_missing(store: ModelStore, tmp_path: Path) -> None:
    bare = {f"{ROOT}/{METADATA}": metadata()}
    unnamed = {name: data for name, data in entry().items() if not name.endswith(METADATA)}
    loose = {f"{ROOT}/{METADATA}": metadata(), f"{ROOT}/config.json": b"{}"}
    for members, rule in ((bare, "model"), (unnamed, "metadata"), (loose, "model")):
        refused(zip_file(tmp_path / "a.zip", members), store, rule)
        refused(tar_file(tmp_path / "a.tgz", members, "w:gz"), store, rule)
    refused(zip_file(tmp_path / "b.zip", {}), store, "metadata")


def test_several_models_and_files_outside(store: ModelStore, tmp_path: Path) -> None:
    several = {**entry("one"), **entry("two")}
    refused(zip_file(tmp_path / "a.zip", several), store, "roots", "several models")
    outside = {**entry(), "elsewhere/x": b"x"}
    refused(zip_file(tmp_path / "b.zip", outside), store, "roots", "outside")
    with pytest.raises(InvalidInput, match="outside"):
        import_model(tar_file(tmp_path / "b.tgz", outside, "w:gz"), store, Work(), replace=True)


@pytest.mark.parametrize(
    "weights",
    [safetensors()[:-1], safetensors() + b"x", b"\xff" * 40, b"", struct.pack("<Q", 2) + b"{}x"],
)
def test_weights_that_cannot_be_true(store: ModelStore, tmp_path: Path, weights: bytes) -> None:
    members = entry(model__safetensors=weights)
    refused(zip_file(tmp_path / "a.zip", members), store, "header", "model.safetensors")
    refused(tar_file(tmp_path / "a.tgz", members, "w:gz"), store, "header", "model.safetensors")


def test_weights_that_git_did_not_fetch(store: ModelStore, tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    members = entry(model__safetensors=pointer)
    refused(zip_file(tmp_path / "a.zip", members), store, "lfs-pointer", "only a pointer")
    with pytest.raises(InvalidInput, match="only a pointer"):
        import_model(tar_file(tmp_path / "a.tgz", members, "w:gz"), store, Work(), replace=True)


def test_a_shard_that_is_missing(store: ModelStore, tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"w": "model-00002-of-00002.safetensors"}}).encode()
    members = {**entry(), f"{MODEL}/model.safetensors.index.json": index}
    with pytest.raises(InvalidInput, match="named by the index and missing"):
        import_model(zip_file(tmp_path / "a.zip", members), store, Work(), replace=True)


def test_what_can_run_code_is_warned_of(store: ModelStore, tmp_path: Path) -> None:
    evil = b"cos\nsystem\n(S'true'\ntR."
    content = {name: data for name, data in files().items() if name != "model.safetensors"}
    members = {f"{ROOT}/{METADATA}": metadata()}
    members |= {f"{MODEL}/{name}": data for name, data in content.items()}
    members |= {f"{MODEL}/pytorch_model.bin": evil, f"{MODEL}/modeling.py": b"x"}
    path = zip_file(tmp_path / "a.zip", members)
    plan = plan_import(path, store, Work())
    assert plan.possible
    warned = [f.message for f in plan.findings if f.rule == "unsafe"]
    assert [any(name in message for message in warned) for name in ("bin", "modeling.py")]
    _, findings = import_model(path, store, Work(), replace=True)
    assert any("os.system" in f.message for f in findings if f.level is Level.WARNING)


def test_a_cache_that_cannot_be_written_to(tmp_path: Path) -> None:
    path = zip_file(tmp_path / "a.zip", entry())
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(Unavailable, match="cannot be stored"):
        import_model(path, ModelStore(tmp_path / "file" / "models"), Work(), replace=False)

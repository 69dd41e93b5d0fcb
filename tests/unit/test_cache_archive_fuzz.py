"""Whatever the bytes are: an entry, or an error for people, and no file outside of the cache."""

import contextlib
import gzip
import io
import json
import tarfile
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from meshtui.cache.archive.importing import find_importable, import_model
from meshtui.cache.archive.names import Refused, parts_of
from meshtui.cache.archive.reading import plan_import
from meshtui.cache.archive.sums import read_beside
from meshtui.cache.metadata import read_metadata, write_metadata
from meshtui.cache.store import ModelStore
from meshtui.cache.work import Work
from meshtui.domain.errors import InvalidInput, MeshtuiError
from tests.support.archives import ROOT, entry, metadata, tar_file, zip_file

# The same examples every time: what a longer, random search finds becomes a test of its own.
SOME = settings(max_examples=100, deadline=None, derandomize=True, database=None)
MANY = settings(SOME, max_examples=500)


def packed(make: Callable[..., Path], *words: object) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return make(Path(folder) / "a", entry(noise__txt=bytes(range(256))), *words).read_bytes()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=False).compress(data)


TAR = packed(tar_file)
SOUND = {
    "zip": packed(zip_file),
    "deflated": packed(zip_file, zipfile.ZIP_DEFLATED),
    "tar": TAR,
    "gz": gzip.compress(TAR),
    "zst": zstd(TAR),
}


@st.composite
def spoilt(draw: st.DrawFn, sound: bytes) -> bytes:
    """Some bytes changed, taken out, put in, or moved."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 40))
        match draw(st.sampled_from(("set", "cut", "insert", "copy", "end"))):
            case "set":
                data[at : at + length] = draw(st.binary(min_size=1, max_size=length))
            case "cut":
                del data[at : at + length]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=length))
            case "copy":
                source = draw(st.integers(0, max(0, len(data) - 1)))
                data[at : at + length] = data[source : source + length]
            case "end":
                del data[at:]
    return bytes(data)


def survives(data: bytes) -> None:
    """Nothing but the archive, the cache, and what belongs into it is there afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "in" / "a"
        path.parent.mkdir()
        path.write_bytes(data)
        store = ModelStore(folder / "models")
        find_importable(path.parent)
        with contextlib.suppress(MeshtuiError):
            plan_import(path, store, Work())
        with contextlib.suppress(MeshtuiError):
            ref, _ = import_model(path, store, Work(), replace=False)
            found = store.get(ref)
            assert all(file.is_file() or file.is_dir() for file in found.folder.rglob("*"))
            assert not any(file.is_symlink() for file in found.folder.rglob("*"))
        assert {place.name for place in folder.iterdir()} <= {"in", "models"}
        assert [place.name for place in path.parent.iterdir()] == ["a"]
        if store.staging.folder.is_dir():
            assert list(store.staging.folder.iterdir()) == []


@pytest.mark.parametrize("kind", sorted(SOUND))
def test_spoilt_archives(kind: str) -> None:
    @SOME
    @given(spoilt(SOUND[kind]))
    def check(data: bytes) -> None:
        survives(data)

    check()


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_spoilt_archives_in_a_sound_packing(pack: Callable[[bytes], bytes]) -> None:
    @SOME
    @given(spoilt(TAR))
    def check(data: bytes) -> None:
        survives(pack(data))

    check()


@SOME
@given(
    st.binary(max_size=2000),
    st.sampled_from((b"PK\3\4", b"PK\5\6", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"")),
)
def test_noise(data: bytes, magic: bytes) -> None:
    survives(magic + data)


NAMES = st.text(max_size=30) | st.lists(
    st.sampled_from((ROOT, "model", "..", ".", "", "a", "A", "é", "\\", "C:", ".git", "x")),
    max_size=6,
).map("/".join)


@SOME
@given(
    st.lists(
        st.tuples(NAMES, st.sampled_from(b"0123456LKSxg"), st.binary(max_size=20)), max_size=5
    ),
    st.integers(0, 5),
)
def test_members_of_any_name_and_kind(members: list[tuple[str, int, bytes]], at: int) -> None:
    buffer = io.BytesIO()
    made: list[tuple[tarfile.TarInfo, bytes]] = []
    for name, data in entry().items():
        made.append((tarfile.TarInfo(name), data))
    for name, kind, data in members:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = bytes([kind]), "../../x"
        made.insert(at, (info, data))
    for info, data in made:
        info.size = len(data)
        with contextlib.suppress(UnicodeError, ValueError):
            buffer.write(info.tobuf(tarfile.GNU_FORMAT))
            buffer.write(data + bytes(-len(data) % 512))
    buffer.write(bytes(1024))
    survives(buffer.getvalue())


@MANY
@given(st.text(max_size=60) | NAMES)
def test_a_path_that_is_let_through_stays_inside(name: str) -> None:
    try:
        parts = parts_of(name)
    except Refused as error:
        assert not any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") for c in error.message)
        return
    base = Path("/some/folder")
    assert (base.joinpath(*parts)).is_relative_to(base)
    assert all(part not in ("", ".", "..") and "/" not in part and "\0" not in part
               for part in parts)  # fmt: skip
    assert parts_of("/".join(parts)) == parts


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from([*sorted(json.loads(metadata())), "tags", "downloadDate", "new"])


@MANY
@given(spoilt(metadata()) | st.dictionaries(FIELDS, JSON).map(lambda d: metadata(**d)))
def test_metadata_of_any_kind(data: bytes) -> None:
    try:
        found = read_metadata(data)
    except InvalidInput:
        return
    assert read_metadata(write_metadata(found)) == found


@MANY
@given(st.binary(max_size=300) | spoilt(b"0" * 64 + b"  r/model/a\n# x\n" + b"a" * 64 + b" *b\n"))
def test_checksums_of_any_kind(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.sha256").write_bytes(data)
        with contextlib.suppress(InvalidInput):
            read_beside(Path(folder) / "a", ("r",))

"""Disks that fill up while something is written, that are read-only, and that share blocks."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshtui.cache.archive.exporting import export_model
from meshtui.cache.archive.importing import import_model
from meshtui.cache.build import build_entry
from meshtui.cache.fetch import fetch
from meshtui.cache.hub_cache import adopt, plan_adopt, scan
from meshtui.cache.index import CacheIndex
from meshtui.cache.removal import delete, plan_delete
from meshtui.cache.store import ModelStore
from meshtui.cache.usage import usage
from meshtui.cache.verify import verify
from meshtui.cache.work import Work
from meshtui.domain.errors import Conflict, NoRoom, Unavailable
from meshtui.domain.model_cache import BuildWishes, Container, ExportWishes
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.meter import DownloadProgress
from meshtui.hub.reach import Reach
from tests.hub_server import Fault, HubServer
from tests.support.archives import entry, tar_file, tree, zip_file
from tests.support.models import files, put, safetensors, write
from tests.support.mounts import (
    fill,
    formatted,
    mounted,
    needs_mounts,
    read_only,
    sharing_blocks,
    small_disk,
)
from tests.support.synthetic_shelf import fill_hub_repo

pytestmark = needs_mounts

REF = ModelRef("acme/x")
WEIGHTS = safetensors({"w": ("U8", (6_000_000,), os.urandom(6_000_000))})
CONTENT = files(model__safetensors=WEIGHTS)
# Enough for the model, and for what is always left free beside it.
DISK_BYTES = 80_000_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", DISK_BYTES) as place:
        yield place


class Filling(Work):
    """Work in the middle of which the disk is filled by somebody else."""

    def __init__(self, disk: Path) -> None:
        super().__init__()
        self._disk = disk
        self.filler: Path | None = None

    def advance(self, count_bytes: int = 0) -> None:
        super().advance(count_bytes)
        if self.filler is None and self.done_bytes >= len(WEIGHTS) // 3:
            self.filler = fill(self._disk)


def make_room(work: Filling) -> None:
    assert work.filler is not None
    work.filler.unlink()


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "folder"])
def test_full_in_the_middle_of_an_import_leaves_the_old_entry(
    disk: Path, tmp_path: Path, kind: str
) -> None:
    store = ModelStore(disk / "models")
    put(store, "acme/x", files())
    members = entry(model__safetensors=WEIGHTS)
    source = {
        "zip": lambda: zip_file(tmp_path / "a.zip", members),
        "tar.gz": lambda: tar_file(tmp_path / "a.tgz", members, "w:gz"),
        "folder": lambda: write(tmp_path / "a", members) / "some-folder",
    }[kind]()
    work = Filling(disk)
    with pytest.raises(NoRoom, match="acme/x cannot be stored: the disk is full"):
        import_model(source, store, work, replace=True)
    # Other things still work on the full disk.
    assert tree(store.get(REF).model_dir) == files() and verify(REF, store, Work())
    assert list(store.staging.folder.iterdir()) == []
    make_room(work)
    import_model(source, store, Work(), replace=True)
    assert tree(store.get(REF).model_dir) == CONTENT


def test_full_in_the_middle_of_building_leaves_nothing(disk: Path, tmp_path: Path) -> None:
    store, work = ModelStore(disk / "models"), Filling(disk)
    source = write(tmp_path / "x", CONTENT)
    with pytest.raises(NoRoom, match="the disk is full"):
        build_entry(source, store, BuildWishes(model="acme/x"), work, replace=False)
    assert store.list() == [] and list(store.staging.folder.iterdir()) == []
    make_room(work)
    build_entry(source, store, BuildWishes(model="acme/x"), Work(), replace=False)
    assert tree(store.get(REF).model_dir) == CONTENT


@pytest.mark.parametrize("container", ["zip", "tar", "tar.zst", "folder"])
def test_full_in_the_middle_of_an_export_leaves_what_was_there(
    disk: Path, tmp_path: Path, container: Container
) -> None:
    store, work = ModelStore(tmp_path / "models"), Filling(disk)
    put(store, "acme/x", files())
    wishes = ExportWishes(folder=str(disk / "out"), container=container, replace=True)
    export_model(REF, store, wishes, Work())
    before = tree(disk / "out")
    delete(store, "acme/x")
    put(store, "acme/x", CONTENT)
    with pytest.raises(NoRoom, match="acme/x cannot be exported: the disk is full"):
        export_model(REF, store, wishes, work)
    assert tree(disk / "out") == before
    make_room(work)
    export_model(REF, store, wishes, Work())
    delete(store, "acme/x")
    name = f"acme_2fx{'' if container == 'folder' else f'.{container}'}"
    import_model(disk / "out" / name, store, Work(), replace=False)
    assert tree(store.get(REF).model_dir) == CONTENT


async def test_full_in_the_middle_of_a_download_keeps_what_has_come(disk: Path) -> None:
    store = ModelStore(disk / "models")
    fillers: list[Path] = []

    def show(progress: DownloadProgress) -> None:
        if not fillers and progress.done_bytes >= len(WEIGHTS) // 3:
            fillers.append(fill(disk))

    async with HubServer() as hub:
        hub.add("acme/x", CONTENT)
        hub.faults.append(Fault("/lfs/", bytes_per_s=6_000_000))
        reach = Reach(endpoint=hub.url)
        with pytest.raises(NoRoom, match="is full"):
            await fetch(REF, store, reach, on_progress=show)
        assert store.list() == [] and usage(store).partials == 1
        fillers[0].unlink()
        await fetch(REF, store, reach, on_progress=show)
        assert tree(store.get(REF).model_dir) == CONTENT
        assert hub.sent_bytes("/lfs/") < len(WEIGHTS) * 1.5


def test_a_read_only_cache_is_used_and_says_why_it_does_not_change(
    disk: Path, tmp_path: Path
) -> None:
    store = ModelStore(disk / "models")
    put(store, "acme/x", CONTENT, checksums={})
    archive = zip_file(tmp_path / "a.zip", entry(model__safetensors=WEIGHTS))
    with read_only(disk):
        assert [found.model for found in CacheIndex(store).list()] == ["acme/x"]
        assert verify(REF, store, Work()).findings
        store.record_use(REF)
        store.sweep()
        export_model(REF, store, ExportWishes(folder=str(tmp_path / "out")), Work())
        assert "read-only" in (usage(store).problem or "")
        assert "read-only" in (plan_delete(store, ["acme/x"])[0].refusal or "")
        for step in (
            lambda: import_model(archive, store, Work(), replace=True),
            lambda: store.stage(ModelRef("acme/y")),
            lambda: delete(store, "acme/x"),
        ):
            with pytest.raises(Unavailable, match="read-only"):
                step()
    assert tree(store.get(REF).model_dir) == CONTENT
    assert store.get(REF).metadata.last_dss_usage is None


@pytest.fixture(params=["tmpfs", *sharing_blocks()])
def any_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, str]]:
    """Each kind of disk that can be had here, and how files come from one mount of it to another:
    the device is the same, and the kernel refuses links all the same."""
    if request.param == "tmpfs":
        with small_disk(tmp_path / "disk", DISK_BYTES) as place:
            yield place, "copy"
    else:
        with formatted(tmp_path / "disk", tmp_path / "image", 400_000_000, request.param) as place:
            yield place, "reflink"


def test_between_two_mounts_of_a_disk_blocks_are_shared_where_they_can_be(
    any_disk: tuple[Path, str], tmp_path: Path
) -> None:
    disk, how = any_disk
    (disk / "models").mkdir()
    fill_hub_repo(disk / "hub", "acme/x", CONTENT)
    os.sync()
    free_bytes = shutil.disk_usage(disk).free
    with mounted(tmp_path / "bound", "--bind", str(disk / "models")) as place:
        store = ModelStore(place)
        [repo] = plan_adopt(store, scan(disk / "hub"))
        assert repo.how == how
        if how == "copy":
            with pytest.raises(Conflict, match="cannot be linked"):
                adopt(repo, store, Work(), replace=False, allow_copy=False)
        adopt(repo, store, Work(), replace=False, allow_copy=how == "copy")
        found = store.get(REF)
        assert tree(found.model_dir) == CONTENT and verify(REF, store, Work()).ok
        os.sync()
        taken_bytes = free_bytes - shutil.disk_usage(disk).free
        assert (taken_bytes < len(WEIGHTS) // 2) is (how == "reflink")
        # The two are files of their own: what is written into one is not in the other.
        weights = found.model_dir / "model.safetensors"
        assert weights.stat().st_nlink == 1
        weights.write_bytes(b"changed")
        assert next((disk / "hub").rglob("model.safetensors")).read_bytes() == WEIGHTS

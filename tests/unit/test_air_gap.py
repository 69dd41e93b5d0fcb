"""A model goes from a machine with the Internet to one without, on a disk, and runs there."""

import asyncio
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshtui.cache.store import Entry, ModelStore
from meshtui.cache.verify import verify
from meshtui.cache.work import Work
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.server import Phase
from meshtui.model_provider import get_model_from_cache
from meshtui.settings import paths
from tests.conftest import private_environment
from tests.controller_support import controller_process, fake_managers, running_controller
from tests.hub_server import HubServer
from tests.support.hub_thread import hub_in_thread
from tests.support.shelf import model_files
from tests.support.waiting import eventually

MESHTUI = str(Path(sys.executable).parent / "meshtui")
MODEL = "acme/travels"
FILES = {**model_files(500_000), "1_Pooling/config.json": b"{}", "README.md": "# Für".encode()}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_in_thread() as server:
        server.add(MODEL, FILES, facts={"pipeline_tag": "text-generation", "tags": ["a"]})
        yield server


def cache(*words: str) -> None:
    done = subprocess.run(
        [MESHTUI, "cache", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def be(home: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, everything happens on another machine."""
    home.mkdir()
    for name, value in private_environment(home).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)


def files_of(entry: Entry) -> dict[str, bytes]:
    return {
        path.relative_to(entry.folder).as_posix(): path.read_bytes()
        for path in entry.folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("container", ["zip", "tar.zst", "folder"])
async def test_a_model_travels_on_a_disk_and_runs_without_a_network(
    container: str, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    be(tmp_path / "connected", hub.url, monkeypatch)
    with controller_process({}):
        await asyncio.to_thread(cache, "download", MODEL)
        await asyncio.to_thread(cache, "export", MODEL, "--to", str(disk), "--container", container)
    sent = files_of(ModelStore(paths.models_dir()).get(ModelRef.parse(MODEL)))
    assert {name for name in sent if name.startswith("model/")} == {f"model/{n}" for n in FILES}

    be(tmp_path / "alone", "http://127.0.0.1:9", monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    managers = functools.partial(fake_managers, real_models=True)
    async with running_controller({MODEL: ()}, managers=managers) as controller:
        await asyncio.to_thread(cache, "import", str(disk))
        store = ModelStore(paths.models_dir())
        entry = store.get(ModelRef.parse(MODEL))
        assert files_of(entry) == sent
        assert verify(entry.ref, store, Work()).ok
        assert get_model_from_cache(MODEL) == str(entry.model_dir)

        await controller.client.start_server(MODEL)
        await eventually(
            lambda: controller.core.servers.list()[0].phase is Phase.READY, "the server"
        )
        used = store.get(entry.ref).metadata
        assert used.last_dss_usage and used.commit_hash == hub.repos[MODEL].commit
        assert await controller.client.transfers() != []
    assert hub.requests == []

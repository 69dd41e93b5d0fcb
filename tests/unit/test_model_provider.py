"""The Python API: from scripts, threads and event loops, with a controller and without one."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from meshtui.cache.store import ModelStore, current_user
from meshtui.client import ControllerClient
from meshtui.domain.errors import InvalidInput, NotAllowed
from meshtui.domain.model_cache import Transfer
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.errors import GatedModel, HubUnreachable, ModelNotOnHub
from meshtui.model_provider import (
    ModelNotCached,
    download_model_to_cache,
    get_model_from_cache,
)
from meshtui.settings import paths
from tests.controller_support import controller_process
from tests.hub_server import Fault, HubServer
from tests.support.hub_thread import hub_in_thread
from tests.support.shelf import model_files, put_entry
from tests.support.waiting import wait_until

MODEL = "acme/tiny"
FILES = model_files()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_in_thread() as server:
        server.add(MODEL, FILES)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def is_complete(folder: str) -> bool:
    return all((Path(folder) / name).read_bytes() == data for name, data in FILES.items())


def transfers() -> list[Transfer]:
    async def ask() -> list[Transfer]:
        client = ControllerClient()
        try:
            await client.connect(spawn=False)
            return await client.transfers()
        finally:
            await client.close()

    return asyncio.run(ask())


def test_what_is_cached_is_found_and_counts_as_used(hub: HubServer) -> None:
    put_entry(MODEL)
    put_entry(f"{MODEL}@v1")
    store = ModelStore(paths.models_dir())
    assert get_model_from_cache(MODEL) == str(store.get(ModelRef(MODEL)).model_dir)
    assert get_model_from_cache(f"{MODEL}@v1").endswith("acme_2ftiny_40v1/model")
    used = store.get(ModelRef(MODEL)).metadata
    assert used.last_used_by == current_user() and used.last_dss_usage
    assert download_model_to_cache(MODEL) == get_model_from_cache(MODEL)
    assert hub.requests == []


def test_what_is_missing_is_said_and_never_fetched(hub: HubServer) -> None:
    with pytest.raises(ModelNotCached, match=r"acme/tiny is not in the model cache.*download"):
        get_model_from_cache(MODEL)
    with pytest.raises(InvalidInput, match="not a model name"):
        get_model_from_cache("no name")
    assert hub.requests == []


def test_it_is_fetched_in_this_process_where_no_controller_runs(hub: HubServer) -> None:
    assert is_complete(download_model_to_cache(MODEL))
    assert not list(paths.socket_path().parent.glob("*.sock"))
    with pytest.raises(ModelNotOnHub):
        download_model_to_cache("acme/nothing")
    hub.add("acme/gated", FILES, gated=True)
    with pytest.raises(GatedModel):
        download_model_to_cache("acme/gated")


def test_a_controller_that_runs_does_it_for_all_to_see(hub: HubServer) -> None:
    hub.add("acme/gated", FILES, gated=True)
    with controller_process():
        assert is_complete(download_model_to_cache(MODEL))
        [transfer] = transfers()
        assert transfer.model == MODEL
        with pytest.raises(GatedModel):
            download_model_to_cache("acme/gated")


def test_one_cache_of_several_is_meant(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with controller_process():
        monkeypatch.setenv("MESHTUI_CACHE", str(tmp_path / "own"))
        folder = download_model_to_cache(MODEL)
        assert is_complete(folder) and folder.startswith(str(tmp_path / "own"))
        assert transfers() == []


def test_a_broken_entry_is_fetched_anew(hub: HubServer) -> None:
    entry = put_entry(MODEL)
    (entry.folder / "model_metadata.json").write_text("{broken")
    with pytest.raises(InvalidInput):
        get_model_from_cache(MODEL)
    with controller_process():
        assert is_complete(download_model_to_cache(MODEL))


def test_it_goes_on_alone_where_the_controller_dies(hub: HubServer) -> None:
    hub.repos[MODEL].files = files = model_files(1_000_000)
    hub.faults.append(Fault("/lfs/", bytes_per_s=2_000_000))
    with controller_process() as process:
        with ThreadPoolExecutor(1) as pool:
            begun = pool.submit(download_model_to_cache, MODEL)
            wait_until(lambda: hub.sent_bytes("/lfs/") > 800_000, "some of it")
            os.kill(process.pid, signal.SIGKILL)
            folder = Path(begun.result(timeout=30))
        assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert hub.sent_bytes("/lfs/") < 2 * len(files["model.safetensors"])


async def test_it_works_inside_a_running_loop(hub: HubServer) -> None:
    assert is_complete(download_model_to_cache(MODEL))
    with pytest.raises(ModelNotOnHub):
        download_model_to_cache("acme/nothing")


def test_many_threads_share_one_download(hub: HubServer) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(download_model_to_cache(MODEL)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1
    assert hub.sent_bytes("/lfs/") == len(FILES["model.safetensors"])


def test_without_a_network_it_says_so(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubUnreachable, match="HF_HUB_OFFLINE"):
        download_model_to_cache(MODEL)
    put_entry(MODEL)
    assert is_complete(download_model_to_cache(MODEL))


def test_who_is_no_administrator_downloads_only_what_is_enabled(hub: HubServer) -> None:
    folder = paths.config_dir()
    (folder / "connections").mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text('[users]\nadmins = ["somebody-else"]\n')
    with pytest.raises(NotAllowed, match="not enabled on any connection"):
        download_model_to_cache(MODEL)
    (folder / "connections" / "mine.toml").write_text(
        f'name = "mine"\n[[enabled_models]]\nmodel = "{MODEL}"\n'
    )
    with pytest.raises(NotAllowed, match="not enabled on the connection other"):
        download_model_to_cache(MODEL, "other")
    assert is_complete(download_model_to_cache(MODEL, "mine"))


def test_importing_it_is_cheap() -> None:
    program = (
        "import sys, meshtui.model_provider; "
        "print(sorted({'textual', 'aiohttp', 'huggingface_hub'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

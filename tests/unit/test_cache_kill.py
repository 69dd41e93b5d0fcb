"""The controller is killed at random moments of a download: the next one goes on, and the cache
holds the old state or the new one, never a third."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from meshtui.cache.store import ModelStore
from meshtui.cache.verify import verify
from meshtui.cache.work import Work
from meshtui.client import ControllerClient
from meshtui.client.transfers import follow
from meshtui.domain.model_cache import Transfer, TransferState
from meshtui.domain.model_ref import ModelRef
from meshtui.settings import paths
from tests.controller_support import controller_process
from tests.hub_server import Fault, HubServer
from tests.support.hub_thread import hub_in_thread
from tests.support.shelf import model_files, put_entry

REF = ModelRef("acme/tiny")
OLD = model_files(1_000)
NEW = {**model_files(5_000_000), "extra.json": b"[1]"}
WEIGHTS = len(NEW["model.safetensors"])
KILLS = 8
# What may be on its way when a process dies: sockets' buffers, and a tenth of a second's worth.
LOST_BYTES = 1_000_000


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_in_thread() as server:
        server.add(str(REF), NEW)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def state() -> str:
    """Which of the two states the cache is in; verified file by file."""
    store = ModelStore(paths.models_dir())
    entry = store.get(REF)
    names = {path.name: path.read_bytes() for path in entry.model_dir.iterdir()}
    assert names in (OLD, NEW)
    assert verify(REF, store, Work()).ok
    assert [one.ref for one in store.list()] == [REF]
    return "old" if names == OLD else "new"


async def moving(client: ControllerClient) -> None:
    """Returns when more has come than was there, or the transfer is over."""
    parts = (paths.models_dir() / ".staging").glob("*/parts/*")
    enough = sum(path.stat().st_size for path in parts) + 800_000
    [transfer] = await client.transfers()
    async with asyncio.timeout(30), aclosing(follow(client, transfer)) as changes:
        async for changed in changes:
            if changed.done_bytes > enough:
                return


async def ended(client: ControllerClient) -> Transfer:
    [transfer] = await client.transfers()
    async with asyncio.timeout(60), aclosing(follow(client, transfer)) as changes:
        async for changed in changes:
            transfer = changed
    return transfer


async def test_killed_again_and_again_a_download_comes_to_its_end(hub: HubServer) -> None:
    put_entry(str(REF), OLD)
    chance = random.Random(11)
    hub.faults.append(Fault("/lfs/", bytes_per_s=4_000_000, times=1000))
    client = ControllerClient()
    begun = False
    for turn in range(KILLS):
        with controller_process({}) as process:
            await client.connect(spawn=False)
            if not begun:
                begun = True
                await client.download(str(REF), replace=True)
            if turn % 4:
                await moving(client)
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            os.kill(process.pid, signal.SIGKILL)
            await client.close()
        if state() == "new":
            break
    with controller_process({}):
        await client.connect(spawn=False)
        last = await ended(client)
        assert last.state is TransferState.DONE, last
        await client.close()
    assert state() == "new"
    # Each went on from where the one before had come to.
    starts = [int((r.range or "bytes=0-")[6:-1]) for r in hub.requests if r.large]
    assert starts == sorted(starts) and starts[-1] > WEIGHTS // 4
    assert hub.sent_bytes("/lfs/") < WEIGHTS + len(starts) * LOST_BYTES
    # Nothing is left of the attempts.
    staging = paths.models_dir() / ".staging"
    assert not [path for path in staging.iterdir() if path.suffix == ".partial"]

"""Files that only Xet serves: through its own library, in a process that can be killed."""

import asyncio
import os
import random
import resource
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshtui.domain.errors import NoRoom
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.download import download, files_to_fetch
from meshtui.hub.errors import BrokenDownload, GatedModel, HubUnreachable
from meshtui.hub.leftovers import DownloadFolder
from meshtui.hub.meter import DownloadProgress
from meshtui.hub.model_files import look_up
from meshtui.hub.reach import Reach
from meshtui.hub.retries import Retries
from meshtui.hub.worker import Answer, Fetch, ask
from tests.hub_server import Fault, HubServer
from tests.support.waiting import eventually
from tests.support.xet import put_in_xet, xet_url

REF = ModelRef("acme/huge")
WEIGHTS = random.Random(4).randbytes(24_000_000)
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS}
QUICK = Retries(tries=3, first_pause_s=0.01)
# As if everything beyond were too much for plain HTTP.
MOST_HTTP_BYTES = 1_000_000


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[HubServer]:
    async with HubServer() as server:
        server.xet_url = xet_url(tmp_path / "store")
        xet_hash = await asyncio.to_thread(put_in_xet, tmp_path / "store", WEIGHTS)
        server.add(str(REF), FILES, readers=("alice",), xet={"model.safetensors": xet_hash})
        # What the Hub answers to plain HTTP.
        server.faults.append(Fault("/lfs/", status=403, times=1000))
        yield server


async def fetch(
    hub: HubServer, folder: Path, *, token: str | None = None
) -> tuple[dict[str, str], list[DownloadProgress]]:
    folder.mkdir(exist_ok=True)
    seen: list[DownloadProgress] = []
    reach = Reach(endpoint=hub.url, token=token)
    model = await look_up(REF, reach)
    digests = await download(
        model,
        files_to_fetch(model),
        folder,
        reach=reach,
        on_progress=seen.append,
        retries=QUICK,
        most_http_bytes=MOST_HTTP_BYTES,
    )
    return digests, seen


def check(folder: Path) -> None:
    assert (folder / "model" / "model.safetensors").read_bytes() == WEIGHTS
    assert not list((folder / "parts").iterdir())


async def test_it_comes_by_xet_hashed_and_counted(hub: HubServer, tmp_path: Path) -> None:
    digests, seen = await fetch(hub, tmp_path / "x")
    check(tmp_path / "x")
    assert digests.keys() == FILES.keys()
    assert seen[-1].fraction == 1.0
    assert any("xet-read-token" in request.path for request in hub.requests)
    assert not any(request.large for request in hub.requests)


async def test_it_goes_on_from_what_is_there(hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "x"
    request = await weights_request(hub, folder)
    part = Path(request.part)
    part.parent.mkdir(parents=True)
    # A wrong byte shows that this much was not fetched again.
    part.write_bytes(b"!" + WEIGHTS[1:20_000_000])
    with pytest.raises(BrokenDownload):
        await answers(request)
    assert part.stat().st_size == 0
    part.write_bytes(WEIGHTS[:20_000_000])
    assert (await answers(request))[0].done_bytes >= 1_000_000
    assert part.read_bytes() == WEIGHTS
    await fetch(hub, folder)
    check(folder)


async def weights_request(hub: HubServer, folder: Path) -> Fetch:
    reach = Reach(endpoint=hub.url)
    model = await look_up(REF, reach)
    [weights] = [file for file in model.files if file.path == "model.safetensors"]
    part = DownloadFolder(folder, model).part(weights)
    return Fetch(os.getpid(), reach, model, weights, str(part))


async def answers(request: Fetch) -> list[Answer]:
    return [answer async for answer in ask(request, request.reach)]


async def test_damage_that_stays_is_refused(hub: HubServer, tmp_path: Path) -> None:
    other = await asyncio.to_thread(put_in_xet, tmp_path / "store", bytes(len(WEIGHTS)))
    hub.repos[str(REF)].xet["model.safetensors"] = other
    with pytest.raises(BrokenDownload, match="arrived damaged"):
        await fetch(hub, tmp_path / "x")
    assert not (tmp_path / "x/model/model.safetensors").exists()


async def test_one_that_is_not_there_is_given_up(hub: HubServer, tmp_path: Path) -> None:
    hub.repos[str(REF)].xet["model.safetensors"] = "0" * 64
    with pytest.raises(HubUnreachable, match=r"model\.safetensors failed"):
        await fetch(hub, tmp_path / "x")


async def test_refusals_come_out_of_the_process(hub: HubServer, tmp_path: Path) -> None:
    hub.repos[str(REF)].gated = True
    with pytest.raises(GatedModel, match="is gated"):
        await fetch(hub, tmp_path / "x", token="hf_bob")
    await fetch(hub, tmp_path / "x", token="hf_alice")
    check(tmp_path / "x")


async def test_a_hub_without_it_is_asked_by_plain_http(hub: HubServer, tmp_path: Path) -> None:
    hub.repos[str(REF)].xet.clear()
    hub.faults.clear()
    await fetch(hub, tmp_path / "x")
    check(tmp_path / "x")


async def test_a_disk_that_refuses_is_said(hub: HubServer, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(WEIGHTS) // 2, hard))
    try:
        with pytest.raises(NoRoom, match="is full"):
            await fetch(hub, tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def workers() -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            continue
        if b"meshtui.hub.worker" in words and int(parent) == os.getpid():
            found.append(int(process.name))
    return found


async def test_cancelling_ends_the_process_at_once(hub: HubServer, tmp_path: Path) -> None:
    task = asyncio.create_task(fetch(hub, tmp_path / "x"))
    await eventually(workers, "the process")
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 2
    assert not workers()
    await fetch(hub, tmp_path / "x")
    check(tmp_path / "x")


async def test_a_process_that_dies_is_replaced(hub: HubServer, tmp_path: Path) -> None:
    task = asyncio.create_task(fetch(hub, tmp_path / "x"))
    await eventually(workers, "the process")
    for pid in workers():
        os.kill(pid, signal.SIGKILL)
    await task
    check(tmp_path / "x")

"""Downloads against a Hub on this machine, spoken to over HTTP, that misbehaves on demand."""

import asyncio
import hashlib
import json
import random
import resource
import socket
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from meshtui.domain.errors import MeshtuiError, NoRoom
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.download import download, files_to_fetch
from meshtui.hub.errors import (
    BadToken,
    BrokenDownload,
    GatedModel,
    HubUnreachable,
    ModelNotOnHub,
)
from meshtui.hub.meter import DownloadProgress
from meshtui.hub.model_files import HubModel, look_up
from meshtui.hub.reach import Reach, why_unreachable
from meshtui.hub.retries import Retries
from tests.hub_server import Fault, HubServer

REF = ModelRef("acme/tiny")
WEIGHTS = random.Random(1).randbytes(3_000_000)
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "same.json": b"{}",
    "empty.txt": b"",
    "sub/dir/extra.json": b"[1]",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"old",
}
QUICK = Retries(tries=4, first_pause_s=0.01)


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer() as server:
        server.add(str(REF), FILES, readers=("alice",))
        yield server


async def fetch(
    hub: HubServer, folder: Path, *, token: str | None = None
) -> tuple[HubModel, dict[str, str], list[DownloadProgress]]:
    folder.mkdir(exist_ok=True)
    seen: list[DownloadProgress] = []
    model = await look_up(REF, Reach(endpoint=hub.url, token=token), retry_pause_s=0.01)
    digests = await download(
        model,
        files_to_fetch(model),
        folder,
        reach=Reach(endpoint=hub.url, token=token),
        on_progress=seen.append,
        retries=QUICK,
    )
    return model, digests, seen


def check(folder: Path) -> None:
    found = {
        path.relative_to(folder / "model").as_posix(): path.read_bytes()
        for path in (folder / "model").rglob("*")
        if path.is_file()
    }
    assert found == {name: data for name, data in FILES.items() if name != "pytorch_model.bin"}


async def test_all_that_is_needed_comes_checked(hub: HubServer, tmp_path: Path) -> None:
    repo = hub.repos[str(REF)]
    repo.facts = {
        "pipeline_tag": "text-generation",
        "library_name": "transformers",
        "tags": ["license:mit"],
        "cardData": {"language": ["en", "fr"]},
    }
    model, digests, seen = await fetch(hub, tmp_path / "x")
    check(tmp_path / "x")
    assert digests["model.safetensors"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert digests["config.json"] == hashlib.sha256(FILES["config.json"]).hexdigest()
    assert model.commit == repo.commit
    assert model.last_modified == "2026-11-01T12:30:00.000Z"
    assert (model.pipeline, model.library) == ("text-generation", "transformers")
    assert (model.languages, model.tags) == (("en", "fr"), ("license:mit",))
    assert seen[-1].done_bytes == seen[-1].total_bytes
    assert seen[-1].fraction == 1.0


async def test_the_token_does_not_follow_to_another_origin(hub: HubServer, tmp_path: Path) -> None:
    hub.repos[str(REF)].private = True
    await fetch(hub, tmp_path / "x", token="hf_alice")
    check(tmp_path / "x")
    at_store = [request for request in hub.requests if request.large]
    assert at_store
    assert not any(request.authorised for request in at_store)


async def test_dropped_connections_go_on_where_they_broke(hub: HubServer, tmp_path: Path) -> None:
    hub.faults += [Fault("/lfs/", drop_after=0), Fault("/lfs/", drop_after=900_000, times=2)]
    await fetch(hub, tmp_path / "x")
    check(tmp_path / "x")
    assert hub.sent_bytes("/lfs/") < len(WEIGHTS) * 1.1
    assert [r.range for r in hub.requests if r.large and r.range]


async def test_a_server_without_ranges_sends_it_again(hub: HubServer, tmp_path: Path) -> None:
    hub.faults += [
        Fault("/lfs/", drop_after=1_500_000),
        Fault("/lfs/", ignore_range=True),
    ]
    _, _, seen = await fetch(hub, tmp_path / "x")
    check(tmp_path / "x")
    assert seen[-1].done_bytes == seen[-1].total_bytes


async def test_a_damaged_file_is_fetched_once_more(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/lfs/", corrupt=True))
    _, _, seen = await fetch(hub, tmp_path / "x")
    check(tmp_path / "x")
    assert seen[-1].done_bytes == seen[-1].total_bytes


async def test_a_file_that_stays_damaged_is_refused(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("config.json", corrupt=True, times=2))
    with pytest.raises(BrokenDownload, match=r"config\.json arrived damaged"):
        await fetch(hub, tmp_path / "x")
    assert not (tmp_path / "x" / "model" / "config.json").exists()


async def test_retry_after_is_honoured(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/lfs/", status=429, headers={"Retry-After": "1"}))
    hub.faults.append(Fault("config.json", status=503, times=2))
    began = time.monotonic()
    await fetch(hub, tmp_path / "x")
    assert time.monotonic() - began >= 1
    check(tmp_path / "x")


async def test_who_waits_is_told_why(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/lfs/", status=429, headers={"Retry-After": "1"}))
    _, _, seen = await fetch(hub, tmp_path / "x")
    assert "Trying again in 0:01 (status 429)" in {progress.note for progress in seen}
    assert seen[-1].note == ""


async def test_who_is_to_wait_for_hours_gives_up(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/lfs/", status=429, headers={"Retry-After": "7200"}))
    with pytest.raises(HubUnreachable, match="status 429"):
        await fetch(hub, tmp_path / "x")


async def test_the_api_is_asked_again_when_it_says(hub: HubServer) -> None:
    hub.faults.append(Fault("/api/models/", status=429, headers={"Retry-After": "1"}))
    began = time.monotonic()
    await look_up(REF, Reach(endpoint=hub.url), retry_pause_s=0.01)
    assert time.monotonic() - began >= 1
    hub.faults.append(Fault("/api/models/", status=429, headers={"Retry-After": "200"}))
    with pytest.raises(HubUnreachable, match="in 200 seconds, as it asks"):
        await look_up(REF, Reach(endpoint=hub.url), retry_pause_s=0.01)


async def test_an_address_that_ran_out_is_asked_for_again(hub: HubServer, tmp_path: Path) -> None:
    """The store answers 403 in the middle of a file, as it does to old signatures."""
    hub.faults += [Fault("/lfs/", drop_after=900_000), Fault("/lfs/", status=403)]
    await fetch(hub, tmp_path / "x")
    check(tmp_path / "x")
    assert sum("/resolve/" in r.path and "model.safetensors" in r.path for r in hub.requests) == 3
    assert hub.sent_bytes("/lfs/") < len(WEIGHTS) * 1.1


async def test_a_disk_that_fills_up_is_said_and_gone_on_from(
    hub: HubServer, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        with pytest.raises(NoRoom, match="is full"):
            await fetch(hub, tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    hub.requests.clear()
    await fetch(hub, tmp_path / "x")
    check(tmp_path / "x")
    assert hub.sent_bytes("/lfs/") < len(WEIGHTS) / 2


async def test_a_mirror_that_knows_no_hashes_never_mixes_commits(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.faults.append(Fault("/lfs/", drop_after=1_500_000, times=9))
    model = await look_up(REF, Reach(endpoint=hub.url))
    folder = tmp_path / "x"
    folder.mkdir()
    for commit in (model.commit, "main"):
        bare = tuple(msgspec.structs.replace(f, sha256=None, git_sha1=None) for f in model.files)
        known = msgspec.structs.replace(model, files=bare, commit=commit)
        hub.requests.clear()
        await download(
            known,
            files_to_fetch(known),
            folder,
            reach=Reach(endpoint=hub.url),
            on_progress=lambda progress: None,
            retries=QUICK,
        )
        check(folder)
        assert hub.sent_bytes("/lfs/") >= len(WEIGHTS)


async def test_an_overloaded_api_is_asked_again(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/api/models/", status=503, times=2))
    await fetch(hub, tmp_path / "x")
    check(tmp_path / "x")


async def test_one_that_never_recovers_is_given_up(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/lfs/", status=503, times=99))
    with pytest.raises(HubUnreachable, match=r"model\.safetensors failed: status 503"):
        await fetch(hub, tmp_path / "x")
    hub.faults.clear()
    await fetch(hub, tmp_path / "x")
    check(tmp_path / "x")


async def test_cancelling_is_immediate_and_keeps_what_came(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/lfs/", bytes_per_s=2_000_000, times=1))
    arrived = asyncio.Event()
    folder = tmp_path / "x"
    folder.mkdir()
    model = await look_up(REF, Reach(endpoint=hub.url))

    def show(progress: DownloadProgress) -> None:
        if progress.done_bytes > 1_000_000:
            arrived.set()

    task = asyncio.create_task(
        download(
            model,
            files_to_fetch(model),
            folder,
            reach=Reach(endpoint=hub.url),
            on_progress=show,
        )
    )
    async with asyncio.timeout(10):
        await arrived.wait()
    cancelled_at = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - cancelled_at < 2
    kept = sum(path.stat().st_size for path in (folder / "parts").iterdir())
    assert kept > 900_000
    hub.requests.clear()
    await fetch(hub, folder)
    check(folder)
    assert hub.sent_bytes("/lfs/") == len(WEIGHTS) - kept
    assert hub.sent_bytes("config.json") == 0


DOWNLOADER = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from meshtui.domain.model_ref import ModelRef
    from meshtui.hub.download import download, files_to_fetch
    from meshtui.hub.model_files import look_up
    from meshtui.hub.reach import Reach
    async def main():
        url, folder = sys.argv[1], Path(sys.argv[2])
        model = await look_up(ModelRef("acme/tiny"), Reach(endpoint=url))
        await download(model, files_to_fetch(model), folder, reach=Reach(endpoint=url),
                       on_progress=lambda p: print(p.done_bytes, flush=True))
    asyncio.run(main())
""")


async def test_a_killed_download_goes_on(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/lfs/", bytes_per_s=3_000_000, times=1))
    folder = tmp_path / "x"
    folder.mkdir()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DOWNLOADER, hub.url, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout
    async with asyncio.timeout(30):
        while int(await child.stdout.readline()) < 1_500_000:
            pass
    child.kill()
    await child.wait()
    hub.requests.clear()
    await fetch(hub, folder)
    check(folder)
    assert 0 < hub.sent_bytes("/lfs/") < len(WEIGHTS) - 900_000


async def test_a_model_that_moved_on_is_not_mixed(hub: HubServer, tmp_path: Path) -> None:
    await fetch(hub, tmp_path / "x")
    repo = hub.repos[str(REF)]
    newer = {**FILES, "config.json": b'{"model_type": "newer"}'}
    del newer["same.json"]
    repo.files = newer
    hub.requests.clear()
    await fetch(hub, tmp_path / "x")
    assert (tmp_path / "x/model/config.json").read_bytes() == newer["config.json"]
    assert not (tmp_path / "x/model/same.json").exists()
    assert hub.sent_bytes("/lfs/") == 0


async def test_progress_comes_often_and_never_beyond_the_end(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.faults.append(Fault("/lfs/", bytes_per_s=3_000_000))
    _, _, seen = await fetch(hub, tmp_path / "x")
    assert len(seen) >= 5
    assert all(0 <= p.done_bytes <= p.total_bytes for p in seen)
    assert any(p.rate_bytes_s > 0 and p.left_s is not None for p in seen)


async def test_what_was_there_before_says_nothing_about_the_rate(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.faults += [
        Fault("/lfs/", drop_after=2_900_000),
        Fault("/lfs/", status=503, times=QUICK.tries),
    ]
    with pytest.raises(HubUnreachable):
        await fetch(hub, tmp_path / "x")
    hub.faults[:] = [Fault("/lfs/", bytes_per_s=200_000)]
    _, _, seen = await fetch(hub, tmp_path / "x")
    assert seen[-1].done_bytes == seen[-1].total_bytes
    # A tenth of a megabyte has come, in half a second.
    assert 0 < seen[-1].rate_bytes_s < 900_000


async def test_too_little_room_is_said_before_the_first_byte(
    hub: HubServer, tmp_path: Path
) -> None:
    model = await look_up(REF, Reach(endpoint=hub.url))
    huge = [f for f in files_to_fetch(model) if f.path == "config.json"]
    huge = [msgspec.structs.replace(huge[0], size_bytes=10**18)]
    hub.requests.clear()
    with pytest.raises(NoRoom, match="MESHTUI_CACHE"):
        await download(
            model, huge, tmp_path, reach=Reach(endpoint=hub.url), on_progress=lambda _: None
        )
    assert hub.requests == []


@pytest.mark.parametrize(
    ("options", "token", "kind", "said"),
    [
        ({"gated": True}, None, GatedModel, "Set an access token"),
        ({"gated": True}, "hf_bob", GatedModel, "acme/tiny, ask for access"),
        ({"private": True}, "hf_bob", ModelNotOnHub, "account may lack access"),
        ({"private": True}, None, ModelNotOnHub, "needs an access token"),
        ({}, "hf_expired", BadToken, "settings/tokens"),
    ],
)
async def test_refusals_say_what_to_do(
    hub: HubServer,
    tmp_path: Path,
    options: dict[str, bool],
    token: str | None,
    kind: type[MeshtuiError],
    said: str,
) -> None:
    for name, value in options.items():
        setattr(hub.repos[str(REF)], name, value)
    with pytest.raises(kind) as error:
        await fetch(hub, tmp_path / "x", token=token)
    assert said in str(error.value)
    assert "hf_" not in str(error.value)


async def test_an_unknown_model_or_revision_is_said(hub: HubServer) -> None:
    for name in ("acme/other", "acme/tiny@nope"):
        with pytest.raises(ModelNotOnHub):
            await look_up(ModelRef.parse(name), Reach(endpoint=hub.url, token="hf_alice"))


async def test_a_revision_is_pinned_to_its_commit(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.repos[str(REF)].commit
    model = await look_up(ModelRef("acme/tiny", commit), Reach(endpoint=hub.url))
    assert model.commit == commit


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def test_a_hub_that_is_not_there_is_said_soon() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    began = time.monotonic()
    assert "onnect" in (await why_unreachable(Reach(endpoint=url)) or "")
    assert time.monotonic() - began < 10
    with pytest.raises(HubUnreachable, match="cannot be reached"):
        await look_up(REF, Reach(endpoint=url), retry_pause_s=0.01)


async def test_a_hub_that_hangs_is_not_waited_for() -> None:
    async with await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reason = await why_unreachable(Reach(endpoint=f"http://127.0.0.1:{port}"), timeout_s=0.2)
    assert reason == "no answer within 0.2 seconds"


async def test_offline_mode_is_obeyed(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await why_unreachable(Reach(endpoint=hub.url)) is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    assert await why_unreachable(Reach(endpoint=hub.url)) == "HF_HUB_OFFLINE is set"
    with pytest.raises(HubUnreachable, match="HF_HUB_OFFLINE"):
        await look_up(REF, Reach(endpoint=hub.url))
    assert hub.requests == []


async def test_names_from_the_hub_cannot_leave_the_folder(hub: HubServer, tmp_path: Path) -> None:
    hub.add(str(REF), {"../escaped.json": b"x", "config.json": b"{}"})
    await fetch(hub, tmp_path / "x")
    assert not list(tmp_path.rglob("escaped.json"))
    assert json.loads((tmp_path / "x/model/config.json").read_bytes()) == {}

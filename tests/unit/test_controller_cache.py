"""The model cache through a real controller, a local Hub and servers of a fake engine."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from meshtui.cache.store import ModelStore, current_user
from meshtui.client import ControllerClient
from meshtui.client.transfers import follow
from meshtui.controller.parts import Managers, Surroundings
from meshtui.domain.controller import (
    CacheEntryChanged,
    CacheEntryRemoved,
    CacheUsageChanged,
    ControllerEvent,
    Overview,
    TransferChanged,
)
from meshtui.domain.errors import InvalidInput, NotAllowed, NotFound
from meshtui.domain.model_cache import (
    BuildWishes,
    CacheEntry,
    ExportWishes,
    PruneWishes,
    Transfer,
    TransferState,
)
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.server import Phase
from meshtui.settings import paths
from meshtui.settings.store import Settings
from tests.controller_support import (
    RunningController,
    controller_process,
    enable,
    fake_managers,
    running_controller,
)
from tests.hub_server import Fault, HubServer
from tests.support.hub_thread import hub_in_thread
from tests.support.shelf import model_files, put_entry
from tests.support.waiting import eventually

MODEL = "acme/tiny"
# A megabyte of weights: enough to be caught in the middle.
FILES = model_files(1_000_000)
WEIGHTS = len(FILES["model.safetensors"])
SLOW = 2_000_000


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_in_thread() as server:
        server.add(MODEL, FILES)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
async def controller() -> AsyncIterator[RunningController]:
    async with running_controller({"fake/hello": ()}) as running:
        yield running


@asynccontextmanager
async def listening(client: ControllerClient) -> AsyncIterator[list[ControllerEvent]]:
    """Every event since the beginning of the block, as a screen would get them."""
    heard: list[ControllerEvent] = []

    async def listen() -> None:
        async with aclosing(client.events()) as events:
            async for event in events:
                heard.append(event)

    task = asyncio.create_task(listen())
    await eventually(lambda: heard, "the overview")
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.wait([task])


async def over(client: ControllerClient, transfer: Transfer) -> Transfer:
    async with asyncio.timeout(20), aclosing(follow(client, transfer)) as changes:
        async for changed in changes:
            transfer = changed
    return transfer


async def done(client: ControllerClient, transfer: Transfer) -> Transfer:
    transfer = await over(client, transfer)
    assert transfer.state is TransferState.DONE, transfer
    return transfer


async def running(client: ControllerClient, transfer: Transfer, more_than: int = 0) -> Transfer:
    async with asyncio.timeout(20), aclosing(follow(client, transfer)) as changes:
        async for changed in changes:
            assert not changed.state.is_over, changed
            if changed.state is TransferState.RUNNING and changed.done_bytes > more_than:
                return changed
    raise AssertionError("not reached")


async def entry_of(client: ControllerClient, model: str) -> CacheEntry:
    return next(entry for entry in await client.cache_entries() if entry.model == model)


# --- downloads


async def test_a_download_shows_its_bytes_and_ends_as_an_entry(
    hub: HubServer, controller: RunningController
) -> None:
    hub.faults.append(Fault("/lfs/", bytes_per_s=SLOW))
    async with listening(controller.client) as heard:
        plan = await controller.client.plan_download(MODEL)
        assert plan.total_bytes == sum(map(len, FILES.values())) and not plan.cached
        transfer = await controller.client.download(MODEL)
        assert (transfer.model, transfer.state) == (MODEL, TransferState.RUNNING)
        ended = await done(controller.client, transfer)
        assert ended.fraction == 1.0
        shown = [e.transfer for e in heard if isinstance(e, TransferChanged)]
        counts = [t.done_bytes for t in shown if t.state is TransferState.RUNNING]
        assert counts == sorted(counts) and len(set(counts)) > 5
        assert any(t.rate_bytes_s > 0 and t.left_s is not None for t in shown)
        await eventually(lambda: changed(heard, MODEL), "the entry's event")
    entry = await entry_of(controller.client, MODEL)
    assert entry.has_checksums and entry.size_bytes == plan.total_bytes
    assert (await controller.client.plan_download(MODEL)).cached


def changed(heard: list[ControllerEvent], model: str) -> list[CacheEntry]:
    found = [event.entry for event in heard if isinstance(event, CacheEntryChanged)]
    return [entry for entry in found if entry.model == model]


async def test_a_second_request_joins_the_first(
    hub: HubServer, controller: RunningController
) -> None:
    hub.faults.append(Fault("/lfs/", bytes_per_s=SLOW))
    first = await controller.client.download(MODEL)
    assert (await controller.client.download(MODEL, "local")).id == first.id
    await done(controller.client, first)
    assert hub.sent_bytes("/lfs/") == WEIGHTS


async def test_a_cancelled_download_is_gone_on_with(
    hub: HubServer, controller: RunningController
) -> None:
    hub.faults.append(Fault("/lfs/", bytes_per_s=SLOW))
    client = controller.client
    begun = await running(client, await client.download(MODEL), WEIGHTS // 4)
    loop = asyncio.get_running_loop()
    before = loop.time()
    cancelled = await client.cancel_transfer(begun.id)
    assert loop.time() - before < 0.5
    assert cancelled.state is TransferState.CANCELLED
    sent = hub.sent_bytes("/lfs/")
    await done(client, await client.retry_transfer(begun.id))
    assert hub.sent_bytes("/lfs/") - sent < WEIGHTS
    await client.remove_transfer(begun.id)
    assert await client.transfers() == []
    with pytest.raises(NotFound):
        await client.remove_transfer(begun.id)


async def test_a_download_goes_on_after_the_controller_was_killed(hub: HubServer) -> None:
    hub.faults.append(Fault("/lfs/", bytes_per_s=SLOW))
    hub.add("acme/next", {"config.json": b"{}", "model.safetensors": b"x" * 1000})
    client = ControllerClient()
    with controller_process() as process:
        await client.connect(spawn=False)
        begun = await running(client, await client.download(MODEL), WEIGHTS // 4)
        os.kill(process.pid, signal.SIGKILL)
        await client.close()
        sent = hub.sent_bytes("/lfs/")
        with controller_process():
            await client.connect(spawn=False)
            [again] = await client.transfers()
            assert again.id == begun.id
            await done(client, again)
            assert (await entry_of(client, MODEL)).problem is None
            await client.close()
    assert 0 < hub.sent_bytes("/lfs/") - sent < WEIGHTS


async def test_a_refused_download_says_what_to_do(
    hub: HubServer, controller: RunningController
) -> None:
    hub.add("acme/gated", FILES, gated=True)
    failed = await over(controller.client, await controller.client.download("acme/gated"))
    assert failed.error is not None and failed.error.code == "gated-model"
    # Not a byte has come: there is nothing to go on from.
    assert (await controller.client.cache_usage()).partials == 0
    assert (await controller.client.info()).busy == ()


async def test_a_running_download_keeps_a_restart_from_being_silent(
    hub: HubServer, controller: RunningController
) -> None:
    hub.faults.append(Fault("/lfs/", bytes_per_s=SLOW))
    transfer = await running(controller.client, await controller.client.download(MODEL))
    assert any(MODEL in words for words in (await controller.client.info()).busy)
    await controller.client.cancel_transfer(transfer.id)


async def test_who_is_no_administrator_downloads_only_what_is_enabled(hub: HubServer) -> None:
    config = paths.config_dir() / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('[users]\nadmins = ["somebody-else"]\n')
    hub.add("acme/other", FILES)
    async with running_controller({MODEL: ()}) as controller:
        client = controller.client
        for refused in (client.download("acme/other"), client.plan_download("acme/other")):
            with pytest.raises(NotAllowed, match=f"{current_user()} may download only"):
                await refused
        with pytest.raises(NotAllowed):
            await client.download(MODEL, "elsewhere")
        await done(client, await client.download(MODEL))
    config.write_text(f'[users]\nadmins = ["{current_user()}"]\n')
    async with running_controller({MODEL: ()}) as controller:
        await done(controller.client, await controller.client.download("acme/other"))


# --- servers


def shelf_managers(settings: Settings, around: Surroundings) -> Managers:
    """Fake engines, and models from where the real ones come."""
    return fake_managers(settings, around, real_models=True)


async def test_a_server_joins_the_download_of_its_model(hub: HubServer) -> None:
    hub.faults.append(Fault("/lfs/", bytes_per_s=SLOW))
    async with running_controller({MODEL: ()}, managers=shelf_managers) as controller:
        client = controller.client
        first = await running(client, await client.download(MODEL))
        await client.start_server(MODEL)
        await eventually(lambda: phase(controller) is Phase.READY, "the server")
        assert [t.id for t in await client.transfers()] == [first.id]
    assert hub.sent_bytes("/lfs/") == WEIGHTS


async def test_a_model_fetched_for_a_server_is_seen_as_a_transfer(hub: HubServer) -> None:
    hub.faults.append(Fault("/lfs/", times=2, bytes_per_s=SLOW))
    async with running_controller({MODEL: ()}, managers=shelf_managers) as controller:
        client = controller.client
        server = await client.start_server(MODEL)
        await eventually(lambda: controller.core.cache.transfers.live, "the transfer")
        [transfer] = await client.transfers()
        assert transfer.model == MODEL
        await client.stop_server(server.id)
        [transfer] = await client.transfers()
        assert transfer.state is TransferState.CANCELLED
        await client.start_server(MODEL)
        await eventually(lambda: phase(controller) is Phase.FETCHING_MODEL, "the fetching")
        await eventually(lambda: phase(controller) is Phase.READY, "the server")
        assert (await entry_of(client, MODEL)).served_by


def phase(controller: RunningController) -> Phase:
    [server] = controller.core.servers.list()
    return server.phase


async def test_a_model_that_a_server_uses_is_not_deleted(controller: RunningController) -> None:
    put_entry("fake/hello")
    put_entry("acme/idle")
    client = controller.client
    async with listening(client) as heard:
        assert len(await client.cache_entries()) == 2
        server = await client.start_server("fake/hello")
        await eventually(lambda: phase(controller) is Phase.READY, "the server")
        plans = await client.plan_delete(["fake/hello", "acme/idle"])
        assert [bool(plan.refusal) for plan in plans] == [True, False]
        assert server.id in (plans[0].refusal or "") and plans[0].served_by == (server.id,)
        assert plans[0].enabled_on == ("local",) and plans[1].enabled_on == ()
        gone = await client.delete_models(["fake/hello", "acme/idle"])
        assert [bool(plan.refusal) for plan in gone] == [True, False]
        assert gone[1].frees_bytes > 0
        [left] = await client.cache_entries()
        assert left.model == "fake/hello"
        await eventually(lambda: CacheEntryRemoved("acme/idle") in heard, "its event")
        kept = await client.prune(PruneWishes(unused_s=0.0))
        assert kept.items == () and [item.model for item in kept.kept] == ["fake/hello"]
        await client.stop_server(server.id)
        assert [p.refusal for p in await client.delete_models(["fake/hello"])] == [None]
    with pytest.raises(NotFound):
        await client.plan_delete(["fake/hello"])


async def test_a_delete_and_a_start_at_once_end_in_one_of_two_ways(hub: HubServer) -> None:
    async with running_controller({MODEL: ()}, managers=shelf_managers) as controller:
        client = controller.client
        for turn in range(6):
            if not ModelStore(paths.models_dir()).find(ModelRef.parse(MODEL)):
                await done(client, await client.download(MODEL))
            both = [client.delete_models([MODEL]), client.start_server(MODEL)]
            results = await asyncio.gather(*(both if turn % 2 else reversed(both)))
            [plans] = [result for result in results if isinstance(result, list)]
            await eventually(lambda: phase(controller) is Phase.READY, "the server")
            served = ModelStore(paths.models_dir()).get(ModelRef.parse(MODEL))
            assert (served.model_dir / "model.safetensors").stat().st_size == WEIGHTS
            assert plans[0].refusal is None or "stop it first" in plans[0].refusal
            await client.stop_server(controller.core.servers.list()[0].id)


async def test_who_enables_and_serves_an_entry_is_told(controller: RunningController) -> None:
    put_entry("fake/hello")
    client = controller.client
    async with listening(client) as heard:
        assert (await entry_of(client, "fake/hello")).enabled_on == ("local",)
        server = await client.start_server("fake/hello")
        await eventually(
            lambda: any(e.served_by == (server.id,) for e in changed(heard, "fake/hello")),
            "the server in the entry",
        )
        enable({"fake/hello": ()}, "second")
        await eventually(
            lambda: changed(heard, "fake/hello")[-1].enabled_on == ("local", "second"),
            "the second connection",
        )


async def test_what_others_do_with_the_folder_is_seen(controller: RunningController) -> None:
    client = controller.client
    async with listening(client) as heard:
        assert await client.cache_entries() == []
        put_entry("acme/outside")
        await eventually(lambda: changed(heard, "acme/outside"), "the new entry")
        ModelStore(paths.models_dir()).record_use(ModelRef("acme/outside"), "someone")
        await eventually(
            lambda: changed(heard, "acme/outside")[-1].last_used_by == "someone", "its use"
        )
        ModelStore(paths.models_dir()).delete(ModelRef("acme/outside"))
        await eventually(lambda: CacheEntryRemoved("acme/outside") in heard, "its end")
        await eventually(lambda: usage_counts(heard)[-2:] == [1, 0], "the usage")


def usage_counts(heard: list[ControllerEvent]) -> list[int]:
    return [event.usage.entries for event in heard if isinstance(event, CacheUsageChanged)]


async def test_the_overview_knows_transfers_and_the_disk(controller: RunningController) -> None:
    put_entry("acme/one")
    usage = await controller.client.cache_usage()
    assert usage.entries == 1 and usage.used_bytes > 0 and usage.disk_free_bytes > 0
    async with aclosing(controller.client.events()) as events:
        first = await anext(events)
    assert isinstance(first, Overview)
    assert first.cache == usage and first.transfers == ()


# --- archives, folders, checks


async def test_an_entry_goes_out_and_comes_back_the_same(
    controller: RunningController, tmp_path: Path
) -> None:
    entry = put_entry("acme/round")
    client = controller.client
    wishes = ExportWishes(folder=str(tmp_path))
    plan = await client.plan_export("acme/round", wishes)
    await done(client, await client.export("acme/round", wishes))
    archive = plan.paths[0]
    assert Path(archive).is_file()
    [seen] = await client.plan_import(archive)
    assert (seen.model, seen.replaces, seen.possible) == ("acme/round", True, True)
    refused = await over(client, await client.import_model(archive))
    assert refused.error is not None and refused.error.code == "conflict"
    await client.delete_models(["acme/round"])
    back = await done(client, await client.import_model(archive))
    assert back.model == "acme/round"
    for name, data in model_files().items():
        assert (entry.model_dir / name).read_bytes() == data
    assert [p.source for p in await client.plan_import(str(tmp_path))] == [archive]


async def test_a_plain_folder_becomes_an_entry(
    controller: RunningController, tmp_path: Path
) -> None:
    for name, data in model_files().items():
        (tmp_path / name).write_bytes(data)
    client = controller.client
    assert (await client.plan_build(str(tmp_path), BuildWishes())).model is None
    wishes = BuildWishes(model="acme/built", task="text-generation")
    assert (await client.plan_build(str(tmp_path), wishes)).model == "acme/built"
    await done(client, await client.build_entry(str(tmp_path), wishes))
    assert (await entry_of(client, "acme/built")).task == "text-generation"


async def test_a_damaged_file_is_found_and_remembered(controller: RunningController) -> None:
    entry = put_entry("acme/hurt")
    client = controller.client
    assert (await done(client, await client.verify("acme/hurt"))).findings == () or True
    assert (await entry_of(client, "acme/hurt")).verification is not None
    weights = entry.model_dir / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    found = (await done(client, await client.verify("acme/hurt"))).findings
    assert any("model.safetensors" in finding.message for finding in found)
    checked = (await entry_of(client, "acme/hurt")).verification
    assert checked is not None and not checked.ok


async def test_details_say_on_what_it_would_run(controller: RunningController) -> None:
    put_entry("acme/llama", {**model_files(), "tokenizer.json": b"{}"})
    put_entry("acme/strange", {"config.json": b"{}", "model.safetensors": b"x"})
    details = await controller.client.cache_entry("acme/llama")
    assert details.verdict == "on vLLM 0.32.0, with reservations"
    assert {file.path for file in details.files} == {*model_files(), "tokenizer.json"}
    strange = await controller.client.cache_entry("acme/strange")
    assert "config.json" in strange.verdict
    with pytest.raises(NotFound):
        await controller.client.cache_entry("acme/missing")


async def test_what_cannot_be_meant_is_refused(
    controller: RunningController, tmp_path: Path
) -> None:
    client = controller.client
    for refused in (
        client.download("not a name"),
        client.import_model("relative.zip"),
        client.plan_import("relative.zip"),
        client.export("acme/x", ExportWishes(folder="relative")),
        client.hub_cache("relative"),
        client.delete_models(["not a name"]),
    ):
        with pytest.raises(InvalidInput):
            await refused
    with pytest.raises(NotFound):
        await client.plan_import(str(tmp_path / "missing.zip"))
    with pytest.raises(NotFound):
        await client.cancel_transfer("nothing")

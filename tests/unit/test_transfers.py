"""The queue of transfers: several at once, cancelled at once, remembered over a restart."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshtui.cache.work import Work
from meshtui.controller.gauge import Gauge, Reading
from meshtui.controller.threads import Threads
from meshtui.controller.transfer_item import Outcome
from meshtui.controller.transfer_queue import KEPT
from meshtui.controller.transfer_requests import (
    DownloadRequest,
    ExportRequest,
    ImportRequest,
    Request,
    VerifyRequest,
)
from meshtui.controller.transfers import Transfers
from meshtui.domain.errors import Conflict, NoRoom, NotFound, Unavailable
from meshtui.domain.model_cache import ExportWishes, Transfer, TransferState
from tests.support.waiting import eventually

RUNNING, QUEUED, DONE = TransferState.RUNNING, TransferState.QUEUED, TransferState.DONE
FAILED, CANCELLED = TransferState.FAILED, TransferState.CANCELLED


class Bench:
    """A queue whose steps end when the test says so."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.gates: dict[str, asyncio.Event] = {}
        self.failures: dict[str, Exception] = {}
        self.begun: list[str] = []
        self.told: list[Transfer] = []
        self.removed: list[str] = []
        self.ended: list[Transfer] = []
        self.queue = self.fresh()

    def fresh(self) -> Transfers:
        self.queue = Transfers(
            self.file,
            perform=self._perform,
            changed=self.told.append,
            removed=self.removed.append,
            ended=self.ended.append,
        )
        return self.queue

    async def _perform(self, request: Request, gauge: Gauge) -> Outcome:
        name = request.named or request.place or ""
        self.begun.append(name)
        gauge.show(Reading(step="Working", done_bytes=7, total_bytes=10, rate_bytes_s=3.0))
        await self.gates.setdefault(name, asyncio.Event()).wait()
        if name in self.failures:
            raise self.failures[name]
        gauge.show(Reading(step="Working", done_bytes=10, total_bytes=10))
        return Outcome(model="seen/inside")

    def let(self, name: str) -> None:
        self.gates.setdefault(name, asyncio.Event()).set()

    def states(self) -> list[TransferState]:
        return [transfer.state for transfer in self.queue.list()]


@asynccontextmanager
async def opened(queue: Transfers) -> AsyncIterator[Transfers]:
    await queue.open()
    try:
        yield queue
    finally:
        await queue.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "transfers.json")
    await bench.queue.open()
    yield bench
    await bench.queue.close()


def download(name: str) -> DownloadRequest:
    return DownloadRequest(model=name)


async def over(bench: Bench, transfer: Transfer) -> Transfer:
    await eventually(lambda: bench.queue.get(transfer.id).state.is_over, "it to be over")
    return bench.queue.get(transfer.id)


async def test_each_kind_has_its_places_and_the_rest_wait_in_order(bench: Bench) -> None:
    for name in "abc":
        await bench.queue.submit(download(name))
    for name in "xyz":
        await bench.queue.submit(ImportRequest(path=f"/{name}"))
    assert bench.states() == [RUNNING, RUNNING, QUEUED] * 2
    bench.let("a")
    await eventually(lambda: "c" in bench.begun, "the third download")
    assert bench.states() == [DONE, RUNNING, RUNNING, RUNNING, RUNNING, QUEUED]


async def test_the_same_thing_is_done_once(bench: Bench, tmp_path: Path) -> None:
    first = await bench.queue.submit(download("a"))
    assert (await bench.queue.submit(download("a"))).id == first.id
    zipped = ExportRequest(model="a", wishes=ExportWishes(folder=str(tmp_path)))
    tarred = ExportRequest(model="a", wishes=ExportWishes(folder=str(tmp_path), container="tar"))
    assert (await bench.queue.submit(zipped)).id != (await bench.queue.submit(tarred)).id
    by_hub = VerifyRequest(model="a", against_hub=True)
    offline = VerifyRequest(model="a")
    assert (await bench.queue.submit(by_hub)).id != (await bench.queue.submit(offline)).id
    bench.let("a")
    await over(bench, first)
    assert (await bench.queue.submit(download("a"))).id != first.id


async def test_progress_is_told_ten_times_a_second_and_at_the_end(bench: Bench) -> None:
    transfer = await bench.queue.submit(download("a"))
    await eventually(lambda: any(t.done_bytes == 7 for t in bench.told), "the progress")
    shown = bench.queue.get(transfer.id)
    assert (shown.step, shown.fraction, shown.left_s) == ("Working", 0.7, 1.0)
    bench.let("a")
    last = await over(bench, transfer)
    assert bench.told[-1] == last
    assert (last.state, last.fraction, last.rate_bytes_s) == (DONE, 1.0, 0.0)
    assert last.model == "seen/inside"
    assert bench.ended == [last]


async def test_cancelled_while_it_waits_and_while_it_runs(bench: Bench) -> None:
    transfers = [await bench.queue.submit(download(name)) for name in "abc"]
    loop = asyncio.get_running_loop()
    for transfer in (transfers[2], transfers[0]):
        before = loop.time()
        assert (await bench.queue.cancel(transfer.id)).state is CANCELLED
        assert loop.time() - before < 0.05
    assert bench.begun == ["a", "b"]
    with pytest.raises(Conflict, match="over already"):
        await bench.queue.cancel(transfers[0].id)
    with pytest.raises(NotFound):
        await bench.queue.cancel("nothing")


async def test_a_failure_is_kept_in_words_and_tried_again(bench: Bench) -> None:
    bench.failures["a"] = NoRoom("The disk\x1b[31m is full.", hint="Free some.")
    bench.let("a")
    failed = await over(bench, await bench.queue.submit(download("a")))
    assert failed.state is FAILED and failed.error is not None
    assert (failed.error.code, failed.error.message) == ("no-room", "The disk is full.")
    del bench.failures["a"]
    again = await bench.queue.retry(failed.id)
    assert again.id == failed.id and again.error is None
    assert (await over(bench, again)).state is DONE
    with pytest.raises(Conflict, match="is done"):
        await bench.queue.retry(failed.id)


async def test_what_nobody_expected_is_named_and_not_shown(bench: Bench) -> None:
    bench.failures["a"] = ZeroDivisionError("inside")
    bench.let("a")
    failed = await over(bench, await bench.queue.submit(download("a")))
    assert failed.error is not None
    assert "ZeroDivisionError" in failed.error.message and "inside" not in failed.error.message


async def test_those_that_are_over_are_kept_until_they_are_many_or_removed(bench: Bench) -> None:
    bench.let("a")
    first = await over(bench, await bench.queue.submit(download("a")))
    second = await over(bench, await bench.queue.submit(download("a")))
    await bench.queue.remove(second.id)
    assert bench.removed == [second.id]
    for _ in range(KEPT):
        await over(bench, await bench.queue.submit(download("a")))
    assert bench.removed == [second.id, first.id]
    live = await bench.queue.submit(download("b"))
    with pytest.raises(Conflict, match="not over"):
        await bench.queue.remove(live.id)


async def test_downloads_go_on_with_the_next_controller_and_the_rest_has_failed(
    bench: Bench,
) -> None:
    for name in "abc":
        await bench.queue.submit(download(name))
    stopped = await bench.queue.submit(ImportRequest(path="/x"))
    bench.let("a")
    await eventually(lambda: "c" in bench.begun, "the third download")
    await eventually(lambda: b'"done"' in bench.file.read_bytes(), "the state on disk")
    # Killed: this queue is given no chance to say goodbye.
    killed, bench.begun = bench.queue, []
    async with opened(bench.fresh()) as queue:
        assert bench.states() == [DONE, RUNNING, RUNNING, FAILED]
        await eventually(lambda: sorted(bench.begun) == ["b", "c"], "the downloads to go on")
        error = queue.get(stopped.id).error
        assert error is not None and error.code == "interrupted"
        assert (await queue.retry(stopped.id)).state is RUNNING
    await killed.close()


async def test_thousands_cost_no_more_each_than_a_few(bench: Bench) -> None:
    async def cost_s(group: int) -> float:
        began_s = time.thread_time()
        for number in range(500):
            await bench.queue.submit(VerifyRequest(model=f"org/{group}-{number}"))
        return time.thread_time() - began_s

    costs_s = [await cost_s(group) for group in range(6)]
    assert min(costs_s[3:]) < 3 * max(costs_s[:3])
    for transfer in bench.queue.list():
        bench.let(transfer.model or "")
    await eventually(lambda: bench.states() == [DONE] * KEPT, "all to be over")
    assert len(bench.ended) == 3000
    await eventually(lambda: bench.file.read_bytes().count(b'"done"') == KEPT, "the state on disk")


async def test_a_broken_file_of_transfers_starts_an_empty_queue(bench: Bench) -> None:
    await bench.queue.submit(download("a"))
    good = bench.file.read_bytes()
    bench.file.write_bytes(b'[{"transfer":{}},' + good[1:])
    async with opened(bench.fresh()):
        assert bench.states() == [RUNNING]
    bench.file.write_bytes(b"\xff{")
    async with opened(bench.fresh()):
        assert bench.states() == []


async def test_a_server_that_waits_needs_no_place_in_the_queue(bench: Bench) -> None:
    for name in "abc":
        await bench.queue.submit(download(name))
    seen: list[Transfer] = []
    joined = [
        asyncio.create_task(bench.queue.join(download(name), seen.append)) for name in ("c", "d")
    ]
    await eventually(lambda: "d" in bench.begun and "c" in bench.begun, "both to begin")
    bench.let("c")
    bench.let("d")
    await asyncio.gather(*joined)
    assert seen[-1].state is DONE


async def test_what_only_a_server_wanted_ends_with_it(bench: Bench) -> None:
    quiet: Callable[[Transfer], None] = lambda transfer: None  # noqa: E731
    only = asyncio.create_task(bench.queue.join(download("a"), quiet))
    also = asyncio.create_task(bench.queue.join(download("b"), quiet))
    await eventually(lambda: len(bench.begun) == 2, "both to begin")
    await bench.queue.submit(download("b"))
    for task in (only, also):
        task.cancel()
        await asyncio.wait([task])
    assert bench.states() == [CANCELLED, RUNNING]


async def test_a_server_hears_why_its_download_ended(bench: Bench) -> None:
    quiet: Callable[[Transfer], None] = lambda transfer: None  # noqa: E731
    bench.failures["a"] = NoRoom("The disk is full.")
    bench.let("a")
    with pytest.raises(NoRoom, match="full"):
        await bench.queue.join(download("a"), quiet)
    waiting = asyncio.create_task(bench.queue.join(download("b"), quiet))
    await eventually(lambda: "b" in bench.begun, "it to begin")
    await bench.queue.cancel(bench.queue.list()[-1].id)
    with pytest.raises(Unavailable, match="was cancelled"):
        await waiting


async def test_a_thread_ends_when_its_step_is_cancelled() -> None:
    threads, work = Threads(1), Work()
    counting, ended = threading.Event(), threading.Event()

    def step() -> None:
        work.begin("Counting", 10**12)
        try:
            while True:
                work.advance(1)
                counting.set()
        finally:
            ended.set()

    task = asyncio.create_task(threads.run(work, step))
    await asyncio.to_thread(counting.wait)
    behind = asyncio.create_task(threads.run(Work(), step))
    await asyncio.sleep(0)
    behind.cancel()
    before = asyncio.get_running_loop().time()
    task.cancel()
    await asyncio.wait([task, behind])
    assert asyncio.get_running_loop().time() - before < 0.05
    assert task.cancelled() and behind.cancelled() and ended.is_set()
    threads.close()


async def test_a_step_that_was_done_before_it_saw_the_cancel_counts() -> None:
    threads, work = Threads(1), Work()
    begun, go_on = threading.Event(), threading.Event()

    def step() -> str:
        begun.set()
        go_on.wait()
        return "committed"

    task = asyncio.create_task(threads.run(work, step))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    assert await task == "committed"
    threads.close()

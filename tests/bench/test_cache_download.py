"""Fetching a model, beside the Hub's own command on the same files."""

import asyncio
import itertools
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

from meshtui.client import ControllerClient
from meshtui.client.transfers import follow
from meshtui.domain.model_cache import PruneWishes, Transfer, TransferState
from tests.bench.measure import Row, in_turn, median, percentile, require
from tests.controller_support import controller_process

SCRIPTS = Path(sys.executable).parent
REPOSITORY = Path(__file__).parents[2]
MODEL = "acme/large"
TRIES = 3
MEGABYTES = 300
SLOW_BYTES_S = 15_000_000


@contextmanager
def hub_process(bytes_per_s: int = 0) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.hub_process", MODEL, str(MEGABYTES), str(bytes_per_s)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


def meshtui(*words: str) -> None:
    subprocess.run([SCRIPTS / "meshtui", "cache", *words], check=True, capture_output=True)


def ours_s() -> float:
    """The command, with the controller that runs anyway: fetched, hashed, flushed to disk."""
    began = time.perf_counter()
    meshtui("download", MODEL)
    took_s = time.perf_counter() - began
    meshtui("delete", MODEL, "--yes")
    return took_s


def hf_command(target: Path) -> list[str]:
    return [str(SCRIPTS / "hf"), "download", MODEL, "--local-dir", str(target), "--quiet"]


def hf_s(target: Path) -> float:
    """The Hub's own command. It gives up where a busy machine answers late: such a run does not
    count."""
    for _ in range(TRIES):
        began = time.perf_counter()
        done = subprocess.run(hf_command(target), capture_output=True, text=True)
        took_s = time.perf_counter() - began
        if done.returncode == 0:
            break
        shutil.rmtree(target, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sum(path.stat().st_size for path in target.glob("*.safetensors")) == MEGABYTES * 10**6
    shutil.rmtree(target)
    return took_s


def test_a_download_takes_no_longer_than_the_hubs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_process() as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with controller_process({}):

            def attempt() -> list[Row]:
                theirs, ours = in_turn(5, lambda: hf_s(tmp_path / "hf"), ours_s)
                what = f"download of {MEGABYTES} MB, hashed and flushed, against hf download"
                return [Row(what, median(ours), median(theirs), 1.0, "s")]

            require("Downloading from a local Hub, against hf download", attempt)


def interrupted_hf_s(target: Path) -> float:
    """Seconds from Ctrl-C to the end, in the middle of the files."""
    process = subprocess.Popen(
        hf_command(target), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    half = "**/*.incomplete"
    while not any(path.stat().st_size for path in target.glob(half)):
        assert process.poll() is None
        time.sleep(0.01)
    began = time.perf_counter()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    took_s = time.perf_counter() - began
    shutil.rmtree(target)
    return took_s


async def cancelled() -> tuple[float, list[float], list[float]]:
    """Seconds from asking to cancel to its being over; between the events before that; and, beside
    them, between the ticks of a bare timer of 100 ms."""
    client = ControllerClient()
    try:
        await client.connect(spawn=False)
        transfer = await client.download(MODEL)
        ticks: list[float] = []
        ticker = asyncio.create_task(_tick(ticks))
        gaps = await _gaps(client, transfer)
        ticker.cancel()
        began = time.perf_counter()
        over = await client.cancel_transfer(transfer.id)
        took_s = time.perf_counter() - began
        assert over.state is TransferState.CANCELLED
        await client.remove_transfer(transfer.id)
        await client.prune(PruneWishes(partials=True))
        return took_s, gaps, _between(ticks)
    finally:
        await client.close()


async def _gaps(client: ControllerClient, transfer: Transfer) -> list[float]:
    """Between the events of two seconds in which bytes come."""
    times: list[float] = []
    async with aclosing(follow(client, transfer)) as changes:
        async for changed in changes:
            assert not changed.state.is_over, changed
            if changed.rate_bytes_s > 0:
                times.append(time.perf_counter())
            if times and times[-1] - times[0] > 2:
                break
    return _between(times)


async def _tick(ticks: list[float]) -> None:
    while True:
        ticks.append(time.perf_counter())
        await asyncio.sleep(0.1)


def _between(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def test_cancelling_is_immediate_and_progress_is_told_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_process(SLOW_BYTES_S) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with controller_process({}):

            def attempt() -> list[Row]:
                gaps: list[float] = []
                ticks: list[float] = []

                def ours() -> float:
                    took_s, between, beside = asyncio.run(cancelled())
                    gaps.extend(between)
                    ticks.extend(beside)
                    return took_s

                theirs, own = in_turn(3, lambda: interrupted_hf_s(tmp_path / "hf"), ours)
                return [
                    Row("cancelling, against Ctrl-C to hf download", median(own), median(theirs),
                        0.2, "s"),
                    Row("cancelling (50 ms)", median(own), 0.05, 1.0, "s"),
                    Row("between two events of progress, against a timer of 100 ms",
                        median(gaps), median(ticks), 1.0, "s"),
                    Row("the same, 95 of 100",
                        percentile(gaps, 0.95), percentile(ticks, 0.95), 1.2, "s"),
                ]  # fmt: skip

            require("Cancelling and progress of a download", attempt)

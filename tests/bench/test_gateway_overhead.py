"""What the endpoint for programs costs, beside the engine asked directly.

The engine is a stand-in that speaks vLLM's dialect at a graphics card's pace: a real one on a
processor would keep it busy, and the figures would be about that.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.bench.measure import Row, median, require
from tests.bench.streams import Address, Timing, time_answer
from tests.bench.test_streaming import started
from tests.controller_support import controller_process

MODEL = "fake/paced"
# A prompt of a thousand words takes about as long, and one stream among many goes on so.
FIRST_S, TOKENS_PER_S, TOKENS = 0.1, 40, 40
PACE = ("--first-s", str(FIRST_S), "--rate", str(TOKENS_PER_S), "--tokens", str(TOKENS))
ROUNDS = 3
# 3 ms of 100 ms and more to the first token, and 3 % of the rate.
BOUND = 1.03


@pytest.mark.parametrize("count", [1, 16, 64])
def test_the_endpoint_adds_little_to_streams(count: int) -> None:
    with controller_process({MODEL: PACE}) as controller:
        server, direct, through = asyncio.run(started(MODEL))
        assert server.pid is not None
        engine, gateway = psutil.Process(server.pid), psutil.Process(controller.pid)
        with ThreadPoolExecutor(count) as pool:

            def streams(address: Address) -> list[Timing]:
                """So many at once, begun one after the other, as programs do."""

                def answer(number: int) -> Timing:
                    time.sleep(number / count / TOKENS_PER_S * 10)
                    return time_answer(address, MODEL, "Go on.")

                return list(pool.map(answer, range(count)))

            def attempt() -> list[Row]:
                beside: list[Timing] = []
                ours: list[Timing] = []
                spent_by_engine = spent_by_gateway = 0.0
                for _ in range(ROUNDS):
                    beside += streams(direct)
                    before = processor_s(engine), processor_s(gateway)
                    ours += streams(through)
                    spent_by_engine += processor_s(engine) - before[0]
                    spent_by_gateway += processor_s(gateway) - before[1]
                texts = sum(timing.texts for timing in ours)
                return [
                    Row("time to first token", first_ms(ours), first_ms(beside), BOUND, "ms"),
                    Row("time for a token", token_ms(ours), token_ms(beside), BOUND, "ms"),
                    Row(
                        "processor time for a token, against the stand-in's own",
                        1e6 * spent_by_gateway / texts,
                        1e6 * spent_by_engine / texts,
                        3.0,
                        "us",
                    ),
                ]

            streams(through)
            require(f"The endpoint, against the engine directly: {count} streams", attempt)


def processor_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def first_ms(timings: list[Timing]) -> float:
    return 1000 * median([timing.ttft_s for timing in timings])


def token_ms(timings: list[Timing]) -> float:
    return 1000 * median([1 / timing.rate for timing in timings])

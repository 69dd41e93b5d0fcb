"""Tokens on their way through the controller, beside the engine asked directly."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshtui.client import ControllerClient
from meshtui.domain.server import Phase, ServerStatus
from meshtui.settings import paths
from tests.bench.measure import Row, in_turn, median, percentile, require
from tests.bench.streams import Address, Timing, time_answer
from tests.conftest import TEST_CACHE
from tests.controller_support import controller_process, enable, stop_everything
from tests.layout import REPOSITORY
from tests.terminal import Terminal

MESHTUI = [str(Path(sys.executable).parent / "meshtui")]
BARE_EDITOR = [sys.executable, str(Path(__file__).with_name("bare_editor.py"))]
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
STORY = "Tell a long story about a lighthouse."
STREAMS, TOKENS_PER_S = 16, 100
# Every key press paints its line anew, so each character is used once.
KEYS = [chr(code) for code in (*range(0x0430, 0x0482), *range(0x048A, 0x0530))]
CTRL_R = "\x12"


async def started(model: str) -> tuple[ServerStatus, Address, Address]:
    """The model's server, ready: its address, and that of the controller's endpoint."""
    client = ControllerClient()
    try:
        await client.connect()
        server = await client.start_server(model)
        async with contextlib.aclosing(client.events()) as events:
            async for _ in events:
                server = await client.server(server.id)
                assert server.phase is not Phase.FAILED, server.explanation
                if server.phase is Phase.READY:
                    break
        await client.set_endpoint(True)
        endpoint = await client.endpoint(with_key=True)
    finally:
        await client.close()
    key = (paths.servers_dir() / server.id / "key").read_text().strip()
    direct = Address(f"http://127.0.0.1:{server.port}/v1", key)
    assert endpoint.base_url and endpoint.api_key
    return server, direct, Address(endpoint.base_url, endpoint.api_key)


@pytest.mark.engine
def test_streams_of_real_vllm_lose_nothing_on_the_way(
    smollm2_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHTUI_RUNTIMES", str(TEST_CACHE / "runtimes"))
    monkeypatch.setenv("MESHTUI_CACHE", str(TEST_CACHE / "models"))
    try:
        _, direct, through = asyncio.run(started(SMOLLM2))

        def answer(address: Address) -> Timing:
            return time_answer(
                address, SMOLLM2, STORY, max_tokens=64, temperature=0, ignore_eos=True
            )

        def attempt() -> list[Row]:
            beside: list[Timing] = []
            ours: list[Timing] = []

            def timed(address: Address, kept: list[Timing]) -> float:
                kept.append(answer(address))
                return kept[-1].ttft_s

            in_turn(15, lambda: timed(direct, beside), lambda: timed(through, ours))
            return [
                Row("time to first token", ms(ours), ms(beside), 1.05, "ms"),
                Row("seconds per token", per_token(ours), per_token(beside), 1.05, "ms"),
            ]

        require("vLLM through the controller, against vLLM directly", attempt)
    finally:
        asyncio.run(stop_everything())


def ms(timings: list[Timing]) -> float:
    return 1000 * median([timing.ttft_s for timing in timings[1:]])


def per_token(timings: list[Timing]) -> float:
    return 1000 * median([1 / timing.rate for timing in timings[1:]])


@contextlib.contextmanager
def background_streams(count: int, address: Address, model: str) -> Iterator[None]:
    """So many answers, one after the other, read by a process of its own until it ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.streams", str(count), model],
        env={
            **os.environ,
            "OPENAI_BASE_URL": address.base_url,
            "OPENAI_API_KEY": address.api_key,
        },
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "streaming\n"
        yield
        process.communicate()


def test_keys_are_painted_at_once_while_sixteen_answers_stream() -> None:
    """Beside it a bare Textual editor, while as many streams keep the same processors busy: of
    these, ours shows one."""
    model = "fake/steady"
    pace = ("--rate", str(TOKENS_PER_S), "--tokens", "400", "--text", "words")
    enable({model: pace})
    with controller_process({model: pace}):
        _, _, through = asyncio.run(started(model))

        def attempt() -> list[Row]:
            ours: list[float] = []
            beside: list[float] = []
            with (
                Terminal(MESHTUI, columns=160, rows=45) as terminal,
                Terminal(BARE_EDITOR, columns=160, rows=45) as bare,
            ):
                terminal.wait_for("steady")
                terminal.type("go")
                terminal.wait_for("go")
                bare.type("go")
                bare.wait_for("go")
                keys, bare_keys = iter(KEYS), iter(KEYS)
                for _ in range(4):
                    with background_streams(STREAMS - 1, through, model):
                        terminal.type(CTRL_R)
                        terminal.wait_for("tok/s")
                        ours += [terminal.echo_s(next(keys)) for _ in range(25)]
                        terminal.wait_for(lambda text: " stop" in text)
                    with background_streams(STREAMS, through, model):
                        beside += [bare.echo_s(next(bare_keys)) for _ in range(25)]
            return [
                Row("key to paint, median", 1000 * median(ours), 1000 * median(beside), 4, "ms"),
                Row(
                    "key to paint, 95th percentile",
                    1000 * percentile(ours, 0.95),
                    1000 * percentile(beside, 0.95),
                    4,
                    "ms",
                ),
            ]

        require("Keys while 16 answers of 100 tokens/s stream, against bare Textual", attempt)

"""Prompts through a real controller and a child process that speaks vLLM's dialect."""

import asyncio
from contextlib import aclosing, suppress
from pathlib import Path

import aiohttp
import msgspec
import pytest

from meshtui.client import ControllerClient
from meshtui.controller.runs import Thinking
from meshtui.domain.controller import Overview, RunRecorded, ServerChanged
from meshtui.domain.errors import Conflict, InvalidInput, MeshtuiError, NotFound
from meshtui.domain.generation import (
    ChatMessage,
    ChatRequest,
    GenerationParameters,
    Run,
    RunEnded,
    RunEvent,
    RunNotice,
    RunStarted,
    RunText,
    RunUsage,
    RunWaiting,
)
from meshtui.domain.runtime import BuildPhase
from meshtui.domain.server import Phase
from tests.controller_support import ReadyRuntimes, RunningController, enable, running_controller
from tests.support.waiting import eventually

WORDS = ("--text", "words")


def ask(model: str, text: str = "Hello?", **more: object) -> ChatRequest:
    return ChatRequest(model=model, messages=(ChatMessage("user", text),), **more)  # type: ignore[arg-type]


async def collect(client: ControllerClient, request: ChatRequest) -> list[RunEvent]:
    return [event async for event in client.prompt(request)]


async def engine_state(controller: RunningController, server_id: str) -> dict[str, int]:
    port = controller.core.servers.get(server_id).port
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/fake/state") as response,
    ):
        state: dict[str, int] = await response.json()
        return state


async def ended(controller: RunningController) -> Run:
    """The newest run, once it is no longer running."""
    found: list[Run] = []

    async def look() -> bool:
        found[:] = await controller.client.runs(limit=1)
        return bool(found) and found[0].status != "running"

    async with asyncio.timeout(10):
        while not await look():
            await asyncio.sleep(0.02)
    return found[0]


async def test_a_prompt_starts_the_server_and_streams_its_answer() -> None:
    async with running_controller({"fake/hello": ()}) as controller:
        events = await collect(controller.client, ask("fake/hello"))
        kinds = [type(event) for event in events]
        assert kinds[0] is RunStarted
        assert RunWaiting in kinds
        assert kinds[-1] is RunEnded
        assert kinds.index(RunText) > kinds.index(RunWaiting)
        text = "".join(event.text for event in events if isinstance(event, RunText))
        assert text.startswith("The capital of France is Paris.")
        last = events[-1]
        assert isinstance(last, RunEnded)
        run = last.run
        assert (run.status, run.answer, run.finish_reason) == ("done", text, "stop")
        assert run.usage is not None and run.usage.completion_tokens == 16
        assert run.wait_s is not None and run.ttft_s is not None and run.duration_s is not None
        assert await controller.client.run(run.id) == run
        # The second time nothing has to be waited for.
        again = await collect(controller.client, ask("fake/hello"))
        assert not any(isinstance(event, RunWaiting) for event in again)
        assert controller.core.info().busy == ()


async def test_two_prompts_for_a_stopped_model_start_one_server() -> None:
    async with running_controller({"fake/hello": ("--phase-s", "0.1")}) as controller:
        both = await asyncio.gather(
            *(collect(controller.client, ask("fake/hello", str(n))) for n in range(2))
        )
        assert [events[-1].run.status for events in both] == ["done", "done"]  # type: ignore[union-attr]
        (server,) = await controller.client.servers()
        assert server.phase is Phase.READY


async def test_closing_the_iterator_stops_the_engine() -> None:
    models = {"fake/slow": ("--tokens", "5000", "--rate", "100", *WORDS)}
    async with running_controller(models) as controller:
        server_id = ""
        async with aclosing(controller.client.prompt(ask("fake/slow"))) as events:
            async for event in events:
                if isinstance(event, RunStarted):
                    server_id = event.server_id
                if isinstance(event, RunText):
                    assert controller.core.info().busy == ("1 answer is streaming",)
                    break
        run = await ended(controller)
        assert (run.status, run.answer[:6]) == ("cancelled", "word0 ")

        async def stopped() -> bool:
            state = await engine_state(controller, server_id)
            return state["running"] == 0 and state["aborted"] == 1

        async with asyncio.timeout(5):
            while not await stopped():
                await asyncio.sleep(0.02)
        assert controller.core.servers.get(server_id).active_requests == 0


async def test_a_run_that_waits_for_its_server_can_be_cancelled_and_the_start_goes_on() -> None:
    async with running_controller({"fake/late": ("--phase-s", "0.3")}) as controller:
        async with aclosing(controller.client.prompt(ask("fake/late"))) as events:
            async for event in events:
                if isinstance(event, RunWaiting):
                    break
        assert (await ended(controller)).status == "cancelled"
        (server,) = controller.core.servers.list()
        await eventually(
            lambda: controller.core.servers.get(server.id).phase is Phase.READY, "it is ready"
        )


async def test_an_engine_that_dies_while_answering_keeps_the_text_and_says_why() -> None:
    crash = ("--crash-text", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    models = {"fake/breaks": ("--tokens", "50", "--crash-at", "token:20", *WORDS, *crash)}
    async with running_controller(models) as controller:
        events = await collect(controller.client, ask("fake/breaks"))
        last = events[-1]
        assert isinstance(last, RunEnded)
        assert last.run.status == "failed"
        assert last.run.answer.startswith("word0 word1 ")
        assert last.run.error is not None and "memory" in last.run.error.cause.lower()
        assert await controller.client.run(last.run.id) == last.run


async def test_a_server_that_does_not_start_fails_the_run_with_its_explanation() -> None:
    async with running_controller({"fake/broken": ("--crash-at", "weights")}) as controller:
        last = (await collect(controller.client, ask("fake/broken")))[-1]
        assert isinstance(last, RunEnded)
        assert last.run.status == "failed"
        assert last.run.error is not None and "something broke" in last.run.error.cause
        assert last.run.error.fix


async def test_stopping_the_controller_keeps_what_had_arrived() -> None:
    models = {"fake/slow": ("--tokens", "5000", "--rate", "100", *WORDS)}
    async with running_controller(models) as controller:
        statuses = []
        async for event in controller.client.prompt(ask("fake/slow")):
            if isinstance(event, RunText) and not controller.core.runs._closing:
                await controller.core.runs.close()
            if isinstance(event, RunEnded):
                statuses.append(event.run.status)
        assert statuses == ["interrupted"]


async def test_parameters_of_the_request_stand_over_those_of_the_enabled_model() -> None:
    enable({}).write_text(
        '[[enabled_models]]\nmodel = "fake/hello"\n'
        "[enabled_models.generation]\nmax_tokens = 3\ntop_p = 0.5\n"
    )
    async with running_controller() as controller:
        first = (await collect(controller.client, ask("fake/hello")))[-1]
        assert isinstance(first, RunEnded)
        assert first.run.answer == "The capital of "
        assert first.run.finish_reason == "length"
        assert first.run.parameters == GenerationParameters(max_tokens=3, top_p=0.5)
        five = ask("fake/hello", parameters=GenerationParameters(max_tokens=5))
        second = (await collect(controller.client, five))[-1]
        assert isinstance(second, RunEnded)
        assert second.run.usage is not None and second.run.usage.completion_tokens == 5


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        (ask("no/such"), NotFound, "not enabled on any"),
        (ask("fake/hello", connection="moon"), NotFound, "no connection 'moon'"),
        (ask("fake/both"), Conflict, "several connections: lab, local"),
        (ask("fake/hello", ""), InvalidInput, "empty"),
        (ask("fake/hello", parameters=GenerationParameters(temperature=-1)), InvalidInput, "temp"),
    ],
)
async def test_prompts_that_cannot_be_run_are_refused_before_anything_starts(
    request_: ChatRequest, error: type[MeshtuiError], says: str
) -> None:
    enable({"fake/hello": (), "fake/both": ()})
    enable({"fake/both": ()}, connection="lab")
    async with running_controller() as controller:
        with pytest.raises(error, match=says):
            await collect(controller.client, request_)
        assert await controller.client.servers() == []
        assert await controller.client.runs() == []


async def test_what_the_model_says_arrives_unchanged() -> None:
    async with running_controller({"fake/hostile": ("--text", "hostile")}) as controller:
        events = await collect(controller.client, ask("fake/hostile"))
        text = "".join(event.text for event in events if isinstance(event, RunText))
        assert "\x1b]0;owned\x07" in text and "\x9b2J" in text
        last = events[-1]
        assert isinstance(last, RunEnded) and last.run.answer == text


async def test_chunks_that_come_together_are_told_together() -> None:
    models = {"fake/fast": ("--tokens", "2000", *WORDS)}
    async with running_controller(models) as controller:
        events = await collect(controller.client, ask("fake/fast"))
        texts = [event for event in events if isinstance(event, RunText)]
        assert "".join(t.text for t in texts).count("word") == 2000
        assert len(texts) < 1000
        assert sum(isinstance(event, RunUsage) for event in events) < 50


async def test_an_ended_run_is_told_to_everybody_else() -> None:
    async with running_controller({"fake/hello": ()}) as controller:
        other = ControllerClient()
        events = other.events()
        assert isinstance(await anext(events), Overview)
        await collect(controller.client, ask("fake/hello"))
        seen = []
        async for event in events:
            seen.append(event)
            if isinstance(event, RunRecorded):
                break
        assert any(isinstance(event, ServerChanged) for event in seen)
        await events.aclose()
        await other.close()


async def test_history_is_listed_searched_starred_and_deleted() -> None:
    async with running_controller({"fake/hello": ()}) as controller:
        client = controller.client
        for text in ("one fish", "two fish"):
            await collect(client, ask("fake/hello", text))
        newest, oldest = await client.runs()
        assert newest.messages[0].content == "two fish"
        assert await client.runs(search="one") == [oldest]
        assert await client.runs(limit=1) == [newest]
        assert await client.runs(before=newest.id) == [oldest]
        assert (await client.star_run(oldest.id, True)).starred
        await client.delete_run(newest.id)
        with pytest.raises(NotFound):
            await client.run(newest.id)


async def test_a_history_that_cannot_be_written_is_told_and_the_answer_streams(
    own_folders: Path,
) -> None:
    history = own_folders / "state" / "meshtui" / "history.sqlite3"
    history.mkdir(parents=True)
    async with running_controller({"fake/hello": ()}) as controller:
        info = await controller.client.info()
        assert "history" in info.notices[0]
        last = (await collect(controller.client, ask("fake/hello")))[-1]
        assert isinstance(last, RunEnded) and last.run.status == "done"


async def test_a_full_disk_is_noticed_in_the_run() -> None:
    async with running_controller({"fake/hello": ()}) as controller:
        file = controller.core.history._file
        assert file is not None
        (pages,) = file._db.execute("PRAGMA page_count").fetchone()
        file._db.execute(f"PRAGMA max_page_count={pages}")
        long = ask("fake/hello", "long " * 20_000)
        first = (await collect(controller.client, long))[-1]
        assert isinstance(first, RunEnded) and first.run.status == "done"
        await controller.core.history.settle()
        events = await collect(controller.client, long)
        notices = [event.message for event in events if isinstance(event, RunNotice)]
        assert any("cannot be written" in notice for notice in notices)
        assert any("cannot be written" in n for n in (await controller.client.info()).notices)


async def test_a_run_whose_client_goes_away_at_once_is_not_running_for_ever() -> None:
    """The connection fails while something is written to it, and is found closed right after."""
    async with running_controller({"fake/hello": ()}) as controller:
        batches = controller.core.runs.stream(ask("fake/hello"))

        async def go_away() -> None:
            await anext(batches)
            asyncio.get_running_loop().call_soon(task.cancel)
            await batches.aclose()

        task = asyncio.create_task(go_away())
        await asyncio.wait([task])
        assert task.cancelled()
        assert (await ended(controller)).status == "cancelled"
        assert controller.core.runs.active == 0


async def test_clients_that_go_away_leave_no_tracebacks_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_controller({"fake/hello": ()}) as controller:
        await collect(controller.client, ask("fake/hello"))
        for pause_s in (0.0, 0.001, 0.002, 0.004, 0.008) * 10:
            async with aclosing(controller.client.prompt(ask("fake/hello"))) as events:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        async for _ in events:
                            pass
        await eventually(lambda: controller.core.runs.active == 0, "all runs have ended")
        runs = await controller.client.runs()
        assert {run.status for run in runs} <= {"done", "cancelled"}
    assert "Traceback" not in caplog.text


async def test_a_search_for_a_whole_page_of_text_finds_what_begins_so() -> None:
    async with running_controller({"fake/hello": ()}) as controller:
        await collect(controller.client, ask("fake/hello", "wörd " * 5000))
        assert len(await controller.client.runs(search="wörd " * 5000)) == 1


async def test_a_prompt_beyond_all_measure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshtui.controller.daemon.MAX_BODY_BYTES", 1024)
    async with running_controller({"fake/hello": ()}) as controller:
        with pytest.raises(InvalidInput, match="larger than") as caught:
            await collect(controller.client, ask("fake/hello", "x" * 3_000_000))
        assert caught.value.hint == "Shorten the prompt."


async def test_the_log_of_a_runtime_that_vanishes_ends_well() -> None:
    async with running_controller({"fake/hello": ()}) as controller:
        runtimes = controller.core.runtimes
        assert isinstance(runtimes, ReadyRuntimes)
        building = msgspec.structs.replace(runtimes.get("cpu"), phase=BuildPhase.BUILDING)
        runtimes._all["cpu"] = building
        async with aclosing(controller.client.runtime_log("cpu", follow=True)) as lines:
            assert await anext(lines) == "Resolved 2 packages"
            del runtimes._all["cpu"]
            assert [line async for line in lines] == ["Installed 2 packages"]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_thoughts_that_the_engine_tells_apart_stand_where_the_model_put_them(field: str) -> None:
    thinking = Thinking()
    deltas: list[dict[str, object]] = [
        {"role": "assistant", "content": ""},
        {field: "France"},
        {field: "...", "content": None},
        {field: None, "content": "Par"},
        {"content": "is"},
    ]
    text = "".join(piece for delta in deltas for piece in thinking.pieces(delta))
    assert text == "<think>\nFrance...\n</think>\n\nParis"

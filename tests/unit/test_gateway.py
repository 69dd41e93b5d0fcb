"""Programs use the endpoint with OpenAI's own client, unmodified."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from meshtui.controller.catalogue import Choice
from meshtui.controller.gateway import _with_defaults
from meshtui.controller.openai_shapes import Completion
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.controller import EndpointStatus
from meshtui.domain.errors import Conflict, InvalidInput
from meshtui.domain.generation import GenerationParameters
from meshtui.domain.server import Phase
from meshtui.engines.vllm import VllmAdapter
from tests.controller_support import RunningController, enable, running_controller

MESSAGES: Any = [{"role": "user", "content": "What is the capital of France?"}]
MODELS = {
    "fake/hello": (),
    "fake/slow": ("--tokens", "5000", "--rate", "100", "--text", "words"),
    "fake/breaks": ("--tokens", "50", "--crash-at", "token:20", "--text", "words"),
    "fake/broken": ("--crash-at", "weights"),
}


@pytest.fixture
async def controller() -> AsyncIterator[RunningController]:
    async with running_controller(MODELS) as controller:
        yield controller


@pytest.fixture
async def endpoint(controller: RunningController) -> EndpointStatus:
    await controller.client.set_endpoint(True)
    return await controller.client.endpoint(with_key=True)


@pytest.fixture
async def client(endpoint: EndpointStatus) -> AsyncIterator[openai.AsyncOpenAI]:
    client = openai.AsyncOpenAI(
        base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0, timeout=30
    )
    yield client
    await client.close()


async def until(condition: Callable[[], Any], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_models_are_listed_and_described(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == list(MODELS)
    assert (await client.models.retrieve("fake/hello")).owned_by == "local"
    with pytest.raises(openai.NotFoundError, match="not enabled"):
        await client.models.retrieve("no/such")


async def test_a_request_starts_the_server_and_gets_a_whole_answer(
    client: openai.AsyncOpenAI, controller: RunningController
) -> None:
    answer = await client.chat.completions.create(model="fake/hello", messages=MESSAGES)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.usage is not None and answer.usage.completion_tokens == 16
    (server,) = await controller.client.servers()
    assert (server.phase, server.active_requests) == (Phase.READY, 0)
    assert await controller.client.runs() == []  # programs' prompts are their own


async def test_a_streamed_answer(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="fake/hello",
        messages=MESSAGES,
        stream=True,
        max_tokens=6,
        stream_options={"include_usage": True},
    )
    text, usage, finish = "", None, None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert text == "The capital of France is Paris."
    assert usage is not None and usage.completion_tokens == 6
    assert finish == "length"


async def test_the_blocking_client(endpoint: EndpointStatus) -> None:
    def work() -> tuple[str, str]:
        with openai.OpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key) as client:
            whole = client.chat.completions.create(model="fake/hello", messages=MESSAGES)
            stream = client.chat.completions.create(
                model="fake/hello", messages=MESSAGES, stream=True
            )
            pieces = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
            return whole.choices[0].message.content or "", pieces

    whole, pieces = await asyncio.to_thread(work)
    assert whole == pieces and "Paris" in whole


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_goes_away_stops_the_engine(
    client: openai.AsyncOpenAI, controller: RunningController, streamed: bool
) -> None:
    await controller.client.start_server("fake/slow")
    if streamed:
        stream = await client.chat.completions.create(
            model="fake/slow", messages=MESSAGES, stream=True
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        await stream.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="fake/slow", messages=MESSAGES, timeout=1.5)
    (server,) = controller.core.servers.list()

    async def idle() -> bool:
        return controller.core.servers.get(server.id).active_requests == 0

    await until(idle)
    assert controller.core.gateway.active == 0
    if streamed:
        async with aiohttp.ClientSession() as session:

            async def aborted() -> bool:
                url = f"http://127.0.0.1:{server.port}/fake/state"
                async with session.get(url) as response:
                    state = await response.json()
                return bool(state["running"] == 0 and state["aborted"] == 1)

            await until(aborted)


async def test_an_engine_that_dies_ends_the_stream_with_an_error(
    client: openai.AsyncOpenAI,
) -> None:
    stream = await client.chat.completions.create(
        model="fake/breaks", messages=MESSAGES, stream=True
    )
    text = ""
    with pytest.raises(openai.APIError, match="process ended"):
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert text.startswith("word0 word1 ")


async def test_a_server_that_does_not_start_is_an_error_with_the_cause(
    client: openai.AsyncOpenAI,
) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model="fake/broken", messages=MESSAGES)
    assert caught.value.status_code == 503
    assert "something broke" in str(caught.value)


async def test_errors_have_openais_shape(endpoint: EndpointStatus) -> None:
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    asked: list[tuple[str, str, bytes, int, str]] = [
        ("POST", "/chat/completions", b"no json", 400, "not JSON"),
        ("POST", "/chat/completions", b"[]", 400, "needs a model"),
        ("POST", "/chat/completions", b'{"model": 3}', 400, "needs a model"),
        ("POST", "/chat/completions", b"{}", 400, "needs a model"),
        ("POST", "/chat/completions", b"", 400, "not JSON"),
        ("POST", "/chat/completions", b'{"model": "no/such"}', 404, "not enabled"),
        ("GET", "/chat/completions", b"", 405, "Not Allowed"),
        ("POST", "/embeddings", b"{}", 400, "needs a model"),
        ("POST", "/no/such", b"{}", 404, "There is no POST /v1/no/such"),
    ]
    async with aiohttp.ClientSession(headers=headers) as session:
        for method, path, body, status, says in asked:
            url = f"{endpoint.base_url}{path}"
            async with session.request(method, url, data=body) as response:
                found = await response.json()
                assert response.status == status, found
                assert says in found["error"]["message"]
                assert set(found["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("key", ["wrong", "", "\u00e9"])
async def test_without_the_key_nothing_is_answered(endpoint: EndpointStatus, key: str) -> None:
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with session.get(f"{endpoint.base_url}/models", headers=headers) as response:
            assert response.status == 401
            assert (await response.json())["error"]["code"] == "invalid_api_key"
    stranger = openai.OpenAI(base_url=endpoint.base_url, api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        await asyncio.to_thread(stranger.models.list)
    stranger.close()


async def test_only_v1_is_reachable_from_the_endpoint(endpoint: EndpointStatus) -> None:
    base = str(endpoint.base_url).removesuffix("/v1")
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for path in ("/controller", "/runs", "/endpoint?key=1"):
            async with session.get(base + path) as response:
                assert response.status == 404


async def test_a_model_of_several_connections_is_named_with_its_connection(
    controller: RunningController,
) -> None:
    enable({"fake/hello": ()}, connection="lab")
    controller.core.settings.refresh()
    connector = aiohttp.UnixConnector(str(controller.socket))
    async with aiohttp.ClientSession("http://meshtui", connector=connector) as session:
        async with session.get("/v1/models") as response:
            ids = [model["id"] for model in (await response.json())["data"]]
        assert "lab/fake/hello" in ids and "local/fake/hello" in ids and "fake/slow" in ids
        body = {"model": "fake/hello", "messages": MESSAGES}
        async with session.post("/v1/chat/completions", json=body) as response:
            assert response.status == 409
            message = (await response.json())["error"]["message"]
            assert "lab/fake/hello" in message and "local/fake/hello" in message
        body["model"] = "lab/fake/hello"
        async with session.post("/v1/chat/completions", json=body) as response:
            assert response.status == 200
            assert "Paris" in (await response.json())["choices"][0]["message"]["content"]
    assert [server.connection for server in await controller.client.servers()] == ["lab"]


async def test_what_the_request_leaves_open_is_taken_from_the_enabled_model(
    controller: RunningController, own_folders: Path
) -> None:
    path = own_folders / "config" / "meshtui" / "connections" / "local.toml"
    path.write_text(
        '[[enabled_models]]\nmodel = "fake/hello"\n[enabled_models.generation]\nmax_tokens = 2\n'
    )
    controller.core.settings.refresh()
    connector = aiohttp.UnixConnector(str(controller.socket))
    async with aiohttp.ClientSession("http://meshtui", connector=connector) as session:

        async def text(**more: object) -> str:
            body = {"model": "fake/hello", "messages": MESSAGES, **more}
            async with session.post("/v1/chat/completions", json=body) as response:
                answer = await response.json()
                return str(answer["choices"][0]["message"]["content"])

        assert await text() == "The capital "
        assert await text(max_tokens=None) == "The capital "
        assert await text(max_tokens=3) == "The capital of "
        assert (await text(max_completion_tokens=3)).startswith("The capital of France")


def test_each_route_has_its_own_name_for_the_longest_answer() -> None:
    enabled = EnabledModel(model="m", generation=GenerationParameters(max_tokens=2, seed=7))
    choice = Choice(Connection(name="local"), enabled)
    assert _with_defaults("/v1/responses", {"model": "m"}, choice) == {
        "model": "m",
        "max_output_tokens": 2,
        "seed": 7,
    }
    asked = {"model": "m", "max_output_tokens": 9}
    assert _with_defaults("/v1/responses", asked, choice)["max_output_tokens"] == 9
    assert _with_defaults("/v1/completions", {"model": "m"}, choice)["max_tokens"] == 2


async def test_engines_with_a_dialect_of_their_own_are_translated(
    client: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of those whose bytes cannot be handed on."""
    monkeypatch.setattr(VllmAdapter, "speaks_openai", False)
    whole = await client.chat.completions.create(model="fake/hello", messages=MESSAGES)
    assert "Paris" in (whole.choices[0].message.content or "")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None and whole.usage.completion_tokens == 16
    stream = await client.chat.completions.create(
        model="fake/hello", messages=MESSAGES, stream=True
    )
    text = "".join([c.choices[0].delta.content or "" async for c in stream])
    assert text == whole.choices[0].message.content
    stream = await client.chat.completions.create(
        model="fake/breaks", messages=MESSAGES, stream=True
    )
    with pytest.raises(openai.APIError, match="process ended"):
        async for _ in stream:
            pass


async def test_an_engine_that_dies_over_a_whole_answer_is_told_in_words(
    controller: RunningController, client: openai.AsyncOpenAI
) -> None:
    asked = asyncio.create_task(
        client.chat.completions.create(model="fake/slow", messages=MESSAGES)
    )

    async def answering() -> bool:
        return any(server.active_requests for server in await controller.client.servers())

    await until(answering)
    (server,) = await controller.client.servers()
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(openai.InternalServerError, match="The engine") as told:
        await asked
    assert told.value.status_code in (502, 503)


async def test_stream_options_of_a_wrong_kind_are_no_internal_error(
    endpoint: EndpointStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VllmAdapter, "speaks_openai", False)
    body = {"model": "fake/hello", "messages": MESSAGES, "stream": True, "stream_options": "x"}
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    url = f"{endpoint.base_url}/chat/completions"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, json=body) as answer,
    ):
        assert answer.status == 200
        assert (await answer.text()).endswith("data: [DONE]\n\n")


def test_streamed_tool_calls_are_put_together() -> None:
    completion = Completion()
    pieces: list[dict[str, Any]] = [
        {"index": 0, "id": "a", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"city": '}},
        {"index": 1, "id": "b", "function": {"name": "time", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": '"Paris"}'}},
    ]
    for piece in pieces:
        completion.add({"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]})
    completion.add({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    (choice,) = completion.body()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "a",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
            },
            {"id": "b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        ],
    }


async def test_switching_twice_at_once_opens_one_port(controller: RunningController) -> None:
    first, second = await asyncio.gather(
        controller.client.set_endpoint(True), controller.client.set_endpoint(True)
    )
    assert first == second
    await controller.client.set_endpoint(False)
    port = int((first.base_url or "").split(":")[2].partition("/")[0])
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_key_of_strange_bytes_is_refused(endpoint: EndpointStatus) -> None:
    port = int((endpoint.base_url or "").split(":")[2].partition("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n")
    assert b" 401 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_the_endpoint_is_private_and_stays_the_same(own_folders: Path) -> None:
    state = own_folders / "state" / "meshtui" / "endpoint.json"
    async with running_controller({"fake/hello": ()}) as controller:
        assert await controller.client.endpoint() == EndpointStatus(on=False)
        on = await controller.client.set_endpoint(True)
        assert on.api_key is None
        first = await controller.client.endpoint(with_key=True)
        assert first.base_url and first.base_url.startswith("http://127.0.0.1:")
        assert len(first.api_key or "") > 40
        assert state.stat().st_mode & 0o777 == 0o600
        # Switching on what is on changes nothing.
        assert await controller.client.set_endpoint(True) == on
    async with running_controller() as controller:
        assert await controller.client.endpoint(with_key=True) == first
        assert (await controller.client.set_endpoint(False)) == EndpointStatus(on=False)
    async with running_controller() as controller:
        assert not (await controller.client.endpoint()).on
        await controller.client.set_endpoint(True)
        assert await controller.client.endpoint(with_key=True) == first


async def test_a_port_that_is_taken_is_told_and_the_old_one_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        async with running_controller({"fake/hello": ()}) as controller:
            with pytest.raises(Conflict, match="taken"):
                await controller.client.set_endpoint(True, taken)
            assert not (await controller.client.endpoint()).on
            on = await controller.client.set_endpoint(True)
            with pytest.raises(Conflict):
                await controller.client.set_endpoint(True, taken)
            assert await controller.client.endpoint() == on
            with pytest.raises(InvalidInput):
                await controller.client.set_endpoint(True, 70_000)
        # A remembered port that somebody else has at the next start.
        state = controller.core.endpoint._file
        state.write_text(json.dumps({"key": "k", "on": True, "port": taken}))
        async with running_controller() as controller:
            assert not (await controller.client.endpoint()).on
            assert "taken" in (await controller.client.info()).notices[0]

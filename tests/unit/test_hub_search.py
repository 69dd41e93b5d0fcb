"""Searching the Hub: what is found, how it is reached, and what goes wrong."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from huggingface_hub import HfApi

from meshtui.domain.connection import Connection
from meshtui.domain.errors import MeshtuiError, NotFound
from meshtui.domain.hub_search import FoundModel
from meshtui.domain.task import Task
from meshtui.hub.errors import BadToken, HubUnreachable
from meshtui.hub.reach import NO_TOKEN, Reach, reach_of
from meshtui.hub.search import search
from tests.controller_support import running_controller
from tests.hub_server import Fault, HubServer
from tests.support.proxy import Proxy

CHAT = {
    "pipeline_tag": "text-generation",
    "library_name": "transformers",
    "downloads": 500,
    "likes": 7,
    "tags": ["license:mit", "conversational"],
    "safetensors": {"parameters": {"BF16": 1000, "F32": 10}, "total": 1010},
}


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer() as server:
        server.add("acme/tiny-chat", {}, facts=CHAT)
        server.add("acme/tiny-base", {}, gated=True, facts={**CHAT, "downloads": 900})
        rerank = {"pipeline_tag": "text-ranking", "downloads": 10}
        server.add("acme/tiny-rerank", {}, facts=rerank)
        server.add("acme/tiny-secret", {}, private=True, readers=("alice",))
        server.add("other/large", {}, facts={"downloads": 1})
        yield server


async def names(hub: HubServer, text: str, token: str = NO_TOKEN, **options: object) -> list[str]:
    reach = Reach(endpoint=hub.url, token=token)
    return [found.model for found in await search(text, reach, **options)]  # type: ignore[arg-type]


async def test_models_are_found_with_all_that_a_list_shows(hub: HubServer) -> None:
    [base, chat, rerank] = await search("tiny", Reach(endpoint=hub.url, token=NO_TOKEN))
    assert chat == FoundModel(
        model="acme/tiny-chat",
        task="text-generation",
        library="transformers",
        licence="mit",
        downloads=500,
        likes=7,
        parameters=1010,
        weights_bytes=2040,
        last_modified="2026-11-01T12:30:00.000Z",
    )
    assert base.gated and not chat.gated
    assert rerank.weights_bytes is None and rerank.licence is None


async def test_it_finds_what_the_hubs_own_client_finds(hub: HubServer) -> None:
    for question in (
        {"search": "TINY"},
        {"search": "acme/tiny-c"},
        {"search": ""},
        {"search": "tiny", "limit": 1},
        {"search": "tiny", "limit": 2, "token": "hf_alice"},
        {"search": "tiny", "pipeline_tag": "text-ranking"},
    ):
        asked = {"token": False, "sort": "downloads", **question}
        listed = HfApi(endpoint=hub.url).list_models(**asked)  # type: ignore[arg-type]
        theirs = await asyncio.to_thread(lambda listed=listed: [one.id for one in listed])  # type: ignore[misc]
        ours = await names(
            hub,
            str(question["search"]),
            str(question.get("token", NO_TOKEN)),
            limit=question.get("limit", 20),
            task=question.get("pipeline_tag"),
        )
        assert ours == theirs, question


async def test_private_models_are_for_those_who_may(hub: HubServer) -> None:
    assert "acme/tiny-secret" not in await names(hub, "secret")
    assert await names(hub, "secret", "hf_alice") == ["acme/tiny-secret"]
    with pytest.raises(BadToken):
        await names(hub, "secret", "hf_stolen")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_hub_that_refuses_is_told(hub: HubServer, status: int) -> None:
    hub.faults.append(Fault("/api/models", status=status, headers={"Retry-After": "7"}))
    with pytest.raises(HubUnreachable) as error:
        await names(hub, "tiny")
    assert "in 7 seconds" in str(error.value)
    assert len(hub.requests) == 1


async def test_a_hub_that_says_nothing_is_not_waited_for(hub: HubServer) -> None:
    hub.faults.append(Fault("/api/models", silent=True))
    with pytest.raises(HubUnreachable, match="too long"):
        await search("tiny", Reach(endpoint=hub.url, token=NO_TOKEN), timeout_s=0.2)
    with pytest.raises(HubUnreachable, match="cannot be reached"):
        await search("tiny", Reach(endpoint="http://127.0.0.1:9", token=NO_TOKEN))


async def test_offline_nothing_is_asked(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubUnreachable, match="HF_HUB_OFFLINE"):
        await names(hub, "tiny")
    assert not hub.requests


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"[" * 100_000,
        b"{}",
        b'[null, 3, {"id": 5}, {"id": "../../etc"}, {"id": "a b"}]',
        b'[{"id": "acme/x", "pipeline_tag": [], "tags": {"a": 1}, "downloads": -1, "likes": "many",'
        b' "safetensors": {"parameters": {"BF16": 1e400, "?": 2}, "total": true}}]',
        b'[{"id": "acme/x", "library_name": "\\u001b]0;owned\\u0007", "tags": [1, "license:\\n"]}]',
        b'[{"id": "acme/x"}' + b" " * (9 << 20) + b"]",
    ],
)
async def test_strange_answers_do_no_harm(hub: HubServer, body: bytes) -> None:
    hub.faults.append(Fault("/api/models", body=body))
    try:
        found = await search("x", Reach(endpoint=hub.url, token=NO_TOKEN))
    except HubUnreachable:
        return
    assert found in ([], [FoundModel(model="acme/x")])


async def test_a_connections_proxy_is_used(hub: HubServer) -> None:
    async with Proxy() as proxy:
        properties = {"hub.endpoint": hub.url, "hub.proxy": proxy.url}
        reach = reach_of(Connection(name="own", properties=properties))
        assert await search("tiny", reach)
        assert proxy.asked


async def test_the_controller_remembers_a_search_for_a_while(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    async with running_controller({"fake/hello": ()}) as controller:
        client = controller.client
        first = await client.search_models("tiny", task=Task.TEXT_GENERATION, limit=2)
        assert [found.model for found in first] == ["acme/tiny-base", "acme/tiny-chat"]
        again = await client.search_models("TINY ", task=Task.TEXT_GENERATION, limit=2)
        assert again == first and len(hub.requests) == 1
        assert await client.search_models("tiny", limit=1) == first[:1]
        with pytest.raises(NotFound):
            await client.search_models("tiny", connection="nowhere")
        hub.faults.append(Fault("/api/models", status=503))
        with pytest.raises(MeshtuiError, match="503"):
            await client.search_models("something else")
        assert await client.search_models("something else") == []

"""What speaks against starting a server, as the controller tells it before one is started."""

import pytest

from meshtui.cache.store import ModelStore
from meshtui.client import ControllerClient
from meshtui.domain.errors import NotFound
from meshtui.settings import paths
from tests.controller_support import running_controller
from tests.hub_server import Fault, HubServer
from tests.support.memory_data import configuration_files
from tests.support.models import put, safetensors

BASE = "mistralai/Mistral-Small-24B-Base-2501"


def files_of(model: str) -> dict[str, bytes]:
    files = configuration_files(model)
    assert files is not None
    return {**files, "tokenizer.json": b"{}", "model.safetensors": safetensors()}


async def rules_against(client: ControllerClient, model: str) -> list[str]:
    return [finding.rule for finding in await client.start_blockers(model)]


async def test_a_cached_model_that_would_not_run_is_told_until_it_runs_all_the_same() -> None:
    async with running_controller({"acme/story-Base": ()}) as running:
        put(ModelStore(paths.models_dir()), "acme/story-Base", files_of(BASE))
        assert await rules_against(running.client, "acme/story-Base") == ["instruct"]
        server = await running.client.start_server("acme/story-Base")
        assert await rules_against(running.client, "acme/story-Base") == []
        choice = running.core.catalogue.find("acme/story-Base")
        await running.core.servers.ready(choice.connection, choice.enabled, lambda _: None)
        await running.client.stop_server(server.id)
        assert await rules_against(running.client, "acme/story-Base") == []


async def test_one_that_failed_is_asked_about_again() -> None:
    async with running_controller({"acme/story-Base": ("--crash-at", "weights")}) as running:
        put(ModelStore(paths.models_dir()), "acme/story-Base", files_of(BASE))
        await running.client.start_server("acme/story-Base")
        choice = running.core.catalogue.find("acme/story-Base")
        with pytest.raises(Exception, match="broke"):
            await running.core.servers.ready(choice.connection, choice.enabled, lambda _: None)
        assert await rules_against(running.client, "acme/story-Base") == ["instruct"]


async def test_what_only_the_hub_may_refuse_is_left_to_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with HubServer() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("acme/gated-Instruct", files_of("meta-llama/Llama-3.1-8B-Instruct"), gated=True)
        hub.add("acme/story-Base", files_of(BASE))
        models = {"acme/gated-Instruct": (), "acme/story-Base": (), "acme/nowhere": ()}
        async with running_controller(models) as running:
            assert await rules_against(running.client, "acme/gated-Instruct") == []
            assert await rules_against(running.client, "acme/nowhere") == []
            assert await rules_against(running.client, "acme/story-Base") == ["instruct"]
            hub.faults.append(Fault("/api/models", status=503, times=9))
            assert await rules_against(running.client, "acme/nowhere") == []
            with pytest.raises(NotFound, match="not enabled"):
                await running.client.start_blockers("acme/unknown")

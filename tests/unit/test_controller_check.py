"""The checker through the controller: folders, cached models, wishes, and what is remembered."""

from pathlib import Path

import pytest

from meshtui.cache.store import ModelStore
from meshtui.domain.check import CheckWishes, Verdict
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.task import Engine
from meshtui.settings import paths
from tests.controller_support import running_controller
from tests.hub_server import Fault, HubServer
from tests.support.memory_data import configuration_files
from tests.support.models import put, safetensors

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def folder(root: Path, model: str = LLAMA) -> Path:
    files = configuration_files(model)
    assert files is not None
    place = root / model.replace("/", "__")
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place


async def test_a_folder_with_nothing_but_a_configuration_is_estimated(tmp_path: Path) -> None:
    async with running_controller() as running:
        place = str(folder(tmp_path))
        report = await running.client.check(place, CheckWishes(gpu="A10", max_tokens=32768))
        assert report.model == place
        assert report.engine is Engine.VLLM and report.source == "configuration"
        assert report.memory is not None
        assert report.memory.kv_cache_bytes_per_request == 4 << 30
        assert report.memory.gpu is not None and report.memory.gpu.startswith("A10")
        assert report.memory.simulated and report.alternatives
        whole = await running.client.check(place, CheckWishes(gpu="H100", max_tokens=131072))
        assert whole.memory is not None and whole.memory.fits
        assert whole.memory.kv_cache_bytes_per_request == 16 << 30


async def test_what_changes_on_disk_is_read_again(tmp_path: Path) -> None:
    async with running_controller() as running:
        place = folder(tmp_path)
        first = await running.client.check(str(place))
        (place / "config.json").write_text("{")
        second = await running.client.check(str(place))
        assert first.architectures and not second.architectures
        assert second.verdict is Verdict.BLOCKED


async def test_several_models_are_answered_in_their_order(tmp_path: Path) -> None:
    async with running_controller() as running:
        models = [str(folder(tmp_path)), "/nowhere/at/all", str(tmp_path)]
        reports = await running.client.check_many(models, CheckWishes(gpu="h100"))
        assert [report.model for report in reports] == models
        assert reports[1].verdict is Verdict.BLOCKED
        assert "no model folder" in reports[1].findings[0].message
        assert await running.client.check_many([]) == []


@pytest.mark.parametrize(
    ("wishes", "kind"),
    [
        (CheckWishes(gpu="Voodoo"), NotFound),
        (CheckWishes(runtime="nothing"), NotFound),
        (CheckWishes(connection="nothing"), NotFound),
        (CheckWishes(max_tokens=0), InvalidInput),
        (CheckWishes(gpus=-1), InvalidInput),
        (CheckWishes(gpu_memory_utilization=2), InvalidInput),
    ],
)
async def test_wishes_that_mean_nothing_are_refused(
    tmp_path: Path, wishes: CheckWishes, kind: type[Exception]
) -> None:
    async with running_controller() as running:
        with pytest.raises(kind):
            await running.client.check(str(folder(tmp_path)), wishes)


async def test_an_entry_of_the_cache_is_judged_by_its_name() -> None:
    files = configuration_files(LLAMA)
    async with running_controller() as running:
        put(ModelStore(paths.models_dir()), "acme/llama-Base", files)
        report = await running.client.check("acme/llama-Base")
        assert (report.model, report.source) == ("acme/llama-Base", "cache")
        assert report.verdict is Verdict.BLOCKED
        rules = {finding.rule: finding for finding in report.findings}
        assert "name says Base" in rules["instruct"].message
        assert "no weights" in rules["weights"].message


async def test_the_catalogue_of_gpus_is_told_from_small_to_large() -> None:
    async with running_controller() as running:
        known = await running.client.gpus()
        sizes = [gpu.memory_bytes for gpu in known]
        assert sizes == sorted(sizes) and {"t4", "a10", "h100"} <= {gpu.name for gpu in known}


def on_hub() -> dict[str, bytes]:
    files = configuration_files(LLAMA)
    assert files is not None
    return {**files, "tokenizer.json": b"{}", "model.safetensors": safetensors()}


async def test_a_model_on_the_hub_is_judged_without_its_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with HubServer() as hub, running_controller() as running:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("acme/llama-8b-Instruct", on_hub())
        wishes = CheckWishes(gpu="H100", max_tokens=8192)
        report = await running.client.check("acme/llama-8b-Instruct", wishes)
        assert report.source == "hub" and report.commit and report.engine is Engine.VLLM
        assert report.memory is not None and report.memory.fits
        count = len(hub.requests)
        for gpu in ("A10", "L4", "T4"):
            await running.client.check("acme/llama-8b-Instruct", CheckWishes(gpu=gpu))
        assert len(hub.requests) == count


async def test_many_models_ask_the_hub_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    async with HubServer() as hub, running_controller() as running:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("acme/llama-8b-Instruct", on_hub())
        reports = await running.client.check_many(["acme/llama-8b-Instruct"] * 20)
        assert len({report.commit for report in reports}) == 1
        assert sum("/api/models/" in request.path for request in hub.requests) == 1


@pytest.mark.parametrize(
    ("options", "fault", "verdict", "said"),
    [
        ({"gated": True}, None, Verdict.BLOCKED, "is gated"),
        ({"private": True}, None, Verdict.BLOCKED, "There is no model"),
        ({}, 404, Verdict.BLOCKED, "There is no model"),
        ({}, 403, Verdict.BLOCKED, "refuses access"),
        ({}, 429, Verdict.UNKNOWN, "too many requests"),
        ({}, 503, Verdict.UNKNOWN, "status 503"),
    ],
)
async def test_what_the_hub_refuses_is_a_finding(
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, bool],
    fault: int | None,
    verdict: Verdict,
    said: str,
) -> None:
    async with HubServer() as hub, running_controller() as running:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("acme/llama", on_hub(), **options)
        if fault:
            hub.faults.append(Fault("/api/models", status=fault, times=9))
        report = await running.client.check("acme/llama")
        assert report.verdict is verdict and report.model == "acme/llama"
        [finding] = [f for f in report.findings if f.rule == "access"]
        assert said in finding.message and finding.fix


async def test_what_the_hub_tells_everybody_of_a_gated_model_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = {"architectures": ["LlamaForCausalLM"], "model_type": "llama",
            "tokenizer_config": {"eos_token": "<|eot_id|>"}}  # fmt: skip
    async with HubServer() as hub, running_controller() as running:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("acme/llama-Instruct", on_hub(), gated=True, facts={"config": told})
        report = await running.client.check("acme/llama-Instruct", CheckWishes(gpu="H100"))
        assert report.verdict is Verdict.BLOCKED
        assert report.architectures == ("LlamaForCausalLM",)
        levels = {finding.rule: finding.level.value for finding in report.findings}
        assert levels["access"] == "blocker" and levels["architecture"] == "ok"


async def test_a_connections_token_opens_what_is_gated(monkeypatch: pytest.MonkeyPatch) -> None:
    async with HubServer() as hub:
        hub.add("acme/llama", on_hub(), gated=True, readers=("alice",))
        monkeypatch.setenv("ALICES_TOKEN", "hf_alice")
        path = paths.config_dir() / "connections" / "alice.toml"
        path.parent.mkdir(parents=True)
        path.write_text(
            f'access_token = "env:ALICES_TOKEN"\n[properties]\n"hub.endpoint" = "{hub.url}"\n'
        )
        async with running_controller() as running:
            report = await running.client.check("acme/llama", CheckWishes(connection="alice"))
            [finding] = [f for f in report.findings if f.rule == "access"]
            assert "the access token has access" in finding.message
            assert report.memory is not None


async def test_a_hub_that_is_not_there_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    async with running_controller() as running:
        report = await running.client.check("acme/llama")
        assert report.verdict is Verdict.UNKNOWN
        assert "cannot be reached" in report.findings[0].message
        nonsense = await running.client.check("not a name!")
        assert nonsense.verdict is Verdict.BLOCKED

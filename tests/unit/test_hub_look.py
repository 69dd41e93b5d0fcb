"""Looking into models on a Hub: what is asked, what is kept, and what goes wrong."""

import json
from pathlib import Path

import pytest

from meshtui.compat.sources.hub import WANTED, subject_of_look
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.errors import BadToken, HubUnreachable, ModelNotOnHub
from meshtui.hub.look import look
from meshtui.hub.looks import Look, Looks
from meshtui.hub.reach import NO_TOKEN, Reach
from tests.hub_server import Fault, HubServer
from tests.support.models import CONFIG, safetensors
from tests.support.shelf import safetensors as large

MODEL = ModelRef("acme/tiny")
FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "tokenizer.json": b"{}",
    "README.md": b"---\nlicense: mit\n---\n",
    "model.safetensors": safetensors(),
}


@pytest.fixture
def kept(tmp_path: Path) -> Looks:
    return Looks(tmp_path / "looks")


async def asked(hub: HubServer, kept: Looks, ref: ModelRef = MODEL, token: str = NO_TOKEN) -> Look:
    return await look(ref, Reach(endpoint=hub.url, token=token), WANTED, kept)


async def test_no_weights_are_fetched_and_all_that_matters_is(kept: Looks) -> None:
    weights = large(4_000_000)
    async with HubServer() as hub:
        hub.add("acme/tiny", {**FILES, "model.safetensors": weights, "extra.bin": b"x" * 1000})
        found = await asked(hub, kept)
        assert hub.sent_bytes("/lfs/") < 200_000 < len(weights)
        assert not any("extra.bin" in request.path for request in hub.requests)
    subject = subject_of_look(MODEL, found)
    assert subject.source == "hub" and subject.commit == found.model.commit
    assert subject.configuration.architectures == ("LlamaForCausalLM",)
    assert subject.headers["model.safetensors"].tensors["weight"].shape == (4_000_000,)
    assert subject.licence == "mit" and not subject.wrong_headers


async def test_asking_again_is_one_short_answer(kept: Looks) -> None:
    async with HubServer() as hub:
        hub.add("acme/tiny", FILES)
        first = await asked(hub, kept)
        count = len(hub.requests)
        assert count > 3
        second = await asked(hub, kept)
        assert len(hub.requests) == count + 1
        assert (second.texts, second.headers) == (first.texts, first.headers)
        pinned = ModelRef("acme/tiny", first.model.commit)
        await asked(hub, kept, pinned)
        count = len(hub.requests)
        await asked(hub, kept, pinned)
        assert len(hub.requests) == count


async def test_another_commit_is_read_anew(kept: Looks) -> None:
    async with HubServer() as hub:
        hub.add("acme/tiny", FILES)
        first = await asked(hub, kept)
        hub.add("acme/tiny", {**FILES, "config.json": b'{"architectures": ["OtherForCausalLM"]}'})
        second = await asked(hub, kept)
        assert second.model.commit != first.model.commit
        assert b"Other" in second.texts["config.json"]


async def test_facts_may_change_without_a_commit(kept: Looks) -> None:
    async with HubServer() as hub:
        repo = hub.add("acme/tiny", FILES)
        await asked(hub, kept)
        repo.facts["tags"] = ["conversational"]
        count = len(hub.requests)
        found = await asked(hub, kept)
        assert found.model.tags == ("conversational",) and len(hub.requests) == count + 1


async def test_offline_what_was_seen_stands_in(
    kept: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with HubServer() as hub:
        hub.add("acme/tiny", FILES)
        await asked(hub, kept)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        count = len(hub.requests)
        found = await asked(hub, kept)
        assert found.texts and found.problem and "HF_HUB_OFFLINE" in found.problem
        with pytest.raises(HubUnreachable):
            await asked(hub, kept, ModelRef("acme/other"))
        assert len(hub.requests) == count


async def test_a_gated_model_tells_its_page_and_what_is_public(kept: Looks) -> None:
    async with HubServer() as hub:
        hub.add("acme/tiny", FILES, gated=True, readers=("alice",))
        closed = await asked(hub, kept)
        assert closed.refusal is not None and hub.url + "/acme/tiny" in (closed.refusal.hint or "")
        subject = subject_of_look(MODEL, closed)
        assert subject.access.gated and subject.access.refusal and not subject.texts
        opened = await asked(hub, kept, token="hf_alice")
        assert opened.refusal is None and opened.texts
        # And once access is given, it is not the refusal that is remembered.
        hub.repos["acme/tiny"].gated = False
        assert (await asked(hub, kept)).texts


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, HubUnreachable), (500, HubUnreachable), (503, HubUnreachable), (404, ModelNotOnHub)],
)
async def test_statuses_are_errors_in_words(
    kept: Looks, status: int, kind: type[MeshtuiError]
) -> None:
    async with HubServer() as hub:
        hub.add("acme/tiny", FILES)
        hub.faults.append(Fault("/api/models", status=status))
        with pytest.raises(kind) as refused:
            await asked(hub, kept)
        assert refused.value.hint
        assert (await asked(hub, kept)).texts


async def test_a_private_model_and_a_bad_token(kept: Looks) -> None:
    async with HubServer() as hub:
        hub.add("acme/tiny", FILES, private=True, readers=("alice",))
        with pytest.raises(ModelNotOnHub):
            await asked(hub, kept)
        with pytest.raises(ModelNotOnHub):
            await asked(hub, kept, token="hf_bob")
        with pytest.raises(BadToken):
            await asked(hub, kept, token="hf_nobody")
        assert (await asked(hub, kept, token="hf_alice")).model.private


async def test_a_file_that_fails_is_no_verdict_on_the_model(kept: Looks) -> None:
    async with HubServer() as hub:
        hub.add("acme/tiny", FILES)
        hub.faults.append(Fault("config.json", status=503))
        with pytest.raises(HubUnreachable):
            await asked(hub, kept)
        hub.faults.append(Fault("config.json", drop_after=5))
        with pytest.raises(HubUnreachable):
            await asked(hub, kept)
        assert (await asked(hub, kept)).texts["config.json"]


async def test_headers_that_did_not_come_are_asked_for_again(kept: Looks) -> None:
    async with HubServer() as hub:
        hub.add("acme/tiny", FILES)
        hub.faults.append(Fault("/lfs/", status=500))
        assert not (await asked(hub, kept)).headers
        assert (await asked(hub, kept)).headers


async def test_a_server_that_ignores_ranges_sends_little(kept: Looks) -> None:
    async with HubServer() as hub:
        hub.add("acme/tiny", {**FILES, "model.safetensors": large(3_000_000)})
        hub.faults.append(Fault("/lfs/", ignore_range=True, bytes_per_s=5_000_000))
        found = await asked(hub, kept)
        assert found.headers["model.safetensors"].text.startswith(b"{")
        assert hub.sent_bytes("/lfs/") < 3_000_000


async def test_a_header_longer_than_the_first_piece_comes_in_two(kept: Looks) -> None:
    tensors = {f"layers.{i}.{'w' * 60}": ("U8", (1,), b"\0") for i in range(3000)}
    async with HubServer() as hub:
        hub.add("acme/tiny", {**FILES, "model.safetensors": safetensors(tensors)})
        found = await asked(hub, kept)
    assert len(subject_of_look(MODEL, found).headers["model.safetensors"].tensors) == 3000


async def test_damaged_weights_are_told_from_their_headers(kept: Looks) -> None:
    lying = (1 << 60).to_bytes(8, "little") + b"{}" * 100
    async with HubServer() as hub:
        hub.add("acme/tiny", {**FILES, "model.safetensors": lying})
        found = subject_of_look(MODEL, await asked(hub, kept))
    assert "cannot be" in found.wrong_headers["model.safetensors"]


@pytest.mark.parametrize(
    "facts",
    [
        {"siblings": None},
        {"siblings": [None, 3, {"rfilename": "../../etc/passwd", "size": -1}, {"rfilename": 3}]},
        {"tags": {"a": 1}, "cardData": [1], "sha": 12, "pipeline_tag": []},
    ],
)
async def test_strange_answers_do_no_harm(kept: Looks, facts: dict[str, object]) -> None:
    async with HubServer() as hub:
        hub.add("acme/tiny", FILES, facts=facts)
        found = await asked(hub, kept)
    assert not any(".." in file.path for file in found.model.files)


async def test_what_is_kept_is_private_and_bad_files_count_as_none(kept: Looks) -> None:
    async with HubServer() as hub:
        hub.add("acme/tiny", FILES)
        await asked(hub, kept)
        [path] = kept._folder.iterdir()
        assert path.stat().st_mode & 0o077 == 0 and "tiny" not in path.name
        path.write_bytes(b"nonsense")
        assert (await asked(hub, kept)).texts

"""Whose an access token is: asked at the Hub of the connection, and never shown."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshtui.domain.connection import Connection
from meshtui.domain.editing import TokenOwner
from meshtui.domain.errors import BadToken, InvalidInput, NotFound, Unavailable
from meshtui.hub.account import owner
from meshtui.hub.reach import NO_TOKEN, Reach
from tests.controller_support import running_controller
from tests.hub_server import Fault, HubServer


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer() as server:
        yield server


async def test_the_account_of_a_token_is_told(hub: HubServer) -> None:
    alice = await owner(Reach(endpoint=hub.url, token="hf_alice"))
    assert alice == TokenOwner(account="alice", token_name="work", role="read")
    assert await owner(Reach(endpoint=hub.url, token=NO_TOKEN)) is None
    assert hub.requests[-1].path == "/api/whoami-v2"


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (None, BadToken, "does not accept"),
        (Fault("whoami", status=503), Unavailable, "status 503"),
        (Fault("whoami", status=429), Unavailable, "too many requests"),
        (Fault("whoami", body=b"<html>"), Unavailable, "whose the token is"),
        (Fault("whoami", body=b'{"name": 3}'), Unavailable, "whose the token is"),
        (Fault("whoami", status=407), Unavailable, "status 407"),
        (Fault("whoami", status=302, headers={"Location": "/x"}), Unavailable, "status 302"),
    ],
)
async def test_what_goes_wrong_is_told_without_the_token(
    hub: HubServer, fault: Fault | None, kind: type[Exception], words: str
) -> None:
    token = "hf_expired_and_secret" if fault is None else "hf_alice"
    if fault:
        hub.faults.append(fault)
    with pytest.raises(kind, match=words) as caught:
        await owner(Reach(endpoint=hub.url, token=token))
    assert token not in str(caught.value)


async def test_a_token_that_cannot_be_sent_is_not_repeated(hub: HubServer) -> None:
    with pytest.raises(Unavailable) as caught:
        await owner(Reach(endpoint=hub.url, token="hf_first\nhf_second"))
    assert "hf_" not in str(caught.value)


async def test_each_kind_of_reference_is_tried_at_the_hub_of_the_connection(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hf_bob\n")
    (tmp_path / "token").chmod(0o600)
    monkeypatch.setenv("LAB_TOKEN", "hf_alice")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    lab = Connection(name="lab", properties={"hub.endpoint": hub.url})
    async with running_controller({}) as running:
        ask = running.client.token_owner
        assert (await ask("env:LAB_TOKEN", lab)).account == "alice"
        assert (await ask(f"file:{tmp_path}/token", lab)).account == "bob"
        assert (await ask("hf:default", lab)).account == "bob"
        with pytest.raises(NotFound, match="names no token") as unset:
            await ask("env:NOT_SET", lab)
        assert "restart" in str(unset.value.hint)
        with pytest.raises(InvalidInput) as pasted:
            await ask("hf_alice", lab)
        assert "hf_alice" not in str(pasted.value)
        (tmp_path / "token").write_text("hf_nobody")
        with pytest.raises(BadToken):
            await ask(f"file:{tmp_path}/token", lab)


async def test_a_keyring_is_asked_where_there_is_one(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Connection(name="lab", properties={"hub.endpoint": hub.url})
    (tmp_path / "keyring.py").write_text(
        "def get_password(service, user):\n"
        "    if service == 'locked':\n        raise RuntimeError('hf_alice is locked')\n"
        "    return {('hub', 'ana'): 'hf_alice'}.get((service, user))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    async with running_controller({}) as running:
        ask = running.client.token_owner
        assert (await ask("keyring:hub/ana", lab)).account == "alice"
        with pytest.raises(NotFound):
            await ask("keyring:hub/bob", lab)
        with pytest.raises(Unavailable, match="keyring does not answer") as locked:
            await ask("keyring:locked/ana", lab)
        assert "hf_" not in str(locked.value)
        assert "SSH" in str(locked.value.hint)

"""References to tokens lead to the token, and no message holds it."""

import builtins
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from meshtui.domain.errors import InvalidInput, Unavailable
from meshtui.settings.secrets import check_reference, resolve


def test_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", " secret\n")
    assert resolve("env:MY_TOKEN") == "secret"
    monkeypatch.setenv("MY_TOKEN", "")
    assert resolve("env:MY_TOKEN") is None
    assert resolve("env:NOT_SET_ANYWHERE") is None


def test_the_hub_login_is_found_where_the_hubs_client_puts_it(
    monkeypatch: pytest.MonkeyPatch, own_folders: Path
) -> None:
    assert resolve("hf:default") is None
    default = own_folders / "cache" / "huggingface" / "token"
    default.parent.mkdir()
    default.write_text("from-default\n")
    assert resolve("hf:default") == "from-default"
    home = own_folders / "hf"
    home.mkdir()
    (home / "token").write_text("from-home")
    monkeypatch.setenv("HF_HOME", str(home))
    assert resolve("hf:default") == "from-home"
    monkeypatch.setenv("HF_TOKEN_PATH", str(default))
    assert resolve("hf:default") == "from-default"


def test_a_file_must_not_be_readable_to_everybody(own_folders: Path) -> None:
    token = own_folders / "token"
    token.write_text("secret\n")
    token.chmod(0o600)
    assert resolve("file:~/token") == "secret"
    assert resolve("file:$HOME/token") == "secret"
    assert resolve("file:~/absent") is None
    token.chmod(0o604)
    with pytest.raises(InvalidInput, match="Everybody") as caught:
        resolve("file:~/token")
    assert "secret" not in str(caught.value)
    with pytest.raises(InvalidInput, match="cannot be read"):
        resolve("file:~")


@pytest.mark.parametrize(
    "reference",
    ["", "hf_abcdef", "env:", "env:A B", "hf:other", "file:", "keyring:x", "ftp:x", "hf_x:y"],
)
def test_what_is_no_reference_is_refused_without_repeating_it(reference: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_reference(reference)
    if reference.startswith("hf_"):
        assert reference not in str(caught.value)


def test_a_missing_keyring_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_keyring(name: str, *rest: Any) -> Any:
        if name == "keyring":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setitem(sys.modules, "keyring", None)
    monkeypatch.setattr(builtins, "__import__", without_keyring)
    with pytest.raises(Unavailable, match="keyring is not installed"):
        resolve("keyring:meshtui/me")


def test_a_keyring_that_is_locked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = types.ModuleType("keyring")

    def locked(service: str, user: str) -> str:
        raise RuntimeError("No recommended backend was available.")

    keyring.get_password = locked  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    with pytest.raises(Unavailable, match="does not answer"):
        resolve("keyring:meshtui/me")
    keyring.get_password = lambda service, user: f"{service}+{user}"  # type: ignore[attr-defined]
    assert resolve("keyring:meshtui/me") == "meshtui+me"

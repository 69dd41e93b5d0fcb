"""Folder names stand for keys, one to one."""

import random

import pytest

from meshtui.cache.names import (
    called,
    escape,
    folder_called,
    folder_name,
    key_of,
    ref_of,
    unescape,
)
from meshtui.domain.errors import InvalidInput
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line


def test_folder_names_are_those_that_dataiku_gives() -> None:
    ref = ModelRef("sentence-transformers/all-MiniLM-L6-v2")
    assert folder_name(ref) == "sentence-transformers_2fall-MiniLM-L6-v2"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a_b", "a_5fb"),
        ("org/name@v1.0", "org_2fname_40v1.0"),
        (".hidden", "_2ehidden"),
        ("..", "_2e."),
        ("é", "_c3_a9"),
    ],
)
def test_what_is_not_plain_is_escaped(text: str, name: str) -> None:
    assert escape(text) == name
    assert unescape(name) == text


def test_every_text_comes_back_and_no_two_share_a_name() -> None:
    chance = random.Random(4)
    alphabet = [chr(code) for code in range(0x20, 0x7F)] + ["é", "中", "\n", "\x00", "🙂", "_", "."]
    seen: dict[str, str] = {}
    for _ in range(5000):
        text = "".join(chance.choices(alphabet, k=chance.randint(1, 20)))
        name = escape(text)
        assert unescape(name) == text
        assert seen.setdefault(name, text) == text
        assert "/" not in name
        assert not name.startswith(".")


@pytest.mark.parametrize("name", ["", "a_", "a_G0", "a_2F", "_61", ".x", "a b", "é", "x" * 256])
def test_names_that_escape_never_gives_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        unescape(name)


def test_names_that_no_file_system_holds_are_refused() -> None:
    with pytest.raises(InvalidInput):
        escape("é" * 100)


def test_keys_carry_the_revision() -> None:
    ref = ModelRef.parse("org/name@refs/pr/1")
    assert key_of(ref) == "hf@org/name@refs/pr/1"
    assert ref_of(key_of(ref)) == ref


@pytest.mark.parametrize("key", ["org/name", "hf@", "hf@a b", "hf@../x"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput):
        ref_of(key)


@pytest.mark.parametrize(
    "name",
    ["not a name", " space ", "my_model", "a\\b", "esc\x1b[31m", "é\u202e", "bad\udcff",
     "new\nline", "_2fabc", "x@", "x_40"],
)  # fmt: skip
def test_a_folder_without_a_models_name_is_called_so_that_it_is_found_again(name: str) -> None:
    shown = called(name)
    assert shown.startswith("./") and one_line(shown) == shown
    assert folder_called(shown) == name


def test_folders_of_models_are_called_by_them() -> None:
    for model in ("acme/x", "gpt2", "acme/x_y@v1.0"):
        assert called(folder_name(ModelRef.parse(model))) == model
        assert folder_called(model) == folder_name(ModelRef.parse(model))


@pytest.mark.parametrize(
    "text", ["./", "./.", "./..", "./.staging", "./a/b", "./a\\x2fb", "./\\x00", "./\\q\\", "../a"]
)
def test_what_is_no_folder_of_the_cache_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        folder_called(text)

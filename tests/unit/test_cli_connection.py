"""`meshtui connection` as scripts and people use it, against a real controller."""

import contextlib
import io
import json
import subprocess
from collections.abc import Iterator

import pytest

from meshtui.cli.main import main
from meshtui.settings import paths, toml_file
from tests.controller_support import controller_process

SECRET = "hf_pasted_in_the_wrong_place"


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # No Hub in these tests: what is asked of it must not decide how long they take.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with controller_process({"fake/hello": ()}):
        yield


def connection(*words: str) -> subprocess.CompletedProcess[str]:
    """In this process: starting Python takes longer than what is asked."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["connection", *words])
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def answer(*words: str) -> str:
    done = connection(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def written(name: str) -> dict[str, object]:
    return toml_file.read(paths.config_dir() / "connections" / f"{name}.toml").data


def test_a_connection_from_its_making_to_its_end(controller: None) -> None:
    made = answer("add", "lab", "--runtime", "cpu", "--access-token", "env:LAB", "--engine", "VLLM")
    assert "connections/lab.toml" in made and "enable-model" in made
    answer("edit", "lab", "--no-managed-cache", "--property", "note=mine", "--runtime", "none")
    assert written("lab") == {
        "access_token": "env:LAB",
        "use_managed_cache": False,
        "properties": {"engine.completion": "VLLM", "note": "mine"},
    }
    answer("edit", "lab", "--property", "note=", "--rename", "seminar")
    answer("duplicate", "seminar", "copy")
    listed = {one["name"] for one in json.loads(answer("list", "--json"))}
    assert listed == {"local", "seminar", "copy"}
    assert "note" not in str(written("copy"))
    unasked = connection("delete", "copy")
    assert unasked.returncode == 2 and "--yes" in unasked.stderr
    answer("delete", "copy", "--yes")
    assert connection("show", "copy").returncode == 4


def test_models_are_enabled_from_presets_and_by_name(controller: None) -> None:
    answer("add", "lab")
    answer("enable-model", "lab", "qwen3-0-6b", "--gpu-gb", "24", "--no-check")
    answer("enable-model", "lab", "acme/new@v2", "--no-check", "--max-tokens", "4096",
           "--engine-arg=--enforce-eager", "--temperature", "0.5",
           "--idle-timeout", "60")  # fmt: skip
    answer("enable-model", "lab", "acme/new@v2", "--no-check", "--max-tokens", "auto",
           "--answer-tokens", "9")  # fmt: skip
    preset, own = written("lab")["enabled_models"]  # type: ignore[misc]
    assert preset["model"] == "Qwen/Qwen3-0.6B" and preset["max_tokens"] > 1000
    assert own == {
        "model": "acme/new@v2",
        "extra_engine_args": ["--enforce-eager"],
        "idle_timeout_s": 60.0,
        "generation": {"temperature": 0.5, "max_tokens": 9},
    }
    answer("disable-model", "lab", "Qwen/Qwen3-0.6B")
    assert [one["model"] for one in written("lab")["enabled_models"]] == ["acme/new@v2"]  # type: ignore[attr-defined]


def test_the_verdict_stands_beside_and_a_blocker_is_asked_about(controller: None) -> None:
    answer("add", "lab")
    unknown = connection("enable-model", "lab", "acme/nowhere")
    assert "acme/nowhere" in unknown.stderr
    checked = json.loads(answer("enable-model", "lab", "acme/nowhere", "--yes", "--json"))
    assert checked["report"]["verdict"] in ("blocked", "unknown")
    assert checked["enabled"]["model"] == "acme/nowhere"


def test_what_is_looked_at_is_told(controller: None) -> None:
    answer("add", "lab", "--runtime", "cpu")
    looked = connection("test", "lab", "--json")
    rules = {one["rule"]: one["level"] for one in json.loads(looked.stdout)}
    assert rules["runtime"] == rules["execution"] == "ok" and rules["hub"] == "warning"
    assert looked.returncode == 0
    answer("edit", "lab", "--access-token", "env:NOT_SET_ANYWHERE")
    blocked = connection("test", "lab")
    assert blocked.returncode == 1
    assert "✗ env:NOT_SET_ANYWHERE names no token here." in blocked.stdout


REFUSED: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("add", "local"), 5, "a connection of this name"),
    (("add", "a/b"), 2, "letters, digits"),
    (("add", "x", "--execution", "moon"), 2, "no such execution config"),
    (("add", "x", "--runtime", "nothing"), 2, "no such runtime"),
    (("add", "x", "--access-token", SECRET), 2, "not a reference"),
    (("add", "x", "--property", "novalue"), 2, "NAME=VALUE"),
    (("edit", "nothing", "--runtime", "cpu"), 4, "no connection"),
    (("edit", "local"), 2, "Nothing was given"),
    (("duplicate", "local", "local"), 5, "already"),
    (("delete", "nothing", "--yes"), 4, "no connection"),
    (("token", SECRET), 2, "not a reference"),
    (("token", "env:NOT_SET_ANYWHERE"), 4, "names no token"),
    (("enable-model", "local", "no name", "--no-check"), 2, "not a model name"),
    (("enable-model", "local", "a/b", "--max-tokens", "x", "--no-check"), 2, "whole number"),
    (("enable-model", "local", "a/b", "--gpu-gb", "80"), 4, "no preset"),
    (("enable-model", "local", "llama-3-1-8b", "--gpu-gb", "1"), 2, "does not fit"),
    (("disable-model", "local", "a/b"), 4, "not enabled"),
)


def test_what_is_refused_says_why(controller: None) -> None:
    for words, status, said in REFUSED:
        done = connection(*words)
        assert (done.returncode, done.stdout) == (status, ""), words
        assert said in done.stderr and SECRET not in done.stderr, words

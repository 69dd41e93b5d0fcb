"""`meshtui model presets` as scripts and people use it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshtui.settings.presets import shipped_presets
from tests.controller_support import controller_process

MESHTUI = str(Path(sys.executable).parent / "meshtui")


@pytest.fixture
def controller() -> Iterator[None]:
    with controller_process({"fake/hello": ()}):
        yield


def presets(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MESHTUI, "model", "presets", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def names(*words: str) -> set[str]:
    return {preset["name"] for preset in json.loads(presets(*words, "--json").stdout)}


def test_presets_are_listed_and_narrowed_down(controller: None) -> None:
    assert names() == set(shipped_presets())
    assert names("--purpose", "image-generation") == {"sdxl-base", "flux-1-schnell"}
    assert "gemma-3-4b" in names("--capability", "image") - names("--capability", "tool")
    assert "gemma-3-4b" not in names("--open")
    small = names("--gpu-gb", "16", "--gpus", "1")
    assert "qwen3-0-6b" in small and "llama-3-1-8b" not in small
    assert names("--task", "text-ranking") == {"bge-reranker-v2-m3"}
    table = presets("--gpu-gb", "80").stdout.splitlines()
    assert table[0].endswith("80 GB") and len(table) > 20


def test_one_is_shown_by_its_name_or_its_model(controller: None) -> None:
    shown = presets("gpt-oss-20b").stdout
    assert "apache-2.0" in shown and "141 GB" in shown
    assert presets("openai/gpt-oss-20b").stdout == shown
    assert json.loads(presets("gpt-oss-20b", "--json").stdout)["task"] == "text-generation"
    unknown = presets("nothing")
    assert unknown.returncode == 4 and "no preset" in unknown.stderr

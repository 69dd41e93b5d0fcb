"""Fixtures that every folder of tests shares."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a home of its own, so none sees the user's files or another test's."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for variable, folder in {
        "XDG_CONFIG_HOME": "config",
        "XDG_CACHE_HOME": "cache",
        "XDG_DATA_HOME": "data",
        "XDG_STATE_HOME": "state",
        "XDG_RUNTIME_DIR": "run",
    }.items():
        (home / folder).mkdir(mode=0o700)
        monkeypatch.setenv(variable, str(home / folder))
    for variable in ("MESHTUI_CACHE", "MESHTUI_RUNTIMES", "HF_TOKEN", "HF_HOME", "TMUX"):
        monkeypatch.delenv(variable, raising=False)
    return home


@pytest.fixture(scope="session")
def engine_python() -> Path:
    """The interpreter of a built cpu runtime."""
    return Path(os.environ["MESHTUI_TEST_RUNTIME"]) / "bin" / "python"


@pytest.fixture(scope="session")
def smollm2_dir() -> Path:
    """The folder of SmolLM2-135M-Instruct as safetensors."""
    return Path(os.environ["MESHTUI_TEST_MODEL"])

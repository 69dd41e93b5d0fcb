"""Fixtures that every folder of tests shares."""

import asyncio
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from meshtui.deploy.runtime_types import InstalledRuntime
from meshtui.domain.runtime import RuntimeStatus

# Runtimes and converted models are large; they are built once and stay between runs. Read before
# any test gets a home of its own.
TEST_CACHE = Path(
    os.environ.get("MESHTUI_TEST_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meshtui-test"
)
NO_SKIPS = bool(os.environ.get("MESHTUI_TEST_NO_SKIPS"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where nothing may be left out, a test that skips itself has failed."""
    report = yield
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"left out, though nothing may be: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a home of its own, so none sees the user's files or another test's."""
    home = tmp_path_factory.mktemp("home")
    for variable, value in private_environment(home).items():
        monkeypatch.setenv(variable, value)
    for variable in ("MESHTUI_CACHE", "MESHTUI_RUNTIMES", "HF_TOKEN", "HF_HOME", "TMUX"):
        monkeypatch.delenv(variable, raising=False)
    return home


def private_environment(home: Path) -> dict[str, str]:
    """Variables that move all of meshtui's folders below `home`."""
    folders = {
        "XDG_CONFIG_HOME": home / "config",
        "XDG_CACHE_HOME": home / "cache",
        "XDG_DATA_HOME": home / "data",
        "XDG_STATE_HOME": home / "state",
        "XDG_RUNTIME_DIR": home / "run",
    }
    for folder in folders.values():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        "HOME": str(home),
        "MESHTUI_SYSTEM_CONFIG": str(home / "system.toml"),
        **{name: str(folder) for name, folder in folders.items()},
    }


@pytest.fixture(scope="session")
def installed_runtime() -> InstalledRuntime:
    """The shipped `cpu` runtime, built by the real builder in the cache of the tests."""
    from tests.runtime_support import build_cpu_runtime

    return asyncio.run(build_cpu_runtime(TEST_CACHE))


@pytest.fixture(scope="session")
def cpu_runtime(installed_runtime: InstalledRuntime) -> RuntimeStatus:
    return installed_runtime.status


@pytest.fixture(scope="session")
def engine_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of the built cpu runtime."""
    if ready := os.environ.get("MESHTUI_TEST_RUNTIME"):
        return Path(ready) / "bin" / "python"
    installed: InstalledRuntime = request.getfixturevalue("installed_runtime")
    return installed.python


@pytest.fixture(scope="session")
def smollm2_dir(request: pytest.FixtureRequest) -> Path:
    """The folder of SmolLM2-135M-Instruct, fetched and converted by the real model shelf."""
    if ready := os.environ.get("MESHTUI_TEST_MODEL"):
        return Path(ready)
    installed_runtime = request.getfixturevalue("installed_runtime")
    from tests.runtime_support import smollm2

    return asyncio.run(smollm2(TEST_CACHE, installed_runtime))

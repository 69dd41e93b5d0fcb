"""A real model goes to a machine without any network, as an archive, and answers there."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshtui.cache.store import METADATA, MODEL, ModelStore
from meshtui.cli import exit_codes
from meshtui.domain.model_ref import ModelRef
from meshtui.settings import paths
from tests.conftest import TEST_CACHE, private_environment
from tests.support.no_network import why_not_without_network, without_network

pytestmark = pytest.mark.engine

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
QUESTION = "What is the capital of France?"
MESHTUI = str(Path(sys.executable).parent / "meshtui")
START_TIMEOUT_S = 300


class Machine:
    """A home, the programs, and a cable that may be cut: the environment is all it has."""

    def __init__(self, home: Path, *, connected: bool, cache: Path | None = None) -> None:
        home.mkdir()
        self._connected = connected
        self.environment = {**os.environ, **private_environment(home)}
        self.environment["MESHTUI_RUNTIMES"] = str(TEST_CACHE / "runtimes")
        if cache is not None:
            self.environment["MESHTUI_CACHE"] = str(cache)
        if not connected:
            self.environment |= {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}

    def meshtui(self, *words: str, status: int = 0, timeout_s: float = 120) -> str:
        command = [MESHTUI, *words]
        done = subprocess.run(
            command if self._connected else without_network(command),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    def end(self) -> None:
        for server in json.loads(self.meshtui("server", "list", "--json")):
            self.meshtui("server", "stop", str(server["id"]))
        self.meshtui("controller", "stop")


@pytest.fixture
def connected(tmp_path: Path, smollm2_dir: Path) -> Iterator[Machine]:
    """Has the model."""
    machine = Machine(tmp_path / "connected", connected=True, cache=smollm2_dir.parent.parent)
    yield machine
    machine.end()


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Has the runtime, and an empty cache."""
    if why := why_not_without_network():
        pytest.skip(why)
    machine = Machine(tmp_path / "alone", connected=False)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, machine.environment[name])
    yield machine
    machine.end()


def sums(files: Iterator[tuple[str, bytes]]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files}


def on_disk(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def in_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name.partition("/")[2], archive.read(name)


def test_a_real_model_travels_as_an_archive_and_answers_without_any_network(
    connected: Machine, alone: Machine, smollm2_dir: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    connected.meshtui("cache", "export", SMOLLM2, "--to", str(disk))
    [archive] = disk.glob("*.zip")
    assert "not in the model cache" in alone.meshtui(
        "cache", "path", SMOLLM2, status=exit_codes.NOT_FOUND
    )

    alone.meshtui("cache", "import", str(archive))
    entry = ModelStore(paths.models_dir()).get(ModelRef.parse(SMOLLM2))
    arrived = sums(on_disk(entry.folder))
    sent = sums(in_archive(archive))
    assert {name: arrived[name] for name in sent} == sent
    assert sums(on_disk(smollm2_dir)) == sums(on_disk(entry.model_dir))
    assert set(arrived) - set(sent) <= {"checksums.json"}
    assert f"{MODEL}/config.json" in sent and METADATA in sent
    alone.meshtui("cache", "verify", SMOLLM2)

    answer = alone.meshtui("prompt", SMOLLM2, QUESTION, timeout_s=START_TIMEOUT_S)
    assert "Paris" in answer
    run = json.loads(alone.meshtui("prompt", SMOLLM2, QUESTION, "--json"))
    assert run["status"] == "done" and "Paris" in run["answer"]
    assert run["usage"]["completion_tokens"] > 3
    used = ModelStore(paths.models_dir()).get(ModelRef.parse(SMOLLM2)).metadata
    assert used.last_dss_usage and used.last_used_by
    refused = alone.meshtui("cache", "download", "acme/other", status=exit_codes.UNAVAILABLE)
    assert "HF_HUB_OFFLINE is set" in refused and "cache import" in refused

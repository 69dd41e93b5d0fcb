"""What is read of the machine."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from meshtui.controller import managers
from meshtui.controller.parts import Surroundings
from meshtui.engines.machine import cpu_flags, detect, parse_nvidia_smi
from meshtui.settings.store import Settings


def test_this_machine_has_processors_and_memory() -> None:
    machine = detect()
    assert machine.cpu_count >= 1
    assert machine.memory_bytes > 2**28
    assert machine.cpu_flags


def test_flags_of_both_families_of_processors() -> None:
    x86 = "processor\t: 0\nflags\t\t: fpu sse2 avx2\n\nprocessor\t: 1\nflags\t\t: fpu\n"
    assert cpu_flags(x86) == {"fpu", "sse2", "avx2"}
    assert cpu_flags("processor\t: 0\nFeatures\t: fp asimd\n") == {"fp", "asimd"}
    assert cpu_flags("") == frozenset()


def test_lines_of_nvidia_smi() -> None:
    output = "NVIDIA H100 80GB HBM3, 9.0\nTesla, the odd one, 7.0\nOld GPU, [N/A]\n\n"
    assert parse_nvidia_smi(output) == [
        ("NVIDIA H100 80GB HBM3", 9.0),
        ("Tesla, the odd one", 7.0),
        ("Old GPU", None),
    ]


def fake_nvidia_smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_the_least_capable_gpu_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, "echo 'A, 9.0'; echo 'B, 7.5'", monkeypatch)
    machine = detect()
    assert machine.gpu_count == 2
    assert machine.gpu_names == ("A", "B")
    assert machine.compute_capability == 7.5


def test_hidden_gpus_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, "echo 'A, 9.0'; echo 'B, 7.5'", monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert detect().gpu_names == ("A",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert detect().gpu_count == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert detect().gpu_count == 0


def test_a_driver_that_fails_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(
        tmp_path,
        'echo "NVIDIA-SMI has failed because it couldn\'t communicate with the driver"; exit 9',
        monkeypatch,
    )
    assert detect().gpu_count == 0


def test_a_driver_that_hangs_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, "exec sleep 60", monkeypatch)
    monkeypatch.setattr("meshtui.engines.machine._NVIDIA_SMI_TIMEOUT_S", 0.3)
    assert detect().gpu_count == 0


def test_the_controller_asks_for_shared_memory_every_time(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPUs stay, but what is free in /dev/shm decides whether vLLM can start."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(managers, "ServerManager", lambda **given: seen.update(given))
    managers.local_managers(Settings(own_folders), cast(Surroundings, Listeners()))
    for free_bytes in (5, 7):
        monkeypatch.setattr(managers, "free_shared_memory_bytes", lambda: free_bytes)  # noqa: B023
        assert seen["machine"]().shared_memory_bytes == free_bytes


class Listeners:
    """Nobody listens."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_: None

"""What `meshtui doctor` says of a machine: each shortcoming with what to do about it."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from meshtui.cache.store import ModelStore
from meshtui.deploy.definitions import shipped_definitions
from meshtui.deploy.interpreters import NoInterpreter
from meshtui.deploy.this_machine import Here, judge, look_here
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import CacheUsage
from meshtui.domain.runtime import BuildPhase, Package, RuntimeStatus
from meshtui.engines.base import Machine
from meshtui.engines.gpus_here import GpusHere, parse_gpus

A100 = "NVIDIA A100-SXM4-80GB, 8.0, 81920, 500, 1000\n"
P100 = "Tesla P100-PCIE-16GB, 6.0, 16384, 100, 0\n"
FINE = Here(
    machine=Machine(
        gpu_count=1,
        cpu_flags=frozenset({"sse2", "avx2"}),
        cpu_count=16,
        memory_bytes=64 << 30,
        shared_memory_bytes=32 << 30,
    ),
    gpus=GpusHere(gpus=tuple(parse_gpus(A100)), driver_cuda="13.0"),
    unseen_gpus=0,
    runtime=RuntimeStatus(name="gpu"),
    runtime_bytes=12_000_000_000,
    python="/usr/bin/python3.12 (3.12.3)",
    runtimes_folder="/data/runtimes",
    runtimes_free_bytes=100_000_000_000,
    compiler="/usr/bin/gcc",
    cache=CacheUsage(root="/data/models", disk_free_bytes=100_000_000_000),
)


def found(here: Here, rule: str) -> list[Finding]:
    return [finding for finding in judge(here) if finding.rule == rule]


def test_all_is_well_where_it_is() -> None:
    findings = judge(FINE)
    assert {finding.level for finding in findings} == {Level.OK}
    (gpu,) = (finding for finding in findings if finding.rule == "gpu")
    assert "A100" in gpu.message and "8.0" in gpu.message and "are free" in gpu.message


@pytest.mark.parametrize(
    ("rule", "changes", "level", "words"),
    [
        ("gpu-driver", {"gpus": GpusHere(), "unseen_gpus": 2}, Level.WARNING, "nvidia-smi"),
        ("gpu", {"gpus": GpusHere(gpus=tuple(parse_gpus(P100)))}, Level.WARNING, "needs 7."),
        (
            "gpu-visible",
            {"gpus": GpusHere(gpus=tuple(parse_gpus(A100 * 4)))},
            Level.WARNING,
            "CUDA_VISIBLE_DEVICES leaves 1 of 4",
        ),
        (
            "python",
            {"python": NoInterpreter("No Python was found.", hint="Install one.")},
            Level.BLOCKER,
            "Install one.",
        ),
        ("runtime-disk", {"runtimes_free_bytes": 5 * 10**9}, Level.BLOCKER, "MESHTUI_RUNTIMES"),
        ("compiler", {"compiler": None}, Level.WARNING, "apt install gcc"),
        (
            "cache",
            {"cache": CacheUsage(root="/x", problem="The cache belongs to ann.")},
            Level.WARNING,
            "belongs to ann",
        ),
        (
            "cache",
            {"cache": CacheUsage(root="/x", disk_free_bytes=10**9)},
            Level.WARNING,
            "1.0 GB are free for models in /x",
        ),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(
    rule: str, changes: dict[str, object], level: Level, words: str
) -> None:
    (finding,) = found(msgspec.structs.replace(FINE, **changes), rule)
    assert finding.level is level and finding.fix
    assert words in f"{finding.message} {finding.fix}"


@pytest.mark.parametrize(
    ("rule", "changes", "words"),
    [
        ("processor", {"cpu_flags": frozenset({"sse2"})}, "AVX2"),
        ("memory", {"memory_bytes": 2 << 30}, "smallest models"),
        ("shared-memory", {"shared_memory_bytes": 64 << 20}, "--shm-size"),
    ],
)
def test_what_the_machine_lacks_is_a_warning(
    rule: str, changes: dict[str, object], words: str
) -> None:
    machine = msgspec.structs.replace(FINE.machine, **changes)
    (finding,) = found(msgspec.structs.replace(FINE, machine=machine), rule)
    assert finding.level is Level.WARNING and words in f"{finding.message} {finding.fix}"


def test_the_processor_of_another_kind_needs_no_extensions() -> None:
    machine = msgspec.structs.replace(FINE.machine, cpu_flags=frozenset({"asimd"}))
    (finding,) = found(msgspec.structs.replace(FINE, machine=machine), "processor")
    assert finding.level is Level.OK


def test_a_driver_that_is_older_than_the_runtime_is_told() -> None:
    runtime = RuntimeStatus(
        name="gpu",
        phase=BuildPhase.READY,
        packages=(Package("vllm", "0.32.0"), Package("nvidia-cuda-runtime", "13.0.48")),
    )
    old = msgspec.structs.replace(FINE.gpus, driver_cuda="12.4")
    here = msgspec.structs.replace(FINE, runtime=runtime, gpus=old)
    assert any("CUDA 12.4" in one.message for one in judge(here) if one.level is Level.BLOCKER)
    # What is built needs neither a Python nor room any more.
    assert not found(here, "python") and not found(here, "runtime-disk")
    assert found(here, "runtime")[0].message == "The runtime gpu is built, vLLM 0.32.0."


async def test_this_machine_is_looked_at(tmp_path: Path) -> None:
    here = await look_here(shipped_definitions(), tmp_path, ModelStore(tmp_path / "models"))
    assert here.machine.memory_bytes and here.runtimes_free_bytes
    assert isinstance(here.python, str) and here.runtime.phase is BuildPhase.ABSENT
    assert here.cache.disk_free_bytes


def test_the_command_prints_what_was_found(own_folders: Path) -> None:
    def doctor(*words: str) -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).parent / "meshtui")
        command = [program, "doctor", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    done = doctor()
    assert "GB of memory." in done.stdout and "Traceback" not in done.stderr
    # A connection whose models run here is this machine.
    for words in (("--json",), ("--json", "--connection", "local")):
        rules = {one["rule"] for one in json.loads(doctor(*words).stdout)["findings"]}
        assert {"processor", "memory", "shared-memory", "cache"} <= rules
    done = doctor("--connection", "nowhere")
    assert done.returncode != 0 and "There is no execution config" in done.stderr

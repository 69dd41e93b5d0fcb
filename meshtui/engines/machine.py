"""What this machine offers to engines."""

import os
import shutil
import subprocess
from pathlib import Path

from meshtui.engines.base import Machine

# A healthy driver answers in well under a second; a broken one can hang.
_NVIDIA_SMI_TIMEOUT_S = 10.0


def detect() -> Machine:
    """Looks at GPUs, processor and memory. Blocks (up to the timeout of `nvidia-smi`): call it
    in a thread. What cannot be read counts as absent."""
    gpus = _gpus()
    return Machine(
        gpu_count=len(gpus),
        gpu_names=tuple(name for name, _ in gpus),
        compute_capability=min((c for _, c in gpus if c is not None), default=None),
        cpu_flags=cpu_flags(_read(Path("/proc/cpuinfo"))),
        cpu_count=len(os.sched_getaffinity(0)),
        memory_bytes=_memory_bytes(),
        shared_memory_bytes=free_shared_memory_bytes(),
    )


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The processor's features from the text of `/proc/cpuinfo` (`flags` on x86, `Features` on
    ARM)."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def parse_nvidia_smi(output: str) -> list[tuple[str, float | None]]:
    """Name and compute capability of each GPU from `nvidia-smi --query-gpu=name,compute_cap
    --format=csv,noheader`; the capability is None where the driver is too old to say."""
    gpus: list[tuple[str, float | None]] = []
    for line in output.splitlines():
        name, comma, capability = line.rpartition(",")
        if not comma:
            continue
        try:
            gpus.append((name.strip(), float(capability)))
        except ValueError:
            gpus.append((name.strip(), None))
    return gpus


def _gpus() -> list[tuple[str, float | None]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, "--query-gpu=name,compute_cap", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_NVIDIA_SMI_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return _visible(parse_nvidia_smi(done.stdout)) if done.returncode == 0 else []


def _visible(gpus: list[tuple[str, float | None]]) -> list[tuple[str, float | None]]:
    """Those that CUDA programs may use: `nvidia-smi` lists all, CUDA_VISIBLE_DEVICES hides some."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return gpus
    wanted: list[tuple[str, float | None]] = []
    for entry in (part.strip() for part in chosen.split(",")):
        if entry.isdigit() and int(entry) < len(gpus):
            wanted.append(gpus[int(entry)])
        elif entry.startswith(("GPU-", "MIG-")):
            # A UUID names one device; which one does not matter where all are alike.
            wanted.extend(gpus[:1])
        else:
            break  # CUDA stops at the first entry that is none (-1, an empty string).
    return wanted


def _memory_bytes() -> int:
    for line in _read(Path("/proc/meminfo")).splitlines():
        key, _, value = line.partition(":")
        if key == "MemTotal":
            total = int(value.split()[0]) * 1024
            limit = _read(Path("/sys/fs/cgroup/memory.max")).strip()
            return min(total, int(limit)) if limit.isdigit() else total
    return 0


def free_shared_memory_bytes() -> int:
    """What is free in `/dev/shm` now; 0 where there is none."""
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

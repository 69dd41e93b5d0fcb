"""The GPUs of this machine with what of them is free, and the CUDA version of their driver."""

import re
import shutil
import subprocess

import msgspec

from meshtui.domain.errors import NotFound
from meshtui.domain.memory import GpuSpec
from meshtui.domain.text import one_line
from meshtui.memory.gpus import find_gpu

# A healthy driver answers in well under a second; a broken one can hang.
_TIMEOUT_S = 10.0
_MIB = 1 << 20
_QUERY = "name,compute_cap,memory.total,memory.reserved,memory.used"
_CUDA = re.compile(r"CUDA Version\s*:\s*(\d+\.\d+)")


class GpuHere(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that was seen; `spec` counts what CUDA can use of its memory."""

    spec: GpuSpec
    free_bytes: int


class GpusHere(msgspec.Struct, frozen=True, kw_only=True):
    """All GPUs that were seen. `driver_cuda` is the newest CUDA version that the driver takes."""

    gpus: tuple[GpuHere, ...] = ()
    driver_cuda: str | None = None


def look_at_gpus() -> GpusHere:
    """Asks the driver; nothing is seen where there is none. Blocks, up to some seconds."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return GpusHere()
    listed = _said([program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"])
    return GpusHere(
        gpus=tuple(parse_gpus(listed)),
        driver_cuda=parse_cuda(_said([program])) if listed else None,
    )


def parse_gpus(output: str) -> list[GpuHere]:
    """The answer to the query of name, compute capability, and total, reserved and used MiB.

    A GPU of the catalogue has the memory that is known of it; of others that counts which the
    driver does not keep for itself."""
    found = []
    for line in output.splitlines():
        parts = [part.strip() for part in line.rsplit(",", 4)]
        try:
            name, capability = parts[0], round(float(parts[1]) * 10)
            total, used = int(parts[2]) * _MIB, int(parts[4]) * _MIB
            reserved = int(parts[3]) * _MIB if parts[3].isdigit() else 0
        except (ValueError, IndexError):
            continue
        spec = spec_of(
            name,
            total_bytes=total,
            capability=capability,
            source="the driver",
            reserved_bytes=reserved,
        )
        if spec is not None:
            found.append(GpuHere(spec=spec, free_bytes=max(0, spec.memory_bytes - used)))
    return found


def spec_of(
    name: str,
    *,
    total_bytes: int | None,
    capability: int | None,
    source: str,
    reserved_bytes: int = 0,
) -> GpuSpec | None:
    """The GPU of that name as the catalogue has it, unless what was seen of its memory is another
    size; else what was seen. None where neither says enough."""
    try:
        known = find_gpu(name)
    except NotFound:
        known = None
    if known is not None and (
        total_bytes is None or abs(known.memory_bytes - total_bytes) <= total_bytes // 10
    ):
        return known
    if total_bytes is None or capability is None:
        return None
    return GpuSpec(
        name="here",
        label=one_line(name, 60).removeprefix("NVIDIA "),
        memory_bytes=total_bytes - reserved_bytes,
        capability=capability,
        source=source,
    )


def parse_cuda(output: str) -> str | None:
    """`12.8` from the header of `nvidia-smi`."""
    match = _CUDA.search(output)
    return match[1] if match else None


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""

"""What our own servers logged of their memory is kept, and shown instead of estimates."""

import os
from pathlib import Path

import msgspec
import pytest

from meshtui.domain.check import CheckReport, CheckWishes
from meshtui.domain.memory import GIB
from meshtui.domain.runtime import Package, RuntimeStatus
from meshtui.domain.server import Phase
from meshtui.engines.check.case import Place
from meshtui.engines.check.known import Known
from meshtui.engines.check.verdict import check
from meshtui.engines.measured import Case, Measured, MeasuredStore, minor_release, read_measured
from tests.controller_support import running_controller
from tests.support.subjects import subject
from tests.support.waiting import eventually

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
CASE = Case(LLAMA, "A10 24GB", 1, "0.32")
# As vLLM 0.19 and 0.32 write it, of two ranks.
LOG = """\
(Worker_TP0 pid=1) INFO 11-22 18:45:34 [gpu_model_runner.py:5150] Model loading took 7.51 GiB memory and 3.2 seconds
(Worker_TP1 pid=2) INFO 11-22 18:45:34 [gpu_model_runner.py:5150] Model loading took 7.53 GiB memory and 3.1 seconds
(Worker_TP0 pid=1) INFO 11-22 18:45:50 [gpu_worker.py:760] Available KV cache memory: 9.4 GiB
(Worker_TP1 pid=2) INFO 11-22 18:45:50 [gpu_worker.py:760] Available KV cache memory: 9.25 GiB
(Worker_TP0 pid=1) INFO 11-22 18:45:59 [gpu_model_runner.py:6582] Graph capturing finished in 5 secs, took 0.31 GiB
"""  # noqa: E501 (lines of a log)


def test_a_log_is_read_rank_by_rank() -> None:
    found = read_measured(CASE, LOG.splitlines(), 1.0)
    assert found is not None
    assert found.weights_bytes == int(7.53 * GIB)
    assert found.pool_bytes == int(9.25 * GIB) and found.graphs_bytes == int(0.31 * GIB)
    old = read_measured(CASE, ["Model loading took 14.2487 GB and 3 seconds"], 1.0)
    assert old is not None and old.pool_bytes is None
    for nonsense in ("", "Model loading took 1.2.3 GiB", "Model loading took 99999999 GiB", "...."):
        assert read_measured(CASE, [nonsense], 1.0) is None


def test_the_store_keeps_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    store = MeasuredStore(path)
    assert store.find(CASE) is None
    for at in (1.0, 2.0):
        store.put(Measured(case=CASE, weights_bytes=int(at), at=at))
    again = MeasuredStore(path).find(CASE)
    assert again is not None and again.weights_bytes == 2
    path.write_bytes(b"[{")
    assert MeasuredStore(path).find(CASE) is None
    assert minor_release("0.32.0.post1+cpu") == "0.32"


def report(seen: Measured | None, **wishes: object) -> CheckReport:
    packages = tuple(Package(*p.split("==")) for p in ("vllm==0.32.1", "transformers==5.19.0"))
    place = Place(
        runtime=RuntimeStatus(name="gpu", packages=packages),
        seen=lambda case: seen if case == CASE else None,
    )
    return check(Known(subject(LLAMA, like=LLAMA)), CheckWishes(**wishes), place)  # type: ignore[arg-type]


def test_measured_beats_estimated() -> None:
    seen = Measured(case=CASE, weights_bytes=int(14.99 * GIB), pool_bytes=int(4.5 * GIB), at=1.0)
    found = report(seen, gpu="A10", max_tokens=32768).memory
    assert found is not None and found.measured and found.fits
    assert found.weights_bytes == seen.weights_bytes
    assert found.max_tokens_that_fit == 36864 - 16 and found.concurrency == pytest.approx(
        1.12, abs=0.01
    )
    assert [part.name for part in found.parts if part.measured] == ["weights", "overhead"]
    assert sum(part.likely_bytes for part in found.parts) == found.total_bytes_per_gpu
    small = report(msgspec.structs.replace(seen, pool_bytes=GIB), gpu="A10", max_tokens=32768)
    assert small.memory is not None and small.memory.fits is False
    assert any("left when it ran here" in f.message for f in small.findings)


def test_other_cases_stay_estimates() -> None:
    seen = Measured(case=CASE, weights_bytes=GIB, pool_bytes=GIB, at=1.0)
    others = ({"gpu": "L4"}, {"gpu": "A10", "gpus": 2}, {"gpu": "A10", "vllm_version": "0.9.2"})
    for wishes in others:
        found = report(seen, max_tokens=8192, **wishes).memory
        assert found is not None and not found.measured, wishes
    # With other batches the weights still hold, and the pool does not.
    batches = report(seen, gpu="A10", max_tokens=8192, max_num_seqs=4).memory
    assert batches is not None and batches.measured
    assert [part.name for part in batches.parts if part.measured] == ["weights"]


DRIVER = """#!/bin/sh
case "$*" in
  *memory*) echo "NVIDIA A10, 8.6, 23028, 500, 0" ;;
  *query*) echo "NVIDIA A10, 8.6" ;;
  *) echo "| NVIDIA-SMI 570.1  Driver Version: 570.1  CUDA Version: 12.8 |" ;;
esac
"""


async def test_a_server_that_becomes_ready_is_read(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = own_folders / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(DRIVER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    async with running_controller({"fake/hello": ()}) as running:
        status = await running.client.start_server("fake/hello")
        servers = running.core.servers
        await eventually(lambda: servers.get(status.id).phase is Phase.READY, "the server")
        version = minor_release(servers.get(status.id).engine_version or "")
        case = Case("fake/hello", "A10 24GB", 1, version)
        await eventually(
            lambda: running.core.checks.measured.find(case) is not None, "the log to be read"
        )

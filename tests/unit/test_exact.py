"""Asking the vLLM of a runtime: what it answers counts, and what goes wrong is said."""

from pathlib import Path

import pytest

from meshtui.domain.check import CheckReport, CheckWishes
from meshtui.domain.errors import Unavailable
from meshtui.domain.finding import Finding
from meshtui.domain.memory import GIB
from meshtui.domain.runtime import Package, RuntimeStatus
from meshtui.engines.check.case import Place
from meshtui.engines.check.known import Known
from meshtui.engines.check.verdict import check
from meshtui.engines.exact import ExactAnswer, ask_vllm
from meshtui.memory.gpus import gpus
from tests.controller_support import running_controller
from tests.support.models import write
from tests.support.subjects import subject

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def interpreter(folder: Path, script: str) -> Path:
    """A program in the place of a runtime's Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def asked(python: Path) -> ExactAnswer:
    return await ask_vllm(python, {"config.json": b"{}"}, gpus()["h100"], lengths=(100,))


async def test_the_answer_is_read(tmp_path: Path) -> None:
    said = '{"vllm_version": "0.32.0", "weights_bytes": 5, "request_bytes": {"100": 7}}'
    found = await asked(interpreter(tmp_path, f"cat > /dev/null; echo '{said}'"))
    assert (found.weights_bytes, found.request_bytes) == (5, {"100": 7})


async def test_it_sees_the_models_files_and_none_of_our_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    script = (
        f"cat > {tmp_path}/request; env > {tmp_path}/environment; "
        f"ls $HOME/model > {tmp_path}/files; echo '{{}}'"
    )
    await asked(interpreter(tmp_path, script))
    assert "hf_secret" not in (tmp_path / "environment").read_text()
    assert (tmp_path / "files").read_text().split() == ["config.json"]
    assert '"lengths":[100]' in (tmp_path / "request").read_text()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 1", "without an answer"),
        ("echo nonsense", "without an answer"),
        ('echo \'{"error": "ValueError: no\\u001b[2J", "stage": "model"}\'', "at the model"),
    ],
)
async def test_what_goes_wrong_is_said(tmp_path: Path, script: str, said: str) -> None:
    with pytest.raises(Unavailable, match=said) as refused:
        await asked(interpreter(tmp_path, script))
    assert refused.value.hint and "\x1b" not in str(refused.value)


def report(exact: ExactAnswer | Unavailable | None) -> CheckReport:
    runtime = RuntimeStatus(name="gpu", packages=(Package("vllm", "0.32.0"),))
    wishes = CheckWishes(gpu="H100", max_tokens=8192)
    return check(Known(subject(LLAMA, like=LLAMA)), wishes, Place(runtime=runtime, exact=exact))


def finding(of: CheckReport) -> Finding:
    return next(one for one in of.findings if one.rule == "exact")


def test_what_vllm_says_takes_the_place_of_the_estimate() -> None:
    answer = ExactAnswer(vllm_version="0.32.0", weights_bytes=15 * GIB, request_bytes={"8192": GIB})
    found = report(answer)
    assert found.memory is not None and found.memory.weights_bytes == 15 * GIB
    assert "classes of vLLM 0.32.0" in found.memory.parts[0].formula
    assert finding(found).level == "ok" and "15.00 GiB" in finding(found).message
    other = ExactAnswer(vllm_version="0.32.0", weights_bytes=GIB, request_bytes={"8192": 5})
    assert finding(report(other)).level == "warning"


def test_where_it_cannot_be_asked_the_estimate_stands() -> None:
    found = report(Unavailable("It is away.", hint="Wait."))
    assert finding(found).level == "warning" and found.memory is not None
    assert not any(one.rule == "exact" for one in report(None).findings)


async def test_a_runtime_that_is_not_built_cannot_be_asked(tmp_path: Path) -> None:
    model = write(tmp_path / "model", {"config.json": subject(like=LLAMA).texts["config.json"]})
    async with running_controller() as running:
        wishes = CheckWishes(runtime="gpu", gpu="H100", exact=True)
        found = await running.client.check(str(model), wishes)
        assert "is not built" in finding(found).message

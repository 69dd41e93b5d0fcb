"""The settings under which a model is deployed as it was checked."""

import pytest
from meshtui.screens.check.enabling import as_checked

from meshtui.domain.check import CheckReport, CheckWishes, Proposal, Verdict
from meshtui.domain.connection import EnabledModel
from meshtui.domain.task import Engine

MODEL = "Qwen/Qwen3-8B"
BOTH = Proposal(tool_call_parser="hermes", reasoning_parser="qwen3")


def deployed(proposal: Proposal | None, *arguments: str) -> tuple[str, ...]:
    report = CheckReport(model=MODEL, verdict=Verdict.RUNS, engine=Engine.VLLM, proposal=proposal)
    enabled = EnabledModel(model=MODEL, extra_engine_args=arguments)
    return as_checked(enabled, report, CheckWishes()).extra_engine_args


@pytest.mark.parametrize(
    ("arguments", "added"),
    [
        (
            (),
            ("--enable-auto-tool-choice", "--tool-call-parser", "hermes",
             "--reasoning-parser", "qwen3"),
        ),
        (("--tool-call-parser", "mine"), ("--reasoning-parser", "qwen3")),
        (("--tool-call-parser=mine", "--reasoning-parser=mine"), ()),
        (
            ("--enable-auto-tool-choice", "--reasoning-parser=mine"),
            ("--tool-call-parser", "hermes"),
        ),
    ],
)  # fmt: skip
def test_parsers_of_the_family_are_added_where_none_is_set(
    arguments: tuple[str, ...], added: tuple[str, ...]
) -> None:
    assert deployed(BOTH, *arguments) == (*arguments, *added)


def test_nothing_is_added_where_nothing_is_proposed() -> None:
    assert deployed(None, "--x") == ("--x",)
    assert deployed(Proposal(), "--x") == ("--x",)

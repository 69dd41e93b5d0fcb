"""Writing of settings: nothing is lost on the way, and nobody's change is written over."""

import errno
import os
import tempfile
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import Conflict, FileChanged, InvalidInput, NotFound, Unavailable
from meshtui.domain.generation import GenerationParameters
from meshtui.domain.task import EngineChoice, Task
from meshtui.settings import toml_file
from meshtui.settings.connections import Connections, faults
from meshtui.settings.toml_text import rewritten
from tests.support.mounts import mounted, needs_mounts, read_only

COMMENTED = """\
# Our lab's machines.
runtime = "gpu"  # with CUDA 13
colour = "red"

[properties]
# the old GPUs need it
"engine.completion" = "TRANSFORMERS"

# for the seminar
[[enabled_models]]
model = "a/b"
max_tokens = 7
later = true

# for everybody
[[enabled_models]]
model = "c/d"
"""


@pytest.fixture
def connections(tmp_path: Path) -> Connections:
    return Connections(tmp_path / "connections", lambda: 600.0)


def put(connections: Connections, text: str, name: str = "lab") -> Path:
    path = connections.path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    connections.refresh()
    return path


# Round trips

_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
_part = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_]{0,6}", fullmatch=True)
_generation = st.builds(
    GenerationParameters,
    max_tokens=st.none() | st.integers(1, 10**6),
    temperature=st.none() | st.floats(0, 100),
    top_p=st.none() | st.floats(0, 1, exclude_min=True),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    stop=st.lists(_text, max_size=3).map(tuple),
)
_enabled = st.builds(
    EnabledModel,
    model=st.tuples(_part, _part).map("/".join),
    task=st.sampled_from(Task),
    display_name=st.none() | _text,
    max_tokens=st.none() | st.integers(1, 10**6),
    quantization=st.none() | _text,
    tensor_parallel_size=st.integers(1, 64),
    engine=st.none() | st.sampled_from(EngineChoice),
    idle_timeout_s=st.sampled_from((0.0, 600.0, 1200.0)) | st.floats(0, 10**9),
    generation=_generation,
    extra_engine_args=st.lists(_text, max_size=3).map(tuple),
    engine_environment=st.dictionaries(_text, _text, max_size=3),
    trust_remote_code=st.booleans(),
)
_connections = st.builds(
    Connection,
    name=_part,
    runtime=st.none() | _text,
    access_token=st.none() | st.just("hf:default") | _part.map("file:{}".format),
    use_managed_cache=st.booleans(),
    enabled_models=st.lists(_enabled, max_size=4, unique_by=lambda one: one.model).map(tuple),
    properties=st.dictionaries(_text.map("x.{}".format), _text, max_size=3),
)


@settings(max_examples=30, deadline=None)
@given(first=_connections, second=_connections)
def test_any_valid_connection_survives_saving_also_over_any_other(
    first: Connection, second: Connection
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        connections = Connections(Path(folder), lambda: 600.0)
        second = msgspec.structs.replace(second, name=first.name)
        for connection in (first, second, first):
            connections.save(connection)
            assert connections.broken == ()
            assert connections.all[first.name] == connection


def test_comments_order_and_unknown_keys_stay(connections: Connections) -> None:
    path = put(connections, COMMENTED)
    lab = connections.all["lab"]
    first, second = lab.enabled_models
    changed = msgspec.structs.replace(
        lab,
        access_token="env:HF_TOKEN",
        enabled_models=(
            msgspec.structs.replace(first, max_tokens=9),
            msgspec.structs.replace(second, generation=GenerationParameters(seed=1)),
            EnabledModel(model="e/f", idle_timeout_s=600.0, extra_engine_args=("--x", "y")),
        ),
    )
    connections.save(changed)
    assert connections.all["lab"] == changed
    assert path.read_text() == COMMENTED.replace(
        'colour = "red"\n', 'colour = "red"\naccess_token = "env:HF_TOKEN"\n'
    ).replace("max_tokens = 7", "max_tokens = 9") + (
        "\n[enabled_models.generation]\nseed = 1\n"
        '\n[[enabled_models]]\nmodel = "e/f"\nextra_engine_args = ["--x", "y"]\n'
    )


def test_a_model_that_goes_takes_its_own_comment_with_it(connections: Connections) -> None:
    path = put(connections, COMMENTED)
    lab = connections.all["lab"]
    connections.save(msgspec.structs.replace(lab, enabled_models=lab.enabled_models[:1]))
    text = path.read_text()
    assert "for everybody" not in text and "for the seminar" in text and "later = true" in text


@pytest.mark.parametrize("data", [{}, {"a": 1}, {"a": {"b": [{"name": "x"}]}}, {"a": [[1], []]}])
@pytest.mark.parametrize("text", ["", "a = 1\n", "a.b = 2\n", "[[a]]\nb = 1\n[a.c]\n", "[a]\r\n"])
def test_whatever_stood_there_the_text_holds_what_it_is_told(
    text: str, data: dict[str, object]
) -> None:
    assert tomllib.loads(rewritten(text, data)) == data


def test_unknown_keys_in_what_is_at_its_defaults_now_stay(connections: Connections) -> None:
    put(connections, '[[enabled_models]]\nmodel = "a/b"\ngeneration = { min_p = 0.1, seed = 3 }\n')
    lab = connections.all["lab"]
    plain = msgspec.structs.replace(lab.enabled_models[0], generation=GenerationParameters())
    connections.save(msgspec.structs.replace(lab, enabled_models=(plain,)))
    data = toml_file.read(connections.path("lab")).data
    assert data["enabled_models"][0]["generation"] == {"min_p": 0.1}


def test_the_usual_idle_timeout_is_not_written_and_another_one_is(connections: Connections) -> None:
    models = tuple(
        EnabledModel(model=f"a/{name}", idle_timeout_s=timeout_s)
        for name, timeout_s in (("usual", 600.0), ("shipped", 1200.0), ("never", 0.0))
    )
    connections.save(Connection(name="lab", enabled_models=models))
    written = toml_file.read(connections.path("lab")).data["enabled_models"]
    assert [one.get("idle_timeout_s") for one in written] == [None, 1200.0, 0.0]
    assert connections.all["lab"].enabled_models == models


# Two who change the same file


def test_the_second_of_two_editors_is_told_and_nothing_is_written(connections: Connections) -> None:
    path = put(connections, COMMENTED)
    seen = connections.revision("lab")
    lab = connections.all["lab"]
    connections.save(msgspec.structs.replace(lab, runtime="cpu"), over=seen)
    before = path.read_text()
    with pytest.raises(FileChanged, match="changed by somebody else"):
        connections.save(msgspec.structs.replace(lab, runtime=None), over=seen)
    with pytest.raises(FileChanged):
        connections.delete("lab", over=seen)
    with pytest.raises(FileChanged):
        connections.rename("lab", "other", over=seen)
    assert path.read_text() == before
    connections.delete("lab", over=connections.revision("lab"))
    with pytest.raises(FileChanged, match="deleted by somebody else"):
        connections.save(lab, over=seen)


def test_a_new_connection_replaces_none(connections: Connections) -> None:
    put(connections, COMMENTED)
    with pytest.raises(Conflict, match="already"):
        connections.save(Connection(name="lab"), over=None)
    connections.save(Connection(name="new"), over=None)
    assert "new" in connections.all


def test_saving_twice_within_a_tick_of_the_clock_is_seen(connections: Connections) -> None:
    for runtime in ("aaa", "bbb", "ccc", "ddd"):
        connections.save(Connection(name="lab", runtime=runtime))
        assert connections.all["lab"].runtime == runtime


# Other names


def test_a_rename_takes_everything_along(connections: Connections) -> None:
    path = put(connections, f'name = "lab"\n{COMMENTED}')
    connections.rename("lab", "seminar")
    assert not path.exists()
    assert connections.path("seminar").read_text() == COMMENTED
    assert [*connections.all] == ["local", "seminar"]
    put(connections, "", "lab")
    with pytest.raises(Conflict, match="already"):
        connections.rename("seminar", "lab")
    with pytest.raises(InvalidInput, match="cannot be a name"):
        connections.rename("seminar", "../x")
    with pytest.raises(NotFound):
        connections.rename("nothing", "x")


def test_a_copy_has_the_comments_and_unknown_keys_too(connections: Connections) -> None:
    put(connections, COMMENTED)
    connections.duplicate("lab", "copy")
    assert connections.path("copy").read_text() == COMMENTED
    connections.duplicate("local", "mine")
    assert connections.all["mine"].enabled_models == connections.all["local"].enabled_models
    with pytest.raises(Conflict):
        connections.duplicate("lab", "mine")
    with pytest.raises(NotFound):
        connections.duplicate("nothing", "x")


# Folders and files that refuse


@needs_mounts
def test_a_read_only_folder_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    with mounted(tmp_path / "config", "-t", "tmpfs", "tmpfs") as place:
        connections = Connections(place, lambda: 600.0)
        connections.save(Connection(name="lab", runtime="gpu"))
        with read_only(place):
            for refused in (
                lambda: connections.save(Connection(name="lab")),
                lambda: connections.save(Connection(name="new")),
                lambda: connections.delete("lab"),
                lambda: connections.rename("lab", "new"),
            ):
                with pytest.raises(Unavailable, match=os.strerror(errno.EROFS)) as caught:
                    refused()
                assert "XDG_CONFIG_HOME" in str(caught.value.hint)
        assert connections.all["lab"].runtime == "gpu"


def test_a_file_that_a_team_can_read_stays_so(connections: Connections) -> None:
    path = put(connections, COMMENTED)
    path.chmod(0o640)
    connections.save(Connection(name="lab"))
    assert path.stat().st_mode & 0o777 == 0o640


def test_half_a_character_is_refused(connections: Connections) -> None:
    with pytest.raises(InvalidInput, match="half of a character"):
        connections.save(Connection(name="lab", properties={"a": "\ud800"}))
    assert not connections.path("lab").exists()


# What is wrong


def test_every_fault_is_told_not_only_the_first() -> None:
    connection = Connection(
        name="lab",
        execution="moon",
        access_token="hf_abcdefgh",
        enabled_models=(
            EnabledModel(model="no name", max_tokens=0),
            EnabledModel(model="a/b", tensor_parallel_size=0),
        ),
    )
    found = [*faults(connection)]
    assert [fault.at for fault in found] == [
        ("execution",),
        ("access_token",),
        ("enabled_models", 0, "model"),
        ("enabled_models", 0, "max_tokens"),
        ("enabled_models", 1, "tensor_parallel_size"),
    ]
    assert "hf_abc" not in "".join(fault.reason for fault in found)

"""Files of settings: read with the line of what is wrong, rewritten without losing anything."""

import os
from pathlib import Path

import msgspec
import pytest

from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import BrokenFile, InvalidInput, NotFound, Unavailable
from meshtui.domain.generation import GenerationParameters
from meshtui.domain.runtime import RuntimeDefinition
from meshtui.domain.task import EngineChoice
from meshtui.settings import toml_file
from meshtui.settings.connections import Connections
from meshtui.settings.objects import ObjectFolder
from meshtui.settings.store import Settings

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture
def connections(tmp_path: Path) -> Connections:
    return Connections(tmp_path / "connections", lambda: 600.0)


def write(connections: Connections, text: str, name: str = "lab", tmp: Path | None = None) -> Path:
    folder = connections._own.folder
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.toml"
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    # Two writes within one tick of the file system's clock, as no person does it.
    os.utime(path, ns=(before + 1_000_000, max(path.stat().st_mtime_ns, before + 1_000_000)))
    connections.refresh()
    return path


def test_a_first_start_has_the_local_connection_with_a_small_model(
    connections: Connections,
) -> None:
    connections.refresh()
    local = connections.all["local"]
    (model,) = local.enabled_models
    assert (local.execution, model.model, model.max_tokens) == ("local", SMOL, 8192)
    assert (model.generation.temperature, model.generation.max_tokens) == (0.0, 1024)
    assert model.idle_timeout_s == 600.0  # the user's default, as none is named
    assert connections.broken == ()
    assert not connections._own.folder.exists()


def test_the_users_file_stands_for_the_whole_shipped_connection(connections: Connections) -> None:
    path = write(connections, 'access_token = "env:HF_TOKEN"', name="local")
    assert connections.all["local"].enabled_models == ()
    path.unlink()
    assert connections.refresh()
    assert connections.all["local"].enabled_models[0].model == SMOL


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a = 1\nb = = 2\n", 2, "Invalid value"),
        ('[[enabled_models]]\nmodel = "a/b"\n[[enabled_models]]\nmodel = "c/d"\nmax_tokens = "x"\n',
         5, "enabled_models[2].max_tokens: Expected int | null, got str"),
        ("runtime = 3\n", 1, "runtime: Expected str | null, got int"),
        ("\n[properties]\n'engine.completion' = 'OLLAMA'\n", 3, "must be one of AUTO, VLLM"),
        ('[[enabled_models]]\nmodel = "a/../b"\n', 2, "is not a model name"),
        ('[[enabled_models]]\nmodel = "a/b"\n[[enabled_models]]\nmodel = "a/b"\n', 4, "twice"),
        ('[[enabled_models]]\nmodel = "a/b"\n[enabled_models.generation]\ntop_p = 7\n', 4, "top_p"),
        ('[[enabled_models]]\nmodel = "a/b"\nidle_timeout_s = nan\n', 3, "must be seconds"),
        ('[[enabled_models]]\ntask = "text-generation"\n', 1, "missing required field model"),
        ('name = "other"\n', 1, "the file's name is the object's name"),
        ('execution = "moon"\n', 1, "no such execution config"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_told_with_its_line(
    connections: Connections, text: str, line: int, reason: str
) -> None:
    path = write(connections, text)
    (broken,) = connections.broken
    assert (broken.path, broken.line) == (str(path), line)
    assert reason in broken.reason
    assert "lab" not in connections.all


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'x = "\xe9"', b"a" * 5_000_000, b"[" * 9000])
def test_files_that_are_no_toml_at_all_are_broken_objects(
    connections: Connections, content: bytes
) -> None:
    write(connections, "").write_bytes(content)
    connections.refresh()
    assert len(connections.broken) == 1


def test_a_token_pasted_for_a_reference_is_not_repeated(connections: Connections) -> None:
    write(connections, 'access_token = "hf_abcdefghijklmnop"')
    (broken,) = connections.broken
    assert "hf_abc" not in broken.reason
    assert "env:NAME" in broken.reason


def test_the_last_good_version_stays_in_force_and_the_file_is_not_written_over(
    connections: Connections,
) -> None:
    path = write(connections, 'runtime = "gpu"')
    write(connections, 'runtime = "gpu')
    assert connections.all["lab"].runtime == "gpu"
    assert connections.broken[0].line == 1
    with pytest.raises(BrokenFile, match="not written over"):
        connections.save(Connection(name="lab"))
    assert path.read_text() == 'runtime = "gpu'
    write(connections, 'runtime = "cpu"')
    assert connections.broken == ()
    assert connections.all["lab"].runtime == "cpu"


def test_keys_that_we_do_not_know_survive_a_rewrite(connections: Connections) -> None:
    path = write(
        connections,
        'colour = "red"\nruntime = "gpu"\n[later]\nx = 1\n'
        '[[enabled_models]]\nmodel = "a/b"\nspeculative = true\nmax_tokens = 7\n'
        "[enabled_models.generation]\nmin_p = 0.1\nseed = 1\n"
        '[[enabled_models]]\nmodel = "c/d"\nnote = "mine"\n',
    )
    lab = connections.all["lab"]
    first, second = lab.enabled_models
    first = msgspec.structs.replace(
        first, max_tokens=None, generation=GenerationParameters(temperature=0.5)
    )
    connections.save(msgspec.structs.replace(lab, runtime=None, enabled_models=(second, first)))
    data = toml_file.read(path).data
    assert data["colour"] == "red"
    assert data["later"] == {"x": 1}
    assert "runtime" not in data
    there, here = data["enabled_models"]
    assert there["note"] == "mine"
    assert here["speculative"] is True
    assert "max_tokens" not in here
    assert here["generation"] == {"min_p": 0.1, "temperature": 0.5}
    assert connections.all["lab"].enabled_models[0].model == "c/d"


def test_any_connection_survives_saving(connections: Connections) -> None:
    connection = Connection(
        name="lab.2",
        runtime="cpu",
        access_token="file:~/token",
        use_managed_cache=False,
        enabled_models=(
            EnabledModel(
                model="a/b@main",
                display_name='ünïcode "quoted" [bold]',
                engine=EngineChoice.TRANSFORMERS,
                extra_engine_args=("--x", "y z"),
                engine_environment={"A.B": "c"},
                generation=GenerationParameters(stop=("\n", "\x07"), seed=2**40),
            ),
        ),
        properties={"engine.completion": "vllm", "other key": "kept"},
    )
    connections.save(connection)
    assert connections.all["lab.2"] == connection
    connections.delete("lab.2")
    assert "lab.2" not in connections.all
    with pytest.raises(NotFound):
        connections.delete("lab.2")


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "a/b", "x" * 80, "a b", "a."])
def test_names_that_are_no_file_names_are_refused(connections: Connections, name: str) -> None:
    with pytest.raises(InvalidInput):
        connections.save(Connection(name=name))


def test_invalid_objects_are_not_saved(connections: Connections) -> None:
    with pytest.raises(InvalidInput, match="no such execution"):
        connections.save(Connection(name="lab", execution="moon"))
    assert not connections._own.folder.exists()


def test_a_link_stays_a_link_and_the_file_is_replaced_as_a_whole(
    connections: Connections, tmp_path: Path
) -> None:
    dotfiles = tmp_path / "dotfiles.toml"
    dotfiles.write_text("")
    connections._own.folder.mkdir()
    (connections._own.folder / "lab.toml").symlink_to(dotfiles)
    connections.save(Connection(name="lab", runtime="gpu"))
    assert (connections._own.folder / "lab.toml").is_symlink()
    assert "gpu" in dotfiles.read_text()
    assert [p.name for p in connections._own.folder.iterdir()] == ["lab.toml"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("")
    folder = ObjectFolder(tmp_path / "in-the-way", Connection)
    with pytest.raises(Unavailable, match="could not be written"):
        folder.save("lab", Connection(name="lab"))


def test_nothing_is_read_again_while_nothing_changes(connections: Connections) -> None:
    write(connections, 'runtime = "gpu"')
    before = connections.all["lab"]
    assert not connections.refresh()
    assert connections.all["lab"] is before


def test_a_runtime_file_changes_a_shipped_definition_key_by_key(tmp_path: Path) -> None:
    shipped = {"cpu": RuntimeDefinition(name="cpu", requirements=("torch",), disk_bytes=5)}
    settings = Settings(tmp_path, shipped)
    (tmp_path / "runtimes").mkdir()
    (tmp_path / "runtimes" / "cpu.toml").write_text('index_url = "https://mirror/simple"')
    (tmp_path / "runtimes" / "own.toml").write_text('requirements = ["vllm"]')
    assert settings.refresh()
    assert settings.runtime_definitions["cpu"].requirements == ("torch",)
    assert settings.runtime_definitions["cpu"].index_url == "https://mirror/simple"
    assert settings.runtime_definitions["own"].requirements == ("vllm",)


def test_config_toml_is_read_checked_and_followed(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    settings.refresh()
    assert settings.config.servers.idle_timeout_s == 1200
    config = tmp_path / "config.toml"
    config.write_text("[servers]\nidle_timeout_s = 60\n[endpoint]\non = true\nport = 9000\n")
    assert settings.refresh()
    assert (settings.config.endpoint.on, settings.config.endpoint.port) == (True, 9000)
    assert settings.connections.all["local"].enabled_models[0].idle_timeout_s == 60
    config.write_text("[servers]\nidle_timeout_s = 60\n[endpoint]\nport = 900000\n")
    settings.refresh()
    (broken,) = settings.broken
    assert (broken.line, broken.path) == (4, str(config))
    assert settings.config.endpoint.port == 9000
    config.unlink()
    settings.refresh()
    assert settings.broken == ()
    assert settings.config.endpoint.port is None


def test_what_the_machine_settles_counts_and_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "etc.toml"
    monkeypatch.setenv("MESHTUI_SYSTEM_CONFIG", str(system))
    (tmp_path / "config.toml").write_text(
        '[servers]\nidle_timeout_s = 60\n[users]\nadmins = ["me"]\n[endpoint]\non = true\n'
    )
    settings = Settings(tmp_path)
    settings.refresh()
    assert (settings.config.users.admins, settings.locked) == (("me",), ())
    system.write_text('[users]\nadmins = ["root", "ana"]\n[endpoint]\nport = 9000\n')
    assert settings.refresh()
    assert settings.config.users.admins == ("root", "ana")
    assert settings.config.servers.idle_timeout_s == 60
    assert (settings.config.endpoint.on, settings.config.endpoint.port) == (True, 9000)
    assert settings.locked == ("endpoint.port", "users.admins")
    system.write_text("[users]\nadmins = 7 # oh\n")
    assert settings.refresh()
    (broken,) = settings.broken
    assert (broken.path, broken.line) == (str(system), 2)
    assert settings.config.users.admins == ("root", "ana")
    system.unlink()
    settings.refresh()
    assert (settings.config.users.admins, settings.broken) == (("me",), ())

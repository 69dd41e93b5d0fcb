"""Execution configs for clusters: what a file may say, and where it is wrong."""

from pathlib import Path

import msgspec
import pytest

from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.execution import KubernetesExecution, Storage, Toleration
from meshtui.settings.executions import Executions
from meshtui.settings.store import Settings

FULL = """\
kind = "kubernetes"
context = "prod"
namespace = "models"
gpus = 2
node_selector = { "nvidia.com/gpu.product" = "NVIDIA-A100-SXM4-80GB" }
image_pull_secrets = ["registry"]
note = "asked for by the vision team"

[[tolerations]]
key = "team"
value = "vision"
effect = "NoSchedule"

[storage]
claim = "weights"
size = "500Gi"
tier = "gold"
"""


@pytest.fixture
def executions(tmp_path: Path) -> Executions:
    return Executions(tmp_path / "execution")


def write(executions: Executions, text: str, name: str = "gpu") -> Path:
    executions.folder.mkdir(exist_ok=True)
    path = executions.folder / f"{name}.toml"
    path.write_text(text)
    executions.refresh()
    return path


def test_a_file_becomes_an_execution_config(executions: Executions) -> None:
    write(executions, FULL)
    found = executions.find("gpu")
    assert (found.context, found.namespace, found.gpus) == ("prod", "models", 2)
    assert found.storage == Storage(claim="weights", size="500Gi")
    assert found.tolerations == (Toleration(key="team", value="vision", effect="NoSchedule"),)
    assert executions.broken == ()


def test_nothing_but_gpus_is_asked_for_by_default() -> None:
    plain = KubernetesExecution(name="gpu")
    assert plain.gpus == 1 and plain.warnings == ()
    assert all(getattr(plain.resources, key) is None for key in plain.resources.__struct_fields__)


def test_keys_that_we_do_not_know_survive_a_rewrite(executions: Executions) -> None:
    path = write(executions, FULL)
    executions.save("gpu", msgspec.structs.replace(executions.find("gpu"), gpus=4))
    text = path.read_text()
    assert 'kind = "kubernetes"' in text and "gpus = 4" in text
    assert "asked for by the vision team" in text and 'tier = "gold"' in text


def test_an_odd_number_of_gpus_is_warned_of(executions: Executions) -> None:
    write(executions, 'kind = "kubernetes"\ngpus = 3\n')
    (warning,) = executions.find("gpu").warnings
    assert "1, 2, 4, 8" in warning


@pytest.mark.parametrize(
    ("line", "number", "reason"),
    [
        ('kind = "moon"', 1, "kind"),
        ("gpus = 0", 1, "gpus: must be at least 1"),
        ('namespace = "My Models"', 1, "namespace: is not a namespace"),
        ('shared_memory = "lots"', 1, "shared_memory: is not a quantity"),
        ('labels = { "meshtui.io/x" = "1" }', 1, "is set by meshtui itself"),
        ('node_selector = { "a/b/c" = "1" }', 1, "is not a label's prefix"),
        ('environment = { HF_TOKEN = "x" }', 1, "looks like a secret"),
        ('[proxy]\nhttps = "http://me:pw@proxy:80"', 2, "holds a password"),
        ('[[tolerations]]\nvalue = "x"', 1, "needs a key"),
        ('[resources]\ncpu_limit = "many"', 2, "resources.cpu_limit: is not a quantity"),
        ('[storage]\nsize = "big"', 2, "storage.size: is not a quantity"),
        ("gpus = ", 1, "Invalid value"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    executions: Executions, line: str, number: int, reason: str
) -> None:
    write(executions, f"{line}\n")
    (broken,) = executions.broken
    assert reason in broken.reason and broken.line == number
    assert "pw" not in broken.reason
    with pytest.raises(NotFound, match="There is no execution config 'gpu'") as error:
        executions.find("gpu")
    assert reason in (error.value.hint or "")


def test_what_a_cluster_would_refuse_is_not_saved(executions: Executions) -> None:
    with pytest.raises(InvalidInput, match="must be at least 1"):
        executions.save("gpu", KubernetesExecution(name="gpu", gpus=0))
    assert not executions.folder.exists()


def test_a_connection_may_name_an_execution_config_that_is_there(tmp_path: Path) -> None:
    connections = tmp_path / "connections"
    connections.mkdir()
    (connections / "cloud.toml").write_text('execution = "gpu"\n')
    settings = Settings(tmp_path)
    settings.refresh()
    (broken,) = settings.broken
    assert "no such execution config (there is: local)" in broken.reason
    settings.executions.folder.mkdir()
    (settings.executions.folder / "gpu.toml").write_text('kind = "kubernetes"\n')
    assert settings.refresh() and settings.broken == ()
    assert settings.connections.all["cloud"].execution == "gpu"

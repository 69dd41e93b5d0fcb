"""Manifests and roles on the command line: nobody is asked, neither controller nor cluster."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

MESHTUI = str(Path(sys.executable).parent / "meshtui")
TOKEN = "hf_nobody-may-see-this"
CONNECTION = """\
execution = "gpu"
access_token = "env:CLOUD_TOKEN"

[[enabled_models]]
model = "org/tiny"
"""


@pytest.fixture(autouse=True)
def settings(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLOUD_TOKEN", TOKEN)
    folder = own_folders / "config" / "meshtui"
    for kind, text in {
        "connections/cloud": CONNECTION,
        "execution/gpu": 'kind = "kubernetes"\nnamespace = "models"\ngpus = 3\n[storage]\n',
        "execution/small": 'kind = "kubernetes"\nnamespace = "small"\n',
    }.items():
        path = folder / f"{kind}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def meshtui(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([MESHTUI, *words], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    return done


def objects(*words: str) -> list[Any]:
    done = meshtui(*words)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def kinds(found: list[Any]) -> list[str]:
    return [one["kind"] for one in found]


def test_a_manifest_holds_no_secret_unless_it_is_asked_for(own_folders: Path) -> None:
    done = meshtui("server", "manifest", "org/tiny")
    found = list(yaml.safe_load_all(done.stdout))
    assert kinds(found) == ["PersistentVolumeClaim", "Deployment", "Service"]
    assert {one["metadata"]["namespace"] for one in found} == {"models"}
    assert "3 GPUs" in done.stderr and "kubectl -n models create secret" in done.stderr
    assert "apply what --fetch-job prints first" in done.stderr
    assert TOKEN not in done.stdout + done.stderr

    found = objects("server", "manifest", "org/tiny", "--with-secret")
    assert kinds(found)[-1] == "Secret"
    assert set(found[-1]["data"]) == {"api-key", "hf-token"}
    assert not (own_folders / "run" / "meshtui" / "controller.sock").exists()


def test_the_job_is_printed_where_there_is_a_volume() -> None:
    assert kinds(objects("server", "manifest", "org/tiny", "--fetch-job")) == ["Job"]
    refused = meshtui("server", "manifest", "org/tiny", "--fetch-job", "--execution", "small")
    assert refused.returncode == 2 and "[storage]" in refused.stderr


def test_json_is_a_list_of_the_same_objects() -> None:
    done = meshtui("server", "manifest", "org/tiny", "--execution", "small", "--json")
    assert kinds(json.loads(done.stdout)) == ["Deployment", "Service"]


def test_what_is_not_there_is_named(settings: Path) -> None:
    local = meshtui("server", "manifest", "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert local.returncode == 2
    assert "not on a cluster" in local.stderr and "gpu, small" in local.stderr
    missing = meshtui("server", "manifest", "org/tiny", "--execution", "moon")
    assert "There are: local, gpu, small." in missing.stderr
    (settings / "execution" / "gpu.toml").write_text('kind = "kubernetes"\ngpus = 0\n')
    broken = meshtui("server", "manifest", "org/tiny", "--connection", "cloud")
    assert "line 2" in broken.stderr and "must be at least 1" in broken.stderr


def test_the_role_is_for_one_namespace_and_can_be_bound() -> None:
    (role,) = objects("connection", "rbac", "cloud")
    assert role["kind"] == "Role" and role["metadata"]["namespace"] == "models"
    allowed = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert {"deployments", "pods/portforward", "secrets", "events"} <= allowed
    assert "nodes" not in allowed and "*" not in allowed
    _, binding = objects("connection", "rbac", "small", "--user", "me@example.com")
    assert binding["subjects"][0]["name"] == "me@example.com"
    assert binding["metadata"]["namespace"] == "small"

"""The wheel holds all that the program needs, and opens from an environment of its own."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.layout import REPOSITORY
from tests.terminal import Terminal


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--installer", "uv", "--outdir", str(out), "."],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        timeout=300,
    )
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and what it depends on."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, wheel],
        check=True,
        timeout=300,
    )
    return python


def test_top_level_folders_are_installed_inside_the_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"meshtui"}
    for source in ("meshtui", "screens", "themes", "config"):
        for path in (REPOSITORY / source).rglob("*"):
            if path.suffix in {".py", ".toml", ".json", ".tcss", ".md"}:
                inside = path.relative_to(REPOSITORY).as_posix()
                assert (inside if source == "meshtui" else f"meshtui/{inside}") in names


def test_the_installed_workstation_opens(installed: Path, tmp_path: Path) -> None:
    with Terminal([str(installed.parent / "meshtui")], cwd=tmp_path) as terminal:
        terminal.wait_for("Studio")
        terminal.wait_for("SmolLM2-135M-Instruct")
        terminal.type("\x11")  # ctrl+q
        assert terminal.wait_for_exit() == 0
    stop_controller(installed)


def test_the_installed_command_says_its_version(installed: Path) -> None:
    done = subprocess.run(
        [installed.parent / "meshtui", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("meshtui ")


def stop_controller(python: Path) -> None:
    subprocess.run(
        [python, "-m", "meshtui", "controller", "stop"],
        env=dict(os.environ),
        check=True,
        capture_output=True,
        timeout=30,
    )

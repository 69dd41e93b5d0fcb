"""The code keeps its own rules: layers, types, style."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.layout import REPOSITORY, make_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("layout") / "tree")


def run(*command: str, cwd: Path, path: Path | None = None) -> None:
    environment = dict(os.environ, PYTHONPATH=str(path or ""), MYPYPATH="")
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_imports_only_parts_above_it(tree: Path) -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    run(
        str(linter),
        "--config",
        str(REPOSITORY / "pyproject.toml"),
        "--no-cache",
        cwd=tree,
        path=tree,
    )


def test_types_hold(tree: Path) -> None:
    cache = REPOSITORY / ".mypy_cache"
    config = str(REPOSITORY / "pyproject.toml")
    run(
        *(sys.executable, "-m", "mypy", "--config-file", config, "--cache-dir", str(cache)),
        *("-p", "meshtui"),
        cwd=tree,
    )


def test_style_holds() -> None:
    run(sys.executable, "-m", "ruff", "check", ".", cwd=REPOSITORY)
    run(sys.executable, "-m", "ruff", "format", "--check", ".", cwd=REPOSITORY)

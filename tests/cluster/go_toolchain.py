"""A Go that is new enough for today's Kubernetes: the machine's, or one that an older Go fetches.

Toolchains are Go modules, fetched and checked as every other module. Go 1.21 and newer take the one
that a go.mod asks for by themselves, where they may; older ones (Debian 12 has 1.19) are told to.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

_NEEDED = (1, 24)
_FETCHED = "1.24.11"
_FOLDER = Path(__file__).resolve().parent
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_FETCH_TIMEOUT_S = 900.0
# Read before any test gets a home of its own: Go keeps its caches there.
_ENVIRONMENT = {**os.environ, "CGO_ENABLED": "0"}
HOW = "install Go (Debian's package golang-go is enough)"


class NoGo(Exception):
    """There is no Go that can build the programs; the message says why."""


class Go(msgspec.Struct, frozen=True):
    program: str
    environment: Mapping[str, str]

    def build(self, target: Path, package: str, *options: str, timeout_s: float) -> None:
        """Compiles a package of the module beside this file. Raises `NoGo` with what Go said."""
        temporary = target.with_name(f".{target.name}.new")
        done = subprocess.run(
            [self.program, "build", "-trimpath", *options, "-o", temporary, package],
            cwd=_FOLDER,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode != 0:
            raise NoGo(f"{target.name} could not be built: {done.stderr[-2000:]}")
        temporary.rename(target)


@functools.cache
def go() -> Go:
    """Raises `NoGo`."""
    program = shutil.which("go", path=_ENVIRONMENT.get("PATH"))
    if program is None:
        raise NoGo(f"there is no Go to build it: {HOW}")
    if _version(program) >= _NEEDED:
        return Go(program, _ENVIRONMENT)
    environment = {**_ENVIRONMENT, "GOTOOLCHAIN": "local"}
    environment.pop("GOROOT", None)
    return Go(_fetched(program, environment), environment)


def _version(program: str) -> tuple[int, ...]:
    done = subprocess.run(
        [program, "version"],
        cwd=_FOLDER,
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=_FETCH_TIMEOUT_S,
    )
    found = re.search(r"\bgo(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0,)


def _fetched(program: str, environment: Mapping[str, str]) -> str:
    """The `go` of a newer toolchain, which the older one keeps among its modules."""
    architecture = _ARCHITECTURES[os.uname().machine]
    module = f"golang.org/toolchain@v0.0.1-go{_FETCHED}.linux-{architecture}"
    with tempfile.TemporaryDirectory() as nowhere:  # outside of a module: what it asks for is new
        done = subprocess.run(
            [program, "mod", "download", "-json", module],
            cwd=nowhere,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_FETCH_TIMEOUT_S,
        )
    if done.returncode != 0:
        raise NoGo(f"Go {_FETCHED} could not be fetched: {done.stdout[-500:]}{done.stderr[-500:]}")
    folder = Path(json.loads(done.stdout)["Dir"])
    # Modules hold no programs, so these came without the right to be run.
    for programs in (folder / "bin", folder / "pkg" / "tool"):
        for file in programs.rglob("*"):
            if file.is_file():
                file.chmod(0o755)
    return str(folder / "bin" / "go")

"""The programs of a Kubernetes control plane: found where envtest looks, or built from source."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import msgspec

from tests.conftest import TEST_CACHE

KUBERNETES_VERSION = "1.34.4"
_MODULE = Path(__file__).resolve().parent
_BUILT = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
# Read before any test gets a home of its own: the Go toolchain keeps its caches there.
_ENVIRONMENT = dict(os.environ)
_BUILD_TIMEOUT_S = 3000.0


class Missing(Exception):
    """A program that is neither here nor can be built; the message says how to get it."""


class Binaries(msgspec.Struct, frozen=True, kw_only=True):
    etcd: Path
    apiserver: Path
    controller_manager: Path
    scheduler: Path


def find() -> Binaries:
    """Where the programs are, built first where that is possible. Raises `Missing`."""
    return Binaries(
        etcd=_found("etcd"),
        apiserver=_found("kube-apiserver"),
        controller_manager=_found("kube-controller-manager"),
        scheduler=_found("kube-scheduler"),
    )


def kubelet() -> Path:
    """The node agent; raises `Missing`."""
    return _found("kubelet")


def go_program(folder: str) -> Path:
    """A small program of the tests' own, compiled from the folder of that name beside this file."""
    go = shutil.which("go")
    if go is None:
        raise Missing(f"{folder} cannot be built without a Go toolchain: install Go 1.24 or newer.")
    target = TEST_CACHE / "programs" / folder
    target.parent.mkdir(parents=True, exist_ok=True)
    _compile(go, target, f"./{folder}", "-s -w")  # some tenths of a second where nothing changed
    return target


def _found(name: str) -> Path:
    folders = [TEST_CACHE / f"kubernetes-{KUBERNETES_VERSION}"]
    if assets := _ENVIRONMENT.get("KUBEBUILDER_ASSETS"):
        folders.insert(0, Path(assets))
    for folder in folders:
        if os.access(folder / name, os.X_OK):
            return folder / name
    if on_path := shutil.which(name):
        return Path(on_path)
    if name in _BUILT:
        return _build(name, folders[-1])
    raise Missing(
        f"{name} is not installed: install Debian's package etcd-server, or let KUBEBUILDER_ASSETS "
        "name a folder with it."
    )


def _build(name: str, folder: Path) -> Path:
    """Compiles one program from the module beside this file. All four take some ten minutes on
    two cores the first time."""
    go = shutil.which("go")
    if go is None:
        raise Missing(
            f"{name} is not here, and no Go toolchain to build it: install Go 1.24 or newer, let "
            "KUBEBUILDER_ASSETS name a folder with it, or MESHTUI_TEST_CONTEXT a cluster."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may need it at the same time
        if os.access(folder / name, os.X_OK):
            return folder / name
        _, minor, _ = KUBERNETES_VERSION.split(".")
        version = "k8s.io/component-base/version"
        flags = (
            f"-s -w -X {version}.gitVersion=v{KUBERNETES_VERSION} "
            f"-X {version}.gitMajor=1 -X {version}.gitMinor={minor}"
        )
        _compile(go, folder / name, f"k8s.io/kubernetes/cmd/{name}", flags)
        return folder / name


def _compile(go: str, target: Path, package: str, flags: str) -> None:
    temporary = target.with_name(f".{target.name}.new")
    done = subprocess.run(
        [go, "build", "-trimpath", "-ldflags", flags, "-o", temporary, package],
        cwd=_MODULE,
        env={**_ENVIRONMENT, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=_BUILD_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise Missing(f"{target.name} could not be built: {done.stderr[-2000:]}")
    temporary.rename(target)
